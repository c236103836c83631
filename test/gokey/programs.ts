import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { debianRoot } from '../machine/root.ts';

/** The program of this Debian, 0.1.2: its seed files are worthless, everything else is as it is today. */
export const oldGokey = '/usr/bin/gokey';

/** The program of Debian testing, 0.2.0 or later. */
export async function newGokey(): Promise<string> {
  const program = join(await debianRoot('262'), 'usr/bin/gokey');
  if (!existsSync(program)) throw new Error(`${program} is missing`);
  return program;
}
