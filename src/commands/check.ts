import { manifestFor, namedFolders } from '../cli/chosen-manifest.ts';
import { manifestSide } from '../cli/chosen-side.ts';
import { chosenHost } from '../cli/chosen-vault.ts';
import { Options } from '../cli/options.ts';
import { exitStatus, Failure } from '../failure.ts';
import type { Unservable } from '../machine/servable.ts';
import { filesIn } from '../manifest/folder.ts';
import { type Manifest, manifestOf } from '../manifest/manifest.ts';
import { problemText } from '../manifest/problem-text.ts';
import { unreadProblems } from '../manifest/unread.ts';
import { manifestOn } from '../provision/machine-problems.ts';
import { pathsUnder } from '../system/paths.ts';
import { counted, print, printJson, say } from '../terminal/say.ts';

/**
 * `auxcred check`: prints every problem of this machine's manifest, of another one for it, or of a host's in the vault,
 * with its place and a fix; with `--servable` also every secret that this machine could not deliver now.
 */
export async function check(argv: readonly string[]): Promise<number> {
  const options = new Options('check', argv);
  options.exactly();
  if (manifestSide(options) === 'vault' && options.flag('servable'))
    throw options.lacks('the machine itself, whose seeds are opened', 'run it there, without --host');
  if (options.list('with-key').length > 0 && !options.flag('servable'))
    throw new Failure('usage', '--with-key needs --servable', { hint: 'auxcred check --servable --with-key=tpm2' });
  const manifest = chosenManifest(options);
  const broken = manifest.problems.some(({ severity }) => severity === 'error');
  const unservable = options.flag('servable') && !broken ? await judged(options, manifest) : undefined;
  if (options.flag('json')) printJson(jsonOf(manifest, unservable));
  else sayAll(manifest, broken, unservable);
  if (broken) return exitStatus['invalid-manifest'];
  const [first] = unservable ?? [];
  return first ? exitStatus[first.failure.code] : 0;
}

/** A folder that is named is judged by itself: the system that it is for may have other users and units. */
function chosenManifest(options: Options): Manifest {
  const named = namedFolders(options);
  if (manifestSide(options) === 'vault') {
    const { host } = chosenHost(options);
    return withUnread(manifestFor(host, options), named.length > 0 ? named : host.manifest);
  }
  if (named.length > 0) return withUnread(manifestOf(filesIn(named)), named);
  const root = options.value('root') ?? '/';
  return withUnread(manifestOn(root), pathsUnder('/').manifestFolders, root);
}

const withUnread = (manifest: Manifest, folders: readonly string[], root?: string): Manifest => ({
  ...manifest,
  problems: [...manifest.problems, ...unreadProblems(folders, root)],
});

async function judged(options: Options, manifest: Manifest): Promise<Unservable[]> {
  // A seed is opened only here: builds call this verb too.
  const { guardMemory } = await import('../system/memory-guard.ts');
  guardMemory();
  const { unservableOf } = await import('../machine/servable.ts');
  return await unservableOf(
    options.value('root') ?? '/',
    options.value('tpm2-device'),
    manifest,
    options.list('with-key'),
  );
}

const jsonOf = (
  { files, declarations, problems }: Manifest,
  unservable: readonly Unservable[] | undefined,
): unknown => ({
  files: files.map(({ path }) => path),
  secrets: declarations.length,
  problems,
  ...(unservable && {
    unservable: unservable.map(({ secret, failure: { code, message, hint } }) => ({ secret, code, message, hint })),
  }),
});

function sayAll(
  { files, declarations, problems }: Manifest,
  broken: boolean,
  unservable: readonly Unservable[] | undefined,
): void {
  for (const problem of problems) print(problemText(problem));
  for (const { secret, failure } of unservable ?? []) {
    print(`${secret} can't be served: ${failure.message}`);
    if (failure.hint !== undefined) print(`    ${failure.hint}`);
  }
  const units = new Set(declarations.flatMap((declaration) => declaration.units));
  const verdict = broken ? 'not usable' : (unservable?.length ?? 0) > 0 ? 'not servable' : 'ok';
  say(
    `${counted(declarations.length, 'secret')} for ${counted(units.size, 'unit')} in ` +
      `${counted(files.length, 'file')}: ${verdict}${verdict === 'ok' && unservable ? ', and servable now' : ''}`,
  );
}
