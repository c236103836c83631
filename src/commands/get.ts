import { isUtf8 } from 'node:buffer';
import { withValues } from '../cli/chosen-value.ts';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import { isTerminal } from '../system/terminals.ts';
import { printBytes } from '../terminal/say.ts';

/**
 * `auxcred get NAME` prints a secret's bytes: of a declared secret (the active value on a machine, today's on the
 * operator's side; `--at=` selects a period, `--generation=` a generation), else of the fixed file with that name.
 */
export async function get(argv: readonly string[]): Promise<number> {
  const options = new Options('get', argv);
  const [name = ''] = options.exactly('the name of a secret');
  await withValues([name], options, ([value]) => {
    if (value && isTerminal(1) && !isText(value))
      throw new Failure('usage', `${name} is not text, and the terminal would act on its bytes`, {
        hint: 'send them to a file or a program, as with | base64',
      });
    if (value) printBytes(value);
  });
  return 0;
}

const [tab, newline, carriageReturn, space, del] = [0x09, 0x0a, 0x0d, 0x20, 0x7f];

/** Whether it is text without control characters but those of lines. Looks at bytes, since a string can't be wiped. */
const isText = (value: Uint8Array): boolean =>
  isUtf8(value) &&
  value.every((byte, i) => {
    if (byte < space) return byte === tab || byte === newline || byte === carriageReturn;
    // U+0080 to U+009F are control characters too.
    return byte !== del && !(byte === 0xc2 && (value[i + 1] ?? 0) < 0xa0);
  });
