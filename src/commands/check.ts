import { isOperator, manifestFor, vaultHost } from '../cli/chosen-manifest.ts';
import { Options } from '../cli/options.ts';
import { exitStatus } from '../failure.ts';
import { problemText } from '../manifest/problem-text.ts';
import { manifestOn } from '../provision/machine-problems.ts';
import { counted, print, printJson, say } from '../terminal/say.ts';

/**
 * `auxcred check`: prints every problem of this machine's manifest, or of a host's in the vault, with its place and a
 * fix.
 */
export function check(argv: readonly string[]): number {
  const options = new Options('check', argv);
  options.exactly();
  const root = options.value('root') ?? '/';
  const { files, declarations, problems } = isOperator(options)
    ? manifestFor(vaultHost(options).host, options)
    : manifestOn(root);
  const broken = problems.some(({ severity }) => severity === 'error');
  if (options.flag('json')) {
    printJson({ files: files.map(({ path }) => path), secrets: declarations.length, problems });
  } else {
    for (const problem of problems) print(problemText(problem));
    const units = new Set(declarations.flatMap((declaration) => declaration.units));
    say(
      `${counted(declarations.length, 'secret')} for ${counted(units.size, 'unit')} in ` +
        `${counted(files.length, 'file')}: ${broken ? 'not usable' : 'ok'}`,
    );
  }
  return broken ? exitStatus['invalid-manifest'] : 0;
}
