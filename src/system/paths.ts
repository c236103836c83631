import { realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Every path that auxcred reads or writes, under `root` (`/`, or the target of an installation in progress). */
export function pathsUnder(root: string) {
  const at = (path: string): string => join(root, path);
  return {
    root,
    /** Manifest folders, strongest first: a file hides those of the same name in the folders after it. */
    manifestFolders: [at('/etc/auxcred/secrets.d'), at('/run/auxcred/secrets.d'), at('/usr/lib/auxcred/secrets.d')],
    /** What `apply` rendered: a symlink to a folder with `manifest` (the text it came from) and `units/`. */
    rendered: at('/etc/auxcred/rendered'),
    /** Where systemd has what `auxcred-generator` gave it. */
    generated: at('/run/systemd/generator'),
    /** Scope names and key ids that this machine accepts, written by `seal`. */
    pins: at('/etc/auxcred/scopes.json'),
    store: at('/var/lib/auxcred'),
    seeds: at('/var/lib/auxcred/seeds.age'),
    /** There while PCRs wait for the first boot to be bound. */
    unbound: at('/var/lib/auxcred/unbound'),
    /** Units that have yet to see what was made active. */
    pending: at('/var/lib/auxcred/pending.json'),
    /** Held by whoever changes the store. */
    lock: at('/var/lib/auxcred/lock'),
    /** Ciphertext of secrets that somebody chose. */
    fixed: at('/var/lib/auxcred/fixed'),
    /** What pushes have brought here. */
    pushed: at('/var/lib/auxcred/pushed.json'),
    /** What `auxcred fetch` has seen of other vaults. */
    fetched: at('/var/lib/auxcred/fetched.json'),
    /** The vaults that this machine itself fetches from. */
    vaults: at('/etc/auxcred/vault.toml'),
    /** An age identity, made where the machine has no ssh host key. */
    ageHostKey: at('/var/lib/auxcred/host.key'),
    /** An age identity that systemd-creds has encrypted. */
    sealedHostKey: at('/var/lib/auxcred/host.cred'),
    /** The provisioned snapshot: a symlink into `generations`. */
    snapshot: at('/var/lib/auxcred/provisioned'),
    generations: at('/var/lib/auxcred/generations'),
    sshHostKey: at('/etc/ssh/ssh_host_ed25519_key'),
    hostname: at('/etc/hostname'),
    /** What `seal` tells auxcred.service about the recipients: the host key, the TPM. */
    brokerDropIn: at('/etc/systemd/system/auxcred.service.d/50-auxcred-seal.conf'),
    /** Where systemd looks for encrypted credentials. */
    credstore: at('/etc/credstore.encrypted'),
    /** What `provision` knows of the files that it put there. */
    credstoreRecord: at('/var/lib/auxcred/credstore.json'),
    /** Secrets as files, on a tmpfs of its own that is never swapped out. */
    files: at('/run/auxcred/files'),
    /** The links that were made to them. */
    fileLinks: at('/var/lib/auxcred/links.json'),
    /**
     * Not the path that answered in plain text: a unit that still asks there must not take an encrypted answer for its
     * secret.
     */
    credentialSocket: at('/run/auxcred/encrypted.sock'),
    stageSocket: at('/run/auxcred/stage.sock'),
    stageFolder: at('/run/credstore'),
  };
}

export type Paths = ReturnType<typeof pathsUnder>;

/** The file name of every drop-in that auxcred renders: `UNIT.d/50-auxcred.conf`. */
export const dropInName = '50-auxcred.conf';

/** Where the Debian package and the install step put the executables. */
export const libraryFolder = '/usr/lib/auxcred';

/**
 * The command's own file, by an absolute path: what a unit's drop-in runs must not depend on where that unit looks for
 * programs (`ExecSearchPath=`). It lies beside the program that runs now, in `PREFIX/lib/auxcred`.
 */
export function commandFile(program = process.argv[1]): string {
  const folder = program === undefined ? '' : dirname(realpathSync(program));
  return join(folder.endsWith('/lib/auxcred') ? folder : libraryFolder, 'auxcred.cjs');
}
