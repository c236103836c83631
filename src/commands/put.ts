import { askTwice } from '../cli/asked-twice.ts';
import { mayWrite, nameIn, placeOf, withSeeds } from '../cli/chosen-folder.ts';
import { commit } from '../cli/kept-changes.ts';
import { sayNext } from '../cli/next-step.ts';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import { largestValue } from '../fixed/file.ts';
import { nameText } from '../fixed/name.ts';
import { isWholeLine, readInput } from '../system/input.ts';
import { isTerminal } from '../system/terminals.ts';
import { say, warn } from '../terminal/say.ts';

/**
 * `auxcred put NAME`: stores a secret that somebody chose. Asks for it without echoing, or takes standard input or a
 * file byte for byte.
 */
export async function put(argv: readonly string[]): Promise<number> {
  const options = new Options('put', argv);
  const [operand = ''] = options.exactly('the name of a secret');
  const place = placeOf(options);
  const name = nameIn(place, operand);
  const isNew = mayWrite(place, name, options);
  const value = givenValue(options, nameText(name));
  try {
    if (value.length === 0)
      throw new Failure('usage', 'the secret is empty, so nothing was changed', {
        hint: 'auxcred rm removes a secret',
      });
    await withSeeds(place, options, (open) => open.folder.write(name, value, open));
  } finally {
    value.fill(0);
  }
  say(`${isNew ? 'put' : 'replaced'} ${nameText(name)}`);
  commit(place, `${isNew ? 'Add' : 'Change'} ${nameText(name)}`);
  sayNext(place, name);
  return 0;
}

/** The caller wipes it. */
function givenValue(options: Options, name: string): Uint8Array {
  const file = options.value('file');
  const isTyped = file === undefined && isTerminal(0);
  if (isTyped && !options.flag('multiline')) return typedValue(name);
  if (isTyped) say(`${name}: end the input with ^D on a line of its own`);
  if (options.flag('line')) return readInput(file ?? '-', largestValue, 'line');
  const bytes = readInput(file ?? '-', largestValue);
  if (isWholeLine(bytes))
    warn(
      `${name} is one line that ends with a newline, which is now part of it`,
      '--line takes the first line without its newline',
    );
  return bytes;
}

function typedValue(name: string): Uint8Array {
  const value = askTwice(name, 'use a pipe or --file=FILE');
  if (!value) throw new Failure('usage', 'the two entries differ, so nothing was changed');
  return value;
}
