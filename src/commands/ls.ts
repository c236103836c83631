import { belowIn, placeOf } from '../cli/chosen-folder.ts';
import { type View, viewOf } from '../cli/chosen-manifest.ts';
import { secretSide } from '../cli/chosen-side.ts';
import { Options } from '../cli/options.ts';
import { isKeyKind } from '../derive/kind.ts';
import { ingredients } from '../derive/recipe.ts';
import { strengthOf } from '../derive/strength.ts';
import { Failure } from '../failure.ts';
import { readHeader } from '../fixed/file.ts';
import type { FixedFolder } from '../fixed/folder.ts';
import { type FixedName, nameText } from '../fixed/name.ts';
import { credentialsOf, kindOfContent, receiversOf, type SecretDeclaration } from '../manifest/declaration.ts';
import { dependenciesOf } from '../manifest/dependencies.ts';
import { Recipes } from '../manifest/recipes.ts';
import { print, printJson, printTable, say } from '../terminal/say.ts';
import { branchesOf, drawTree } from '../terminal/tree.ts';

/** One secret in `ls --json`. */
interface Row {
  readonly name: string;
  readonly kind: string;
  /** Bits; undefined for a secret that is made of others. */
  readonly strength: number | undefined;
  readonly scopes: readonly string[];
  readonly rotate: string | undefined;
  /** Whether the manifest fixes its period. */
  readonly held: boolean;
  /** By this machine's clock; `auxcred history` shows what is active. */
  readonly period: string;
  readonly generation: number | undefined;
  readonly public: boolean;
  readonly units: readonly string[];
  readonly credentials: readonly string[];
  readonly delivery: string;
  readonly change: string;
  readonly madeOf: readonly string[];
  readonly file: string;
}

/**
 * `auxcred ls`: lists the secrets of the manifest; in the operator's vault, or for a folder, the tree of the fixed
 * folder. Opens no seed.
 */
export function ls(argv: readonly string[]): number {
  const options = new Options('ls', argv);
  if (options.operands.length > 1) options.exactly('a folder');
  const below = options.operands[0];
  if (
    below !== undefined ||
    options.flag('flat') ||
    options.flag('fixed') ||
    options.value('group') !== undefined ||
    (secretSide(options) === 'vault' && options.value('host') === undefined && options.list('manifest').length === 0)
  )
    return lsFixed(options, below);
  const view = viewOf(options);
  const rows = rowsOf(view);
  if (options.flag('json')) printJson(rows);
  else if (rows.length === 0) say('no secret is declared');
  else
    printTable([
      ['NAME', 'KIND', 'BITS', 'SCOPE', 'PERIOD', 'GENERATION', 'UNITS'],
      ...rows.map((row) => [
        row.name,
        row.kind,
        row.strength === undefined ? '' : row.strength.toFixed(0),
        row.scopes.join(' '),
        row.held ? `${row.period} (held)` : row.period,
        row.generation === undefined ? '' : String(row.generation),
        row.units.join(' ') ||
          (row.delivery === 'credstore'
            ? 'any unit that imports it'
            : row.delivery === 'file'
              ? 'anyone who may read it'
              : row.madeOf.length > 0
                ? `made of ${row.madeOf.join(', ')}`
                : ''),
      ]),
    ]);
  return 0;
}

function lsFixed(options: Options, below: string | undefined): number {
  const place = placeOf(options);
  const { scope, path } = belowIn(place, below);
  const { names } = place.folder.list(scope, path);
  if (names.length === 0 && !options.flag('json') && below === undefined) {
    say(`there is nothing in ${place.folder.path} yet`);
    return 0;
  }
  if (names.length === 0 && below !== undefined)
    throw new Failure('not-found', `there is no ${below} in ${place.folder.path}`, {
      hint: 'auxcred ls --fixed shows everything',
    });
  if (options.flag('json'))
    printJson(names.map((name) => ({ name: nameText(name), ...changedAt(place.folder, name) })));
  else if (options.flag('flat')) print(names.map(nameText).join('\n'));
  else {
    const start = [scope, path].filter((part) => part !== undefined && part !== '').join('/').length;
    print(
      [
        below ?? place.folder.path,
        ...drawTree(branchesOf(names.map((name) => nameText(name).slice(start).replace(/^\//, '')))),
      ].join('\n'),
    );
  }
  return 0;
}

/** When a file was written, according to its header. */
function changedAt(
  folder: FixedFolder,
  name: FixedName,
): { sequence: number; changed: string } | Record<string, never> {
  try {
    const { sequence } = readHeader(name, folder.bytes(name));
    return { sequence, changed: new Date(sequence).toISOString() };
  } catch {
    return {};
  }
}

/** A row for each secret of the manifest, sorted by name. */
function rowsOf({ manifest: { declarations }, standpoint }: View): Row[] {
  // A machine that is not sealed yet has no scopes, but its manifest can still be listed.
  const epochs = new Map([
    ...scopesNamed(declarations, standpoint).map((scope): [string, number] => [scope, 1]),
    ...standpoint.epochs,
  ]);
  const recipes = new Recipes(declarations, { ...standpoint, epochs });
  const names = new Set(declarations.map(({ name }) => name));
  return [...declarations]
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((declaration) => rowOf(declaration, recipes, names));
}

function rowOf(declaration: SecretDeclaration, recipes: Recipes, names: ReadonlySet<string>): Row {
  const { name, content, units, delivery, change, file } = declaration;
  const recipe = recipes.of(name);
  const derived = content.form === 'derived' ? content : undefined;
  return {
    name,
    kind: kindOfContent(content),
    strength: derived ? Math.round(strengthOf(derived.options) * 10) / 10 : undefined,
    scopes: [...new Set(ingredients(recipe).map(({ scope }) => scope))].sort(),
    rotate: derived?.rotate,
    held: derived?.period !== undefined,
    period: recipe.form === 'derived' ? recipe.period : '',
    generation: derived?.generation,
    public: derived !== undefined && isKeyKind(derived.options.kind),
    units,
    credentials: receiversOf(declaration).length === 0 ? [] : credentialsOf(declaration).map(({ id }) => id),
    delivery,
    change,
    madeOf: [...new Set(dependenciesOf(content, (other) => names.has(other)).map((dependency) => dependency.name))],
    file,
  };
}

const scopesNamed = (declarations: readonly SecretDeclaration[], { host }: View['standpoint']): string[] => [
  host,
  ...declarations.flatMap(({ content }) =>
    (content.form === 'derived' || content.form === 'fixed') && content.share !== undefined
      ? [`group/${content.share}`]
      : [],
  ),
];
