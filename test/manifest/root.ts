import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach } from 'node:test';
import { type Manifest, readManifest } from '../../src/manifest/manifest.ts';

export let root = '';

export const write = (path: string, text: string): void => {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
};
export const admin = '/etc/auxcred/secrets.d/web.toml';
export const read = (text: string, path = admin): Manifest => {
  write(path, text);
  return readManifest(root);
};
export const errors = ({ problems }: Manifest): string[] =>
  problems.filter(({ severity }) => severity === 'error').map(({ message }) => message);

/** Creates an empty root folder before each test, and removes it after it. */
export function useRoot(): void {
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'manifest-'));
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });
}
