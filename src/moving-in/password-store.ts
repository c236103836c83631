/** Trees of pass, gopass and passage, read as `auxcred import` reads them. */
import { Failure } from '../failure.ts';
import type { OtherVault } from '../other-vaults/protocol.ts';
import { type Findings, type FoundSecret, wipeFindings } from './findings.ts';
import { attempt } from './program.ts';

/**
 * Everything in a vault, or what lies below the named folders and names.
 * @throws Failure `not-found` for a name that it does not have
 */
export function passwordStore(name: string, vault: OtherVault, from: readonly string[]): Findings {
  const all = vault.list();
  const folders = from.map((path) => path.replace(/\/+$/, ''));
  const isBelow = (secret: string, path: string): boolean => secret === path || secret.startsWith(`${path}/`);
  const missing = folders.find((path) => !all.some((secret) => isBelow(secret, path)));
  if (missing !== undefined)
    throw new Failure('not-found', `${name} has no ${missing}`, { hint: `auxcred vault list ${name}` });
  const wanted = folders.length === 0 ? all : all.filter((secret) => folders.some((path) => isBelow(secret, path)));
  const secrets: FoundSecret[] = [];
  const unread: string[] = [];
  try {
    for (const secret of wanted) {
      const value = attempt(() => vault.get({ name: secret, options: {}, host: undefined }));
      if (value instanceof Failure) unread.push(value.message);
      else secrets.push({ name: secret, from: `${name}: ${secret}`, value, use: { units: [] } });
    }
  } catch (error) {
    wipeFindings({ secrets });
    throw error;
  }
  return { secrets, environments: [], unread, notes: [] };
}
