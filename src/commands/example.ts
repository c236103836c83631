import { type ExampleFile, exampleNames, exampleOf, examplesFolder, pageOf } from '../cli/examples.ts';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import { print, say } from '../terminal/say.ts';

/** Ends each file in the printed script; no example has such a line. */
const end = 'END-OF-FILE';

/** `auxcred example`: lists the examples, or prints one as a shell script that writes its files. Changes nothing. */
export function example(argv: readonly string[]): number {
  const options = new Options('example', argv);
  const folder = examplesFolder();
  const [name, extra] = options.operands;
  if (extra !== undefined) throw new Failure('usage', 'example takes only one name');
  if (name === undefined) {
    for (const one of exampleNames(folder)) print(one);
    say(`auxcred example NAME prints one; its page is ${pageOf(folder, 'NAME')}`);
    return 0;
  }
  print(['set -eu', ...exampleOf(folder, name).map(written)].join('\n'));
  say(`what to do with it, command by command: ${pageOf(folder, name)}`);
  return 0;
}

const written = ({ path, text, isExecutable }: ExampleFile): string =>
  `install -D -m ${isExecutable ? '755' : '644'} /dev/stdin ${path} <<'${end}'\n${text}${end}`;
