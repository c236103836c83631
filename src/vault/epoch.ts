import { readFileSync } from 'node:fs';
import { utf8 } from '../bytes.ts';
import { scopeParts } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { replaceFile } from '../system/files.ts';
import { epochOfScope, readVault, type Vault, vaultFiles, vaultOf } from './vault.ts';

/**
 * Raises a scope's epoch by one in vault.toml. Leaves everything else in the file as it is, comments included.
 * @returns the new epoch
 * @throws Failure
 */
export function raiseEpoch({ folder }: Vault, scope: string): number {
  const { settings } = vaultFiles(folder);
  const epoch = epochOfScope(readVault(folder), scope) + 1;
  const edited = utf8(withEpoch(readFileSync(settings, 'utf8'), scope, epoch));
  if (isEpoch(folder, edited, scope, epoch)) {
    replaceFile(settings, edited, { mode: 0o600 });
    return epoch;
  }
  throw new Failure('refused', `${settings} is written in a way that auxcred can't edit`, {
    hint: `set epoch = ${String(epoch)} for ${scope} by hand, then run auxcred rekey ${scope}`,
  });
}

function isEpoch(folder: string, settings: Uint8Array, scope: string, epoch: number): boolean {
  try {
    return epochOfScope(vaultOf(folder, settings), scope) === epoch;
  } catch {
    return false;
  }
}

function withEpoch(text: string, scope: string, epoch: number): string {
  const { kind, name } = scopeParts(scope);
  const lines = text.split('\n');
  const heading = lines.findIndex((line) => {
    const [, table, quoted, bare] =
      /^\s*\[\s*(host|group)\s*\.\s*(?:["']([^"']*)["']|([A-Za-z0-9_-]+))\s*\]/.exec(line) ?? [];
    return table === kind && (quoted ?? bare) === name;
  });
  if (heading === -1)
    return `${text.replace(/\n*$/, '\n')}\n[${kind}.${JSON.stringify(name)}]\nepoch = ${String(epoch)}\n`;
  const after = lines.findIndex((line, i) => i > heading && /^\s*\[/.test(line));
  const end = after === -1 ? lines.length : after;
  const at = lines.findIndex((line, i) => i > heading && i < end && /^\s*epoch\s*=/.test(line));
  if (at === -1) lines.splice(heading + 1, 0, `epoch = ${String(epoch)}`);
  else lines[at] = (lines[at] ?? '').replace(/=\s*[0-9_]+/, `= ${String(epoch)}`);
  return lines.join('\n');
}
