import { type OpenView, withEveryHost, withOpenView } from '../cli/chosen-manifest.ts';
import { chosenRecipe } from '../cli/chosen-recipe.ts';
import { manifestSide, secretSide } from '../cli/chosen-side.ts';
import { Options } from '../cli/options.ts';
import {
  type PublicKey,
  type PublicKeys,
  publicKeyChanges,
  publicKeysJson,
  readPublicKeys,
  realmText,
} from '../cli/public-keys.ts';
import { isKeyKind } from '../derive/kind.ts';
import { scopeParts } from '../derive/tree.ts';
import { recipeValue } from '../derive/value.ts';
import { Failure } from '../failure.ts';
import { readIfPresent } from '../system/files.ts';
import { shellWord } from '../system/shell.ts';
import { counted, print, printJson, printTable, say } from '../terminal/say.ts';

/**
 * `auxcred public NAME` prints the public half of a key pair; `--all` prints those of all key pairs in the manifest, and
 * `--all --check=FILE` says whether FILE has them as they are now.
 */
export async function publicCommand(argv: readonly string[]): Promise<number> {
  const options = new Options('public', argv);
  const file = options.value('check');
  if (!options.flag('all')) {
    if (file !== undefined) throw options.lacks('--all beside --check', `auxcred public --all --check=${file}`);
    const [name = ''] = options.exactly('the name of a secret');
    const { public: value } = await withOpenView(options, (view) => publicHalf(view, name, options));
    if (options.flag('json')) printJson({ [name]: value });
    else print(value.trimEnd());
    return 0;
  }
  options.exactly();
  const inVault = manifestSide(options) === 'vault' || secretSide(options) === 'vault';
  const everyHost = inVault && options.value('host') === undefined;
  // Read before any seed is opened.
  const written = file === undefined ? undefined : writtenKeys(file);
  const keys = await presentKeys(options, everyHost);
  if (written && file !== undefined) {
    const hosts = everyHost ? new Set([...written.keys(), ...keys.keys()]) : keys.keys();
    check(publicKeyChanges(written, keys, [...hosts].sort()), file);
  } else if (options.flag('json')) printJson(publicKeysJson(keys));
  else show(keys, everyHost);
  return 0;
}

function writtenKeys(file: string): PublicKeys {
  const bytes = readIfPresent(file);
  if (bytes) return readPublicKeys(bytes, file);
  throw new Failure('not-found', `there is no file ${file}`, { hint: rewrite(file) });
}

const rewrite = (file: string): string => `auxcred public --all --json > ${shellWord(file)}`;

/** On the operator's side, `--all` without a host means every host of the vault. */
async function presentKeys(options: Options, everyHost: boolean): Promise<PublicKeys> {
  const keysOf = (view: OpenView): [string, Map<string, PublicKey>] => [
    scopeParts(view.standpoint.host).name,
    new Map(keyPairs(view).map((name) => [name, publicHalf(view, name, options)])),
  ];
  return new Map(everyHost ? await withEveryHost(options, keysOf) : [await withOpenView(options, keysOf)]);
}

/** @throws Failure `refused` after saying what differs */
function check(changes: readonly string[], file: string): void {
  for (const change of changes) say(change);
  if (changes.length > 0)
    throw new Failure('refused', `${file} is not current: ${counted(changes.length, 'difference')}`, {
      hint: rewrite(file),
    });
  say(`${file} is current`);
}

function show(keys: PublicKeys, everyHost: boolean): void {
  const rows = [...keys].flatMap(([host, ofHost]) =>
    [...ofHost].map(([name, { public: value }]) => [
      ...(everyHost ? [host] : []),
      name,
      value.trimEnd().replaceAll('\n', ' '),
    ]),
  );
  if (rows.length === 0) say('no key pair is declared');
  else printTable([everyHost ? ['HOST', 'NAME', 'PUBLIC'] : ['NAME', 'PUBLIC'], ...rows]);
}

const keyPairs = ({ manifest }: OpenView): string[] =>
  manifest.declarations
    .filter(({ content }) => content.form === 'derived' && isKeyKind(content.options.kind))
    .map(({ name }) => name)
    .sort();

function publicHalf(view: OpenView, name: string, options: Options): PublicKey {
  const recipe = chosenRecipe(view, name, options);
  if (recipe.form !== 'derived' || !isKeyKind(recipe.options.kind))
    throw new Failure('usage', `${name} has no public half`, {
      hint: `the key pairs are ${keyPairs(view).join(', ') || 'none in this manifest'}`,
    });
  const value = new TextDecoder().decode(recipeValue({ form: 'public', of: recipe }, view.sources));
  return { realm: realmText(recipe), public: value };
}
