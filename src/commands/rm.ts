import { belowIn, nameIn, placeOf } from '../cli/chosen-folder.ts';
import { commit } from '../cli/kept-changes.ts';
import { warnOfLost } from '../cli/next-step.ts';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import { nameText } from '../fixed/name.ts';
import { askYes } from '../terminal/prompt.ts';
import { say } from '../terminal/say.ts';

/** `auxcred rm NAME`: deletes a fixed secret, or with `--recursive` everything below a name. */
export function rm(argv: readonly string[]): number {
  const options = new Options('rm', argv);
  const [operand = ''] = options.exactly('the name of a secret');
  const place = placeOf(options);
  const { folder } = place;
  const below = belowIn(place, operand);
  const single = options.flag('recursive') ? undefined : nameIn(place, operand);
  if (single && !folder.has(single) && folder.list(below.scope, below.path).names.length > 0)
    throw new Failure('refused', `${operand} is a folder, so nothing was changed`, {
      hint: '--recursive deletes everything in it',
    });
  if (single) folder.expect(single);
  const names = single ? [single] : folder.list(below.scope, below.path).names;
  if (names.length === 0) throw new Failure('not-found', `there is nothing below ${operand}`);
  const what = names.length === 1 ? names.map(nameText).join('') : `${String(names.length)} secrets below ${operand}`;
  if (!options.flag('force') && !askYes(`delete ${what}?`, '--force deletes without asking'))
    throw new Failure('refused', 'nothing was changed');
  for (const name of names) folder.remove(name);
  say(`deleted ${what}`);
  commit(place, `Remove ${names.length === 1 ? what : operand}`);
  warnOfLost(
    place,
    names.map((name) => [name]),
  );
  return 0;
}
