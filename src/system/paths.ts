import { realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Every path that auxcred reads or writes, under `root` (`/`, or the target of an installation in progress). */
export function pathsUnder(root: string): Paths {
  const known = byRoot.get(root);
  if (known) return known;
  // V8 would optimize join after eighty calls, which takes longer than all of them.
  const prefix = join(root, '/').slice(0, -1);
  const paths = below(root, (path) => `${prefix}${path}`);
  byRoot.set(root, paths);
  return paths;
}

/** Asked for once for each unit and credential, and so not made each time. */
const byRoot = new Map<string, Paths>();

function below(root: string, at: (path: string) => string) {
  return {
    root,
    /** Manifest folders, strongest first: a file hides those of the same name in the folders after it. */
    manifestFolders: [at('/etc/auxcred/secrets.d'), at('/run/auxcred/secrets.d'), at('/usr/lib/auxcred/secrets.d')],
    /** Exists if the system's configuration renders the manifest and the drop-ins. */
    configuration: at('/etc/auxcred/configuration.json'),
    /** The manifest of such a system. */
    configured: at('/etc/auxcred/secrets.d/configuration.json'),
    /**
     * The drop-ins that `apply` rendered: a symlink to a folder with `manifest` (digests of its inputs and outputs) and
     * `units/`.
     */
    rendered: at('/etc/auxcred/rendered'),
    /** systemd's folder with the output of `auxcred-generator`. */
    generated: at('/run/systemd/generator'),
    /** The pins: scopes and key ids that this machine accepts, written by `seal`. */
    pins: at('/etc/auxcred/scopes.json'),
    /** The pins of a machine whose configuration renders everything but them: the program can't rely on /etc there. */
    ownPins: at('/var/lib/auxcred/scopes.json'),
    store: at('/var/lib/auxcred'),
    seeds: at('/var/lib/auxcred/seeds.age'),
    /** Exists while PCRs are yet to be bound at the first boot. */
    unbound: at('/var/lib/auxcred/unbound'),
    /** Units that have not been restarted or reloaded yet for the active secrets. */
    pending: at('/var/lib/auxcred/pending.json'),
    /** Exists from the start of a switch until its secrets are provisioned. */
    unprovisioned: at('/run/auxcred/unprovisioned'),
    /** Exists while secrets wait for hooks that could not run at boot. */
    postponed: at('/run/auxcred/postponed'),
    /** Where the audit chain goes on: the one file that the broker writes. */
    auditState: at('/var/lib/auxcred-audit/chain'),
    /** Held while something changes the store. */
    lock: at('/var/lib/auxcred/lock'),
    /** The fixed folder. */
    fixed: at('/var/lib/auxcred/fixed'),
    /** Which files pushes have brought here. */
    pushed: at('/var/lib/auxcred/pushed.json'),
    /** Fingerprints of what `auxcred fetch` got from other vaults. */
    fetched: at('/var/lib/auxcred/fetched.json'),
    /** The settings of the vaults that this machine itself fetches from. */
    vaults: at('/etc/auxcred/vault.toml'),
    /** An age identity, made if the machine has no ssh host key. */
    ageHostKey: at('/var/lib/auxcred/host.key'),
    /** An age identity that systemd-creds has encrypted. */
    sealedHostKey: at('/var/lib/auxcred/host.cred'),
    /** The provisioned snapshot: a symlink into `generations`. */
    snapshot: at('/var/lib/auxcred/provisioned'),
    generations: at('/var/lib/auxcred/generations'),
    sshHostKey: at('/etc/ssh/ssh_host_ed25519_key'),
    hostname: at('/etc/hostname'),
    machineId: at('/etc/machine-id'),
    /** systemd's folder of encrypted credentials. */
    credstore: at('/etc/credstore.encrypted'),
    /** The record of the files that `provision` wrote there. */
    credstoreRecord: at('/var/lib/auxcred/credstore.json'),
    /** Secrets that are delivered as files, on a tmpfs that is never swapped out. */
    files: at('/run/auxcred/files'),
    /** The record of the links to them. */
    fileLinks: at('/var/lib/auxcred/links.json'),
    ...runtimePaths(at),
    ...brokerPaths(at),
    ...measuredBootPaths(at),
  };
}

const runtimePaths = (at: (path: string) => string) => ({
  runtime: at('/run/auxcred'),
  /** How many releases and refusals of this boot `status --prometheus` has counted. */
  counted: at('/run/auxcred/counted.json'),
  /** Exists if a push was begun since the machine booted. */
  begun: at('/run/auxcred/begun'),
  /**
   * Not the path of earlier versions, which answered in plain text: a unit that still asks there must not mistake an
   * encrypted answer for its secret.
   */
  credentialSocket: at('/run/auxcred/encrypted.sock'),
  stageSocket: at('/run/auxcred/stage.sock'),
  stageFolder: at('/run/credstore'),
});

const brokerPaths = (at: (path: string) => string) => ({
  /** The drop-in that gives auxcred.service the host key and the TPM, written by `seal`. */
  brokerDropIn: at('/etc/systemd/system/auxcred.service.d/50-auxcred-seal.conf'),
  /** Starts the broker at each boot, if it is to lock the seeds. */
  brokerAtBoot: at('/etc/systemd/system/sysinit.target.wants/auxcred.service'),
});

const measuredBootPaths = (at: (path: string) => string) => ({
  /** What the literal branches of the seed are for. */
  branches: at('/var/lib/auxcred/branches.json'),
  /** Why the seed could not be prepared for the kernels that are installed now; missing if it could. */
  unprepared: at('/var/lib/auxcred/unprepared.json'),
  /** What the boot of the seal measured, to explain later boots. */
  measured: at('/var/lib/auxcred/measured.json'),
  /** The logs of this boot: the firmware's, whose size reads 0, and systemd's. */
  firmwareLog: at('/sys/kernel/security/tpm0/binary_bios_measurements'),
  userspaceLog: at('/run/log/systemd/tpm2-measure.log'),
  /** The key that signs PCR 11 of the booted image: systemd-stub's `.pcrpkey`. */
  publicKey: at('/run/systemd/tpm2-pcr-public-key.pem'),
  /** The EFI variable that systemd-stub sets once it measured the booted image. */
  bootedImage: at('/sys/firmware/efi/efivars/StubPcrKernelImage-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f'),
});

/** The result of {@link pathsUnder}. */
export type Paths = Readonly<ReturnType<typeof below>>;

/** The file name of every drop-in that auxcred renders: `UNIT.d/50-auxcred.conf`. */
export const dropInName = '50-auxcred.conf';

/** The path of a unit's drop-in in a folder of drop-ins. */
export const dropInFile = (folder: string, unit: string): string => `${folder}/${unit}.d/${dropInName}`;

/** The folder of the executables, in the Debian package and when installed from source. */
export const libraryFolder = '/usr/lib/auxcred';

/**
 * The absolute path of the command, so that a unit's drop-in does not depend on the unit's `ExecSearchPath=`. It lies
 * beside the running program, in `PREFIX/lib/auxcred`.
 */
export function commandFile(program = process.argv[1]): string {
  const folder = program === undefined ? '' : dirname(realpathSync(program));
  return join(folder.endsWith('/lib/auxcred') ? folder : libraryFolder, 'auxcred.cjs');
}
