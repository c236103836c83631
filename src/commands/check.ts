import { withMachineProblems } from '../provision/machine-problems.ts';
import { type Manifest, readManifest } from '../manifest/manifest.ts';
import type { Problem } from '../manifest/declaration.ts';
import { exitStatus } from '../failure.ts';
import { Options } from '../cli/options.ts';
import { counted, print, printJson, say } from '../terminal/say.ts';
import { isOperator, manifestFor, vaultHost } from '../cli/chosen-manifest.ts';

/** The manifest of the system at `root` with what that machine has against it among its problems. */
export const manifestOn = (root: string): Manifest => withMachineProblems(root, readManifest(root));

/** `auxcred check`: every problem of this machine's manifest, or of a host's in the vault, with its place and the way out. */
export function check(argv: readonly string[]): number {
  const options = new Options('check', argv);
  options.exactly();
  const root = options.value('root') ?? '/';
  const { files, declarations, problems } = isOperator(options) ? manifestFor(vaultHost(options).host, options) : manifestOn(root);
  const broken = problems.some(({ severity }) => severity === 'error');
  if (options.flag('json')) {
    printJson({ files: files.map(({ path }) => path), secrets: declarations.length, problems });
  } else {
    for (const problem of problems) print(problemText(problem));
    const units = new Set(declarations.flatMap((declaration) => declaration.units));
    say(`${counted(declarations.length, 'secret')} for ${counted(units.size, 'unit')} in ${counted(files.length, 'file')}: ${broken ? 'not usable as they are' : 'ok'}`);
  }
  return broken ? exitStatus['invalid-manifest'] : 0;
}

/** `FILE:LINE: error: what is wrong (the way out)`. */
export function problemText({ file, line, key, message, hint, severity }: Problem): string {
  const place = `${file}${line === undefined ? '' : `:${String(line)}`}`;
  return `${place}: ${severity}: ${key === undefined ? '' : `${key}: `}${message}${hint === undefined ? '' : `\n    ${hint}`}`;
}
