import { dirname, join } from 'node:path';
import { hex } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { type Enrolled, type Enrollment, encodeEnrolled, parseEnrolled } from '../seeds/enrollment.ts';
import { ensureFolder, readIfPresent, replaceFile } from '../system/files.ts';
import { refuseMergeConflict } from '../system/merge-conflict.ts';
import { warn } from '../terminal/say.ts';
import { type Vault, vaultFiles } from './vault.ts';

const enrolledFile = ({ folder }: Vault, host: string): string => join(vaultFiles(folder).enrolled, `${host}.json`);

/** Reads a host's enrollment; undefined if it is not enrolled. @throws Failure `malformed` */
export function readEnrolled(vault: Vault, host: string): Enrolled | undefined {
  const file = enrolledFile(vault, host);
  const bytes = readIfPresent(file);
  if (bytes) refuseMergeConflict(new TextDecoder().decode(bytes), file);
  const enrolled = bytes && parseEnrolled(bytes, file);
  if (enrolled && enrolled.machine.host !== host)
    throw new Failure('malformed', `${file} is the enrollment of ${enrolled.machine.host}, not of ${host}`, {
      hint: `auxcred enroll ${host} --replace --from=FILE`,
    });
  return enrolled;
}

/**
 * Writes a host's enrollment, dated now. Warns of other hosts with its ssh host key, as copies of one image have: what
 * is sealed to one of them opens on the others.
 */
export function writeEnrolled(vault: Vault, host: string, machine: Enrollment): void {
  const keys = hostKeysOf(vault);
  const file = enrolledFile(vault, host);
  ensureFolder(dirname(file), { mode: 0o700 });
  replaceFile(file, encodeEnrolled({ since: `${new Date().toISOString().slice(0, 19)}Z`, machine }), { mode: 0o600 });
  const key = machine.sshHostKey && hex(machine.sshHostKey);
  const twins = [...vault.hosts.keys()].filter((name) => name !== host && key !== undefined && keys.get(name) === key);
  keys.set(host, key);
  if (twins.length > 0)
    warn(
      `${host} has the same ssh host key as ${twins.join(', ')}: what is sealed to one opens on the other`,
      `rm /etc/ssh/ssh_host_* && ssh-keygen -A on ${host}, then enroll it again with --replace, and push --reseal`,
    );
}

/** The ssh host keys of the enrolled hosts, in hexadecimal. */
type HostKeys = Map<string, string | undefined>;

/** Read once for each vault: the first push to a fleet enrolls all its hosts. */
const hostKeys = new WeakMap<Vault, HostKeys>();

function hostKeysOf(vault: Vault): HostKeys {
  const known = hostKeys.get(vault);
  if (known) return known;
  const keys: HostKeys = new Map([...vault.hosts.keys()].map((host) => [host, hostKeyOf(vault, host)]));
  hostKeys.set(vault, keys);
  return keys;
}

function hostKeyOf(vault: Vault, host: string): string | undefined {
  try {
    const key = readEnrolled(vault, host)?.machine.sshHostKey;
    return key && hex(key);
  } catch (error) {
    // The next command for that host says what is wrong with its enrollment.
    if (error instanceof Failure) return undefined;
    throw error;
  }
}
