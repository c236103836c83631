import { type OpenView, opensVault, withOpenView } from '../cli/chosen-manifest.ts';
import { chosen } from '../cli/chosen-recipe.ts';
import { Options } from '../cli/options.ts';
import { isKeyKind } from '../derive/kind.ts';
import { recipeValue } from '../derive/value.ts';
import { Failure } from '../failure.ts';
import { print, printJson, printTable, say } from '../terminal/say.ts';
import { readVault, vaultFolder } from '../vault/vault.ts';

/**
 * `auxcred public NAME` prints the public half of a key pair; `--all` prints those of all key pairs in the manifest.
 */
export async function publicCommand(argv: readonly string[]): Promise<number> {
  const options = new Options('public', argv);
  if (!options.flag('all')) {
    const [name = ''] = options.exactly('the name of a secret');
    const value = await withOpenView(options, (view) => publicHalf(view, name, options));
    if (options.flag('json')) printJson({ [name]: value });
    else print(value.trimEnd());
    return 0;
  }
  options.exactly();
  // On the operator's side, --all without a host means every host of the vault.
  const everyHost = opensVault(options) && options.value('host') === undefined;
  const hosts = everyHost ? [...readVault(vaultFolder(options.value('vault'), process.env)).hosts.keys()] : [undefined];
  const keys: Record<string, Record<string, string>> = {};
  for (const host of hosts) {
    const ofHost = host === undefined ? options : options.with('host', host);
    keys[host ?? ''] = await withOpenView(ofHost, (view) =>
      Object.fromEntries(keyPairs(view).map((name) => [name, publicHalf(view, name, ofHost)])),
    );
  }
  if (options.flag('json')) printJson(everyHost ? keys : keys['']);
  else if (Object.values(keys).every((values) => Object.keys(values).length === 0)) say('no key pair is declared');
  else
    printTable([
      everyHost ? ['HOST', 'NAME', 'PUBLIC'] : ['NAME', 'PUBLIC'],
      ...Object.entries(keys).flatMap(([host, values]) =>
        Object.entries(values).map(([name, value]) => [
          ...(everyHost ? [host] : []),
          name,
          value.trimEnd().replaceAll('\n', ' '),
        ]),
      ),
    ]);
  return 0;
}

const keyPairs = ({ manifest }: OpenView): string[] =>
  manifest.declarations
    .filter(({ content }) => content.form === 'derived' && isKeyKind(content.options.kind))
    .map(({ name }) => name)
    .sort();

function publicHalf(view: OpenView, name: string, options: Options): string {
  const recipe = chosen(view, name, options);
  if (recipe.form !== 'derived' || !isKeyKind(recipe.options.kind))
    throw new Failure('usage', `${name} has no public half`, {
      hint: `the key pairs are ${keyPairs(view).join(', ') || 'none in this manifest'}`,
    });
  return new TextDecoder().decode(recipeValue({ form: 'public', of: recipe }, view.sources));
}
