import { withOpenView } from '../cli/chosen-manifest.ts';
import { Options } from '../cli/options.ts';
import { generationOf, ingredients, kindOf, nameOf, periodOf } from '../derive/recipe.ts';
import { Failure } from '../failure.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { nearest } from '../nearest.ts';
import { difference } from '../provision/recipe-difference.ts';
import type { HistoryEntry, Snapshot } from '../snapshot/snapshot.ts';
import { waysOut } from '../system/ways-out.ts';
import { printJson, printTable } from '../terminal/say.ts';

/** `auxcred history NAME`: shows when which value of a secret was active on this machine. */
export async function history(argv: readonly string[]): Promise<number> {
  const options = new Options('history', argv);
  const [name = ''] = options.exactly('the name of a secret');
  const entries = await withOpenView(
    options,
    ({ manifest, snapshot }) => snapshot?.history.get(name) ?? neverActive(name, manifest, snapshot),
  );
  const rows = entries.flatMap((entry, i) => [
    rowOf(entry, entries[i - 1]),
    ...(entry.until === undefined ? [] : [removalOf(entry.until)]),
  ]);
  if (options.flag('json')) printJson(rows);
  else
    printTable([
      ['SINCE', 'KIND', 'SCOPE', 'EPOCH', 'PERIOD', 'GENERATION', 'CHANGE'],
      ...rows.map((row) => [row.since, row.kind, row.scope, row.epoch, row.period, row.generation, row.change]),
    ]);
  return 0;
}

/** @throws Failure `not-found`, always; it suggests the nearest name if the secret is not declared */
function neverActive(name: string, { declarations }: Manifest, snapshot: Snapshot | undefined): never {
  const declared = declarations.map((declaration) => declaration.name);
  if (declared.includes(name))
    throw new Failure('not-found', `${name} is declared, but was never active on this machine`, {
      hint: `${waysOut().apply} activates it`,
    });
  throw new Failure('not-found', `no secret ${name} is declared or was ever active on this machine`, {
    hint:
      nearest(name, [...new Set([...declared, ...(snapshot?.history.keys() ?? [])])]) ??
      'auxcred ls shows the declared ones',
  });
}

interface Row {
  readonly since: string;
  readonly kind: string;
  readonly scope: string;
  readonly epoch: string;
  readonly period: string;
  readonly generation: string;
  readonly change: string;
}

const removalOf = (since: string): Row => ({
  since,
  kind: '',
  scope: '',
  epoch: '',
  period: '',
  generation: '',
  change: 'removed',
});

/** A template has the periods and generations of everything it is made of. */
function rowOf({ since, recipe }: HistoryEntry, before: HistoryEntry | undefined): Row {
  const derived = [...new Map(ingredients(recipe).map((one) => [one.name, one])).values()];
  const each = (text: (one: (typeof derived)[number]) => string): string =>
    recipe.form === 'derived' || recipe.form === 'fixed'
      ? derived.map(text).join('')
      : derived
          .filter((one) => text(one) !== '')
          .map((one) => `${nameOf(one)}=${text(one)}`)
          .join(' ');
  return {
    since,
    kind: kindOf(recipe),
    scope: [...new Set(derived.map(({ scope }) => scope))].join(' '),
    epoch: [...new Set(derived.map(({ epoch }) => String(epoch)))].join(' '),
    period: each(periodOf),
    generation: each((source) => String(generationOf(source))),
    change: before && before.until === undefined ? difference(before.recipe, recipe) : 'new',
  };
}
