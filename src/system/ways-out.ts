/** What a message tells its reader to do, by the kind of system: who installs, enables and mounts there. */
import { Failure } from '../failure.ts';
import { type Configuration, configurationOf } from './configuration.ts';
import { pathsUnder } from './paths.ts';
import { commandLine } from './shell.ts';

/** Programs and libraries that messages name. */
type Missing = 'auxcred' | 'node' | 'libtss2' | 'libcrypt' | 'age' | 'ssh' | 'git';

/** The ways out that differ by system. Each is a command, as it is typed. */
export interface WaysOut {
  /** Installs what is missing. */
  install(what: Missing): string;
  /** Activates a changed manifest. */
  readonly apply: string;
  /** Has a unit of auxcred's start at boot, and starts it. */
  enable(unit: string): string;
  /** Makes the user and the group of the broker. */
  account(root: string): string;
  /** What to do about a file on a read-only mount. */
  readOnly(path: string, mount: string): string;
}

const packages: Readonly<Record<Missing, string>> = {
  auxcred: 'apt install --reinstall auxcred',
  node: 'apt install nodejs',
  libtss2: 'apt install libtss2-esys-3.0.2-0 libtss2-tctildr0',
  libcrypt: 'apt install libcrypt1',
  age: 'apt install age',
  ssh: 'apt install openssh-client',
  git: 'apt install git',
};

const readOnlyDisk = (mount: string): string =>
  `mount -o remount,rw ${mount}, then run it again; journalctl -k says whether errors made the kernel do this`;

const ordinary: WaysOut = {
  install: (what) => packages[what],
  apply: 'auxcred apply',
  enable: (unit) => commandLine('systemctl', 'enable', '--now', unit),
  account: (root) => commandLine('systemd-sysusers', ...(root === '/' ? [] : [`--root=${root}`]), 'auxcred.conf'),
  readOnly: (_, mount) => readOnlyDisk(mount),
};

/** Programs that belong to the package are there as soon as the configuration is activated. */
const ownPrograms: readonly Missing[] = ['auxcred', 'node', 'libtss2', 'libcrypt'];

const rendered = (command: string): WaysOut => ({
  install: (what) =>
    ownPrograms.includes(what)
      ? `${command}    # auxcred.package brings it`
      : `${command}    # with it in environment.systemPackages`,
  apply: command,
  enable: () => `${command}    # with auxcred.enable = true`,
  account: () => `${command}    # with auxcred.enable = true`,
  // Its own files there are the configuration's; only a disk of its own can be mounted again.
  readOnly: (path, mount) =>
    isConfigured(path)
      ? `the configuration writes what is in ${mount}: change it, and run ${command}`
      : readOnlyDisk(mount),
});

const isConfigured = (path: string): boolean => /^\/(?:etc|nix|usr)\//.test(path);

/** The ways out on a system with this configuration, or without one. */
export const waysOutWith = (configuration: Configuration | undefined): WaysOut =>
  configuration === undefined ? ordinary : rendered(configuration.switch);

/** The ways out on the running system. Never throws, since they are part of other messages. */
export function waysOut(): WaysOut {
  try {
    return waysOutWith(configurationOf(pathsUnder('/')));
  } catch (error) {
    if (!(error instanceof Failure) && !(error instanceof Error && 'syscall' in error)) throw error;
    return ordinary;
  }
}
