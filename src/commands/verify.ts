import { basename } from 'node:path';
import { belowIn, placeOf, withSeeds } from '../cli/chosen-folder.ts';
import { failureLine } from '../cli/failure-line.ts';
import { Options } from '../cli/options.ts';
import { exitStatus, Failure } from '../failure.ts';
import { conflictsIn, conflictText } from '../fixed/future-folder.ts';
import { type FixedName, nameText } from '../fixed/name.ts';
import { isLeftover } from '../system/files.ts';
import { printJson, say } from '../terminal/say.ts';
import { epochOfScope, type Vault } from '../vault/vault.ts';

/**
 * `auxcred verify`: opens every fixed secret, and reports those that do not open under their names, and names that
 * can't share a folder on every system.
 */
export async function verify(argv: readonly string[]): Promise<number> {
  const options = new Options('verify', argv);
  if (options.operands.length > 1) options.exactly('a folder');
  const place = placeOf(options);
  const [below] = options.operands;
  const { scope, path } = belowIn(place, below);
  const { names, strangers } = place.folder.list(scope, path);
  if (names.length + strangers.length === 0 && below !== undefined)
    throw new Failure('not-found', `there is nothing below ${below}`);
  const problems = await withSeeds(place, options, ({ folder, seedOf, former }) =>
    names.flatMap((name) => {
      try {
        if (place.vault) expectScope(place.vault, name);
        folder.open(name, seedOf, former).value.fill(0);
        return [];
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        return [error];
      }
    }),
  );
  const conflicts = conflictsIn(names.map(nameText)).map((conflict) => ({
    message: conflictText(conflict),
    hint: `auxcred mv ${conflict.name} NAME renames one of them; a push refuses both`,
  }));
  if (options.flag('json'))
    printJson({
      secrets: names.length,
      problems: [...problems, ...conflicts].map(({ message, hint }) => ({ message, hint })),
      strangers,
    });
  for (const problem of [...problems, ...conflicts]) say(failureLine(problem));
  for (const stranger of strangers) {
    const leftover = 'was left behind by a killed run (the next put removes it)';
    say(`${stranger} ${isLeftover(basename(stranger)) ? leftover : 'is not a fixed secret'}`);
  }
  const broken = problems.length + conflicts.length + strangers.length;
  say(
    `${String(names.length - problems.length)} of ${String(names.length)} secrets open under their ` +
      `names${broken === 0 ? '' : `; ${String(broken)} ${broken === 1 ? 'file does' : 'files do'} not belong`}`,
  );
  return broken === 0 ? 0 : exitStatus.malformed;
}

/** Tells what is left of a host or group that vault.toml has no more from a file that is broken. @throws Failure */
function expectScope(vault: Vault, name: FixedName): void {
  try {
    epochOfScope(vault, name.scope);
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'not-found') throw error;
    throw new Failure('not-found', `${nameText(name)} can't be judged: ${error.message}`, {
      hint: `${error.hint ?? ''}; auxcred rm --recursive ${name.scope} if it is gone`,
    });
  }
}
