/** The last attempt to prepare the seed for the kernels that are installed, if it failed. */
import { rmSync } from 'node:fs';
import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { replaceFile } from '../system/files.ts';
import { canonicalJson, Json } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';
import type { ReadableFiles } from './readable-files.ts';

/** Why the seed could not be prepared, and when. */
export interface Unprepared {
  readonly message: string;
  /** An ISO 8601 date with time. */
  readonly time: string;
}

/** Records a failure. */
export function recordUnprepared({ unprepared }: Paths, message: string, now: Date): void {
  const text = canonicalJson({ version: 1, message, time: now.toISOString() });
  replaceFile(unprepared, utf8(`${text}\n`), { mode: 0o600 });
}

/** Removes the record. */
export function clearUnprepared({ unprepared }: Paths): void {
  rmSync(unprepared, { force: true });
}

/** Reads the record. Undefined if the last attempt succeeded, or there was none. */
export function readUnprepared(readable: ReadableFiles, { unprepared }: Paths): Unprepared | undefined {
  const bytes = readable.read(unprepared);
  if (!bytes) return undefined;
  try {
    const json = Json.parse(bytes, unprepared, '');
    return { message: json.at('message').text(), time: json.at('time').text() };
  } catch (error) {
    if (error instanceof Failure) return { message: `${unprepared} is damaged`, time: '' };
    throw error;
  }
}
