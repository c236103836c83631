import { dirname, join } from 'node:path';
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
  const file = enrolledFile(vault, host);
  ensureFolder(dirname(file), { mode: 0o700 });
  replaceFile(file, encodeEnrolled({ since: `${new Date().toISOString().slice(0, 19)}Z`, machine }), { mode: 0o600 });
  const twins = [...vault.hosts.keys()].filter((name) => name !== host && hasHostKey(vault, name, machine.sshHostKey));
  if (twins.length > 0)
    warn(
      `${host} has the same ssh host key as ${twins.join(', ')}: what is sealed to one opens on the other`,
      `rm /etc/ssh/ssh_host_* && ssh-keygen -A on ${host}, then enroll it again with --replace, and push --reseal`,
    );
}

function hasHostKey(vault: Vault, host: string, key: Uint8Array | undefined): boolean {
  try {
    const other = readEnrolled(vault, host)?.machine.sshHostKey;
    return key !== undefined && other !== undefined && Buffer.compare(key, other) === 0;
  } catch (error) {
    // The next command for that host says what is wrong with its enrollment.
    if (error instanceof Failure) return false;
    throw error;
  }
}
