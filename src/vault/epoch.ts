import { readFileSync } from 'node:fs';
import { utf8 } from '../derive/framing.ts';
import { Failure } from '../failure.ts';
import { replaceFile } from '../system/files.ts';
import { epochOfScope, readVault, type Vault, vaultFiles } from './vault.ts';

/** Raises a scope's epoch by one in vault.toml, and leaves all else in it as it is, comments too. @returns the new epoch. @throws Failure */
export function raiseEpoch({ folder }: Vault, scope: string): number {
  const { settings } = vaultFiles(folder);
  const before = readVault(folder);
  const epoch = epochOfScope(before, scope) + 1;
  const text = readFileSync(settings, 'utf8');
  replaceFile(settings, utf8(withEpoch(text, scope, epoch)), { mode: 0o600 });
  if (epochOfScope(readVault(folder), scope) === epoch) return epoch;
  replaceFile(settings, utf8(text), { mode: 0o600 });
  throw new Failure('refused', `${settings} is written in a way that auxcred does not edit`, { hint: `set epoch = ${String(epoch)} for ${scope} by hand, then run auxcred rekey ${scope}` });
}

function withEpoch(text: string, scope: string, epoch: number): string {
  const [kind = '', name = ''] = scope.split('/');
  const lines = text.split('\n');
  const heading = lines.findIndex((line) => {
    const [, table, quoted, bare] = /^\s*\[\s*(host|group)\s*\.\s*(?:["']([^"']*)["']|([A-Za-z0-9_-]+))\s*\]/.exec(line) ?? [];
    return table === kind && (quoted ?? bare) === name;
  });
  if (heading === -1) return `${text.replace(/\n*$/, '\n')}\n[${kind}.${JSON.stringify(name)}]\nepoch = ${String(epoch)}\n`;
  const after = lines.findIndex((line, i) => i > heading && /^\s*\[/.test(line));
  const end = after === -1 ? lines.length : after;
  const at = lines.findIndex((line, i) => i > heading && i < end && /^\s*epoch\s*=/.test(line));
  if (at === -1) lines.splice(heading + 1, 0, `epoch = ${String(epoch)}`);
  else lines[at] = (lines[at] ?? '').replace(/=\s*[0-9_]+/, `= ${String(epoch)}`);
  return lines.join('\n');
}
