import { readFileSync } from 'node:fs';
import { utf8 } from '../bytes.ts';
import { scopeParts } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { replaceFile } from '../system/files.ts';
import { epochOfScope, type Vault, vaultFiles, vaultOf } from './vault.ts';

/** Scopes in their next epoch, not written yet. */
export interface RaisedEpochs {
  /** The vault as it will be. */
  readonly vault: Vault;
  /** The new epochs, by scope. */
  readonly epochs: ReadonlyMap<string, number>;
  /** @throws Failure `refused` if the file was edited meanwhile */
  write(): void;
}

/**
 * Raises the epochs of scopes by one in vault.toml. Leaves everything else in the file as it is, comments included.
 * @param scopes - no scope twice
 * @throws Failure, before anything is written, if one of them can't be raised
 */
export function raisedEpochs({ folder }: Vault, scopes: readonly string[]): RaisedEpochs {
  const { settings } = vaultFiles(folder);
  const before = readFileSync(settings, 'utf8');
  const present = vaultOf(folder, utf8(before));
  const epochs = new Map<string, number>();
  let text = before;
  for (const scope of scopes) {
    const epoch = epochOfScope(present, scope) + 1;
    text = withEpoch(text, scope, epoch);
    if (!isEpoch(folder, utf8(text), scope, epoch))
      throw new Failure('refused', `${settings} is written in a way that auxcred can't edit, so nothing was changed`, {
        hint: `set epoch = ${String(epoch)} for ${scope} by hand, then run auxcred rekey ${scope}`,
      });
    epochs.set(scope, epoch);
  }
  const edited = utf8(text);
  return {
    vault: vaultOf(folder, edited),
    epochs,
    write: () => {
      if (readFileSync(settings, 'utf8') !== before)
        throw new Failure('refused', `${settings} was edited meanwhile, so nothing was changed`, {
          hint: 'run it again',
        });
      replaceFile(settings, edited, { mode: 0o600 });
    },
  };
}

function isEpoch(folder: string, settings: Uint8Array, scope: string, epoch: number): boolean {
  try {
    return epochOfScope(vaultOf(folder, settings), scope) === epoch;
  } catch {
    return false;
  }
}

/**
 * The text of vault.toml with another epoch: in the line `epoch =` of the scope's table, in a new line after the table's
 * heading, or in a new table at the end. It does not understand all of TOML, so the caller checks the outcome.
 */
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
