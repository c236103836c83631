import { dirname, join } from 'node:path';
import { Failure } from '../failure.ts';
import { type Enrolled, type Enrollment, encodeEnrolled, parseEnrolled } from '../seeds/enrollment.ts';
import { ensureFolder, readIfPresent, replaceFile } from '../system/files.ts';
import { refuseMergeConflict } from '../system/merge-conflict.ts';
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

/** Writes a host's enrollment, dated now. */
export function writeEnrolled(vault: Vault, host: string, machine: Enrollment): void {
  const file = enrolledFile(vault, host);
  ensureFolder(dirname(file), { mode: 0o700 });
  replaceFile(file, encodeEnrolled({ since: `${new Date().toISOString().slice(0, 19)}Z`, machine }), { mode: 0o600 });
}
