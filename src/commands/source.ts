import { readFileSync } from 'node:fs';
import type { VaultSource } from '../vault/protocol.ts';
import { sourceOf } from '../vault/sources.ts';
import { readMachineSources } from '../vault/vault.ts';
import type { Place } from './place.ts';
import { askSecret } from './prompt.ts';

/** The other vault of that name, as the operator's vault.toml knows it, or the machine's own. @throws Failure `not-found` */
export const sourceFor = (name: string, { vault, paths }: Place): VaultSource =>
  sourceOf(name, vault?.sources ?? readMachineSources(paths.vaults), (file) => (file === undefined ? askSecret(`master password of ${name}`, `password-file = "FILE" in [vault.${name}]`) : trimmed(new Uint8Array(readFileSync(file)))), process.env);

/** gokey takes the white space around a password in a file away. */
export function trimmed(bytes: Uint8Array): Uint8Array {
  const isSpace = (byte: number | undefined): boolean => byte !== undefined && (byte === 0x20 || (byte >= 0x09 && byte <= 0x0d));
  let [start, end] = [0, bytes.length];
  while (start < end && isSpace(bytes[start])) start++;
  while (end > start && isSpace(bytes[end - 1])) end--;
  const password = bytes.slice(start, end);
  bytes.fill(0);
  return password;
}
