import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { belowIn, type OpenPlace, placeOf, withSeeds } from '../cli/chosen-folder.ts';
import { failureLine } from '../cli/failure-line.ts';
import { commit } from '../cli/kept-changes.ts';
import { Options } from '../cli/options.ts';
import { otherVault } from '../cli/other-vault.ts';
import { exitStatus, Failure } from '../failure.ts';
import { largestValue } from '../fixed/file.ts';
import { type FixedName, nameText, pathProblem } from '../fixed/name.ts';
import type { OtherVault } from '../other-vaults/protocol.ts';
import { readFileWithin } from '../system/files.ts';
import { firstLine, isWholeLine } from '../system/input.ts';
import { counted, say, warn } from '../terminal/say.ts';

/**
 * `auxcred import VAULT DESTINATION [NAME...]`: imports secrets from another vault, or the files of a folder as they
 * are. One that fails does not stop the others.
 */
export async function importCommand(argv: readonly string[]): Promise<number> {
  const options = new Options('import', argv);
  const [from, to, ...asked] = options.operands;
  if (from === undefined || to === undefined)
    throw options.lacks(
      from === undefined ? 'a vault or a folder to import from' : 'a place to import to, such as host/web1',
    );
  const place = placeOf(options);
  const { scope, path } = belowIn(place, to);
  if (scope === undefined || !scope.includes('/'))
    throw new Failure('usage', `${to} does not name a scope for the secrets`, {
      hint: 'host/web1, group/db/imported',
    });
  const source = from.includes('/') ? folderSource(from) : otherVault(from, place);
  const names = asked.length > 0 ? asked : source.list();
  if (names.length === 0) throw new Failure('not-found', `there is no secret in ${from}`);
  const targets = names.map((name): [string, FixedName] => [
    name,
    { scope, path: [path, name.normalize('NFC')].filter((part) => part !== '').join('/') },
  ]);
  const taken = new Map<string, string>();
  const wholeLines: string[] = [];
  const done = await withSeeds(
    place,
    options,
    (open) => targets.filter((one) => importOne(one, { open, taken, wholeLines, source, options })).length,
  );
  const status = done === names.length ? 0 : exitStatus.vault;
  if (options.flag('dry-run')) return status;
  say(`imported ${String(done)} of ${counted(names.length, 'secret')} from ${from} to ${to}`);
  const [first] = wholeLines;
  if (first !== undefined)
    warn(
      `${first}${wholeLines.length === 1 ? ' is' : ` and ${counted(wholeLines.length - 1, 'other')} are each`} one line that ` +
        'ends with a newline, which is now part of the secret',
      '--line --force takes the first line without its newline',
    );
  if (done > 0) commit(place, `Import ${counted(done, 'secret')} from ${from}`);
  return status;
}

/** The source and the destination of an import. */
interface Import {
  readonly open: OpenPlace;
  /** Secrets imported so far: their names in the vault, by their names here. */
  readonly taken: Map<string, string>;
  /** Those of them that are a line with its newline. */
  readonly wholeLines: string[];
  readonly source: Pick<OtherVault, 'get'>;
  readonly options: Options;
}

/** Imports one secret. @returns whether that worked; if not, it has printed why */
function importOne([name, target]: [string, FixedName], { open, taken, wholeLines, source, options }: Import): boolean {
  try {
    refuseTarget(target, { open, taken, options });
    taken.set(nameText(target), name);
    if (options.flag('dry-run')) {
      say(`would import ${nameText(target)}`);
      return true;
    }
    const value = source.get({ name, options: {}, host: undefined });
    try {
      open.folder.write(target, options.flag('line') ? firstLine(value) : value, open);
      if (!options.flag('line') && isWholeLine(value)) wholeLines.push(nameText(target));
    } finally {
      value.fill(0);
    }
    return true;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    say(`${name}: ${failureLine(error)}`);
    return false;
  }
}

/** @throws Failure if a secret can't or must not become `target` */
function refuseTarget(target: FixedName, { open, taken, options }: Omit<Import, 'source' | 'wholeLines'>): void {
  const problem = pathProblem(target.path);
  if (problem !== undefined)
    throw new Failure('usage', `its name can't be a fixed secret's: ${problem}`, {
      hint: 'auxcred put stores it under another name',
    });
  const other = taken.get(nameText(target));
  if (other !== undefined)
    throw new Failure('refused', `${other} already became ${nameText(target)}`, {
      hint: 'the names differ only in their Unicode form: auxcred put stores it under another name',
    });
  if (open.folder.has(target) && !options.flag('force'))
    throw new Failure('refused', `${nameText(target)} exists`, { hint: '--force replaces it' });
}

/** Plain files, byte for byte. */
function folderSource(folder: string): Pick<OtherVault, 'get' | 'list'> {
  const walk = (below: string): string[] =>
    readdirSync(join(folder, below), { withFileTypes: true })
      .filter(({ name }) => !name.startsWith('.'))
      .flatMap((entry) =>
        entry.isDirectory() ? walk(`${below}${entry.name}/`) : entry.isFile() ? [`${below}${entry.name}`] : [],
      );
  return {
    list: () => walk('').sort(),
    get: ({ name }) => {
      const bytes = readFileWithin(join(folder, name), largestValue);
      if (!bytes) throw new Failure('not-found', `there is no ${name} in ${folder}`);
      return bytes;
    },
  };
}
