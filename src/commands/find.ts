import { placeOf } from '../cli/chosen-folder.ts';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import { nameText } from '../fixed/name.ts';
import { print, printJson } from '../terminal/say.ts';

/** `auxcred find TEXT...`: prints the names of fixed secrets that contain one of the texts. Opens no seed. */
export function find(argv: readonly string[]): number {
  const options = new Options('find', argv);
  const terms = options.operands.map((term) => term.normalize('NFC').toLowerCase());
  if (terms.length === 0) throw options.lacks('a text to look for');
  const { folder, scope } = placeOf(options);
  const found = folder
    .list(scope)
    .names.map(nameText)
    .filter((name) => terms.some((term) => name.toLowerCase().includes(term)));
  if (options.flag('json')) printJson(found);
  else for (const name of found) print(name);
  if (found.length === 0)
    throw new Failure('not-found', `no fixed secret's name contains ${options.operands.join(' or ')}`);
  return 0;
}
