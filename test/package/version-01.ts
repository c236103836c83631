/** A machine as version 0.1.0 left it, and the secrets that it printed there: test/vectors/version-0.1.json. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const fields = (value: unknown): [string, unknown][] => {
  assert.ok(typeof value === 'object' && value !== null);
  return Object.entries(value);
};
const part = (value: unknown, key: string): unknown => fields(value).find(([name]) => name === key)?.[1];
const text = (value: unknown): string => {
  assert.ok(typeof value === 'string');
  return value;
};

const vectors: unknown = JSON.parse(readFileSync('test/vectors/version-0.1.json', 'utf8'));

/** The bytes of each secret by name, or by `NAME@PERIOD`. */
export const oldValues: ReadonlyMap<string, Buffer> = new Map(
  fields(part(vectors, 'values')).map(([name, value]) => [name, Buffer.from(text(value), 'base64')]),
);

/** Puts the files of that machine below a root. */
export function furnishOldMachine(root: string): void {
  for (const [path, entry] of fields(part(vectors, 'files'))) {
    const file = join(root, path);
    mkdirSync(dirname(file), { recursive: true });
    const [link, plain, encoded] = ['link', 'text', 'base64'].map((key) => part(entry, key));
    if (link !== undefined) symlinkSync(text(link), file);
    else {
      const content = plain === undefined ? Buffer.from(text(encoded), 'base64') : text(plain);
      writeFileSync(file, content, { mode: Number.parseInt(text(part(entry, 'mode')), 8) });
    }
  }
}
