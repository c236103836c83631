import { services } from './services.ts';

/** Cached Debian installations, one per systemd version under test; machines are thrown-away layers over them. */
export interface Recipe {
  readonly suite: string;
  readonly packages: readonly string[];
  readonly backports?: { readonly suite: string; readonly packages: readonly string[] };
  /**
   * The official build of Node is installed as Debian package `nodejs`: Debian's own is too old for auxcred in Debian 12,
   * and takes three times as long to start in Debian 13.
   */
  readonly officialNode?: true;
  /** Services that the packages enable are disabled. */
  readonly disabled?: true;
  /** What only takes time in a container is masked: generators and services that find nothing to do there. */
  readonly quiet?: true;
}

const everywhere = [
  'systemd',
  'systemd-sysv',
  'dbus',
  'procps',
  'socat',
  'iproute2',
  'openssh-client',
  'openssh-server',
  'age',
  'tpm2-tools',
  'libfaketime',
];
const tssBookworm = [
  'libtss2-esys-3.0.2-0',
  'libtss2-mu0',
  'libtss2-rc0',
  'libtss2-tctildr0',
  'libtss2-tcti-swtpm0',
  'libtss2-tcti-device0',
];
const tssTime64 = [
  'libtss2-esys-3.0.2-0t64',
  'libtss2-mu-4.0.1-0t64',
  'libtss2-rc0t64',
  'libtss2-tctildr0t64',
  'libtss2-tcti-swtpm0t64',
  'libtss2-tcti-device0t64',
];

export const recipes = {
  '252': {
    suite: 'bookworm',
    packages: [...everywhere, ...tssBookworm, 'libstdc++6'],
    officialNode: true,
    quiet: true,
  },
  '254': {
    suite: 'bookworm',
    packages: [...everywhere, ...tssBookworm, 'libstdc++6'],
    officialNode: true,
    backports: {
      suite: 'bookworm-backports',
      packages: ['systemd', 'systemd-sysv', 'libsystemd0', 'libsystemd-shared', 'libpam-systemd', 'udev', 'libudev1'],
    },
  },
  '257': { suite: 'trixie', packages: [...everywhere, ...tssTime64, 'libstdc++6'], officialNode: true, quiet: true },
  /** Systemd 257 and Node as Debian 13 has them: the whole matrix runs on it in place of `257`. */
  debian13: { suite: 'trixie', packages: [...everywhere, ...tssTime64, 'nodejs'] },
  /**
   * Debian testing: 262 when this was written, later versions as Debian moves on. Its gokey is the first that uses its
   * seed files.
   */
  '262': { suite: 'forky', packages: [...everywhere, ...tssTime64, 'nodejs', 'gokey'] },
  /** Systemd 257, with the services of the cookbook, docs/services. They are disabled: a test starts what it needs. */
  services: {
    suite: 'trixie',
    packages: [...everywhere, ...tssTime64, 'nodejs', 'curl', ...services],
    disabled: true,
  },
  /** Systemd 257, with the programs that the benchmark holds auxcred against. */
  peers: { suite: 'trixie', packages: [...everywhere, ...tssTime64, 'nodejs', 'gnupg', 'pass'] },
  /** Systemd 257, with Nix and what NixOS' own scripts run on. */
  nixos: {
    suite: 'trixie',
    packages: [
      ...everywhere,
      ...tssTime64,
      'nodejs',
      'nix-bin',
      'libconfig-inifiles-perl',
      'libfile-slurp-perl',
      'libjson-perl',
      'libnet-dbus-perl',
      'kmod',
      'udev',
    ],
  },
} as const satisfies Record<string, Recipe>;

export type SystemdVersion = keyof typeof recipes;

/** Each daemon-reload runs all generators, which is half of what it takes. */
const idleGenerators = [
  'cryptsetup',
  'debug',
  'getty',
  'gpt-auto',
  'hibernate-resume',
  'integritysetup',
  'rc-local',
  'run',
  'ssh',
  'system-update',
  'sysv',
  'veritysetup',
];
const idleUnits = [
  'apt-daily.timer',
  'apt-daily-upgrade.timer',
  'dpkg-db-backup.timer',
  'e2scrub_all.timer',
  'e2scrub_reap.service',
  'fstrim.timer',
  'getty.target',
  'ldconfig.service',
  'systemd-journal-catalog-update.service',
  'systemd-update-done.service',
  'systemd-update-utmp.service',
  'systemd-update-utmp-runlevel.service',
];
/** A hook of mmdebstrap, which has the root's folder as $1. */
export const maskIdle = [
  'mkdir -p "$1"/etc/systemd/system-generators',
  ...idleGenerators.map((name) => `ln -sf /dev/null "$1"/etc/systemd/system-generators/systemd-${name}-generator`),
  ...idleUnits.map((unit) => `ln -sf /dev/null "$1"/etc/systemd/system/${unit}`),
].join('; ');
