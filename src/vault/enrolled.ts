import { join } from 'node:path';
import { type Enrolled, parseEnrolled } from '../store/enrollment.ts';
import { readIfPresent } from '../system/files.ts';
import { type Vault, vaultFiles } from './vault.ts';

export const enrolledFile = ({ folder }: Vault, host: string): string => join(vaultFiles(folder).enrolled, `${host}.json`);

/** What a host said of itself when it was enrolled; undefined where it was not. @throws Failure `malformed` */
export function readEnrolled(vault: Vault, host: string): Enrolled | undefined {
  const file = enrolledFile(vault, host);
  const bytes = readIfPresent(file);
  return bytes && parseEnrolled(bytes, file);
}
