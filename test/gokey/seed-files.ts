import { createCipheriv, pbkdf2Sync, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';

export const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** A seed file with this body. */
export function sealedSeed(
  master: string,
  body: Uint8Array,
  nonce: Uint8Array = new Uint8Array(randomBytes(12)),
): Uint8Array {
  const cipher = createCipheriv('aes-256-gcm', pbkdf2Sync(master, nonce, 4096, 32, 'sha256'), nonce);
  return new Uint8Array(Buffer.concat([nonce, cipher.update(body), cipher.final(), cipher.getAuthTag()]));
}

export let folder = '';
export const at = (name: string): string => join(folder, name);
export const file = (name: string, content: Uint8Array | string): string => {
  writeFileSync(at(name), content);
  return at(name);
};

/** Creates a folder for a file's tests, and removes it after them. */
export function useFolder(): void {
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'gokey-'));
  });
  after(() => {
    rmSync(folder, { recursive: true });
  });
}
