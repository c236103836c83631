import { belowIn, mayWrite, nameIn, type OpenPlace, placeOf, withSeeds } from '../cli/chosen-folder.ts';
import { commit } from '../cli/kept-changes.ts';
import { warnOfLost } from '../cli/next-step.ts';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import { type FixedName, nameText } from '../fixed/name.ts';
import { say } from '../terminal/say.ts';

/**
 * `auxcred mv FROM TO`: renames a fixed secret, or everything below a name. The file is re-encrypted, since its name is
 * part of its key.
 */
export const mv = async (argv: readonly string[]): Promise<number> => await transfer('mv', argv);

/** `auxcred cp FROM TO`: the same, but keeps the old one. */
export const cp = async (argv: readonly string[]): Promise<number> => await transfer('cp', argv);

async function transfer(verb: 'mv' | 'cp', argv: readonly string[]): Promise<number> {
  const options = new Options(verb, argv);
  const [from = '', to = ''] = options.exactly('the name of a secret', 'its new name');
  const place = placeOf(options);
  const pairs = pairsOf(place, from, to);
  refuseChains(verb, pairs, from, to);
  const replaced = pairs
    .filter(([, target]) => !mayWrite(place, target, options))
    .map(([, target]) => nameText(target));
  await withSeeds(place, options, (open) => {
    // All of them have to open, or nothing moves.
    for (const [source, target] of pairs) {
      open.folder.open(source, open.seedOf, open.former).value.fill(0);
      open.folder.refuseLookalike(target);
    }
    for (const [source, target] of pairs) copy(open, source, target);
    if (verb === 'mv') for (const [source] of pairs) open.folder.remove(source);
  });
  const what =
    pairs.length === 1
      ? pairs.map(([source, target]) => `${nameText(source)} to ${nameText(target)}`).join('')
      : `${String(pairs.length)} secrets from ${from} to ${to}`;
  const instead = replaced.length === 0 ? '' : `, in place of the old ${replaced.join(', ')}`;
  say(`${verb === 'mv' ? 'moved' : 'copied'} ${what}${instead}`);
  commit(place, `${verb === 'mv' ? 'Move' : 'Copy'} ${what}`);
  if (verb === 'mv') warnOfLost(place, pairs);
  return 0;
}

/** One secret, or each of a folder; a target that ends with a slash is a folder. */
function pairsOf(place: ReturnType<typeof placeOf>, from: string, to: string): [FixedName, FixedName][] {
  const below = belowIn(place, from);
  const single = below.scope !== undefined && below.path !== '' ? nameIn(place, from) : undefined;
  const last = from.replace(/\/+$/, '').split('/').at(-1) ?? '';
  if (single && place.folder.has(single)) {
    const target = nameIn(place, to.endsWith('/') ? `${to}${last}` : to);
    if (nameText(target) === nameText(single)) throw new Failure('usage', `${nameText(single)} has that name`);
    return [[single, target]];
  }
  const inside = place.folder.list(below.scope, below.path).names;
  if (inside.length === 0)
    throw new Failure('not-found', `there is no ${from} in ${place.folder.path}`, {
      hint: 'auxcred ls and auxcred find show what there is',
    });
  const target = belowIn(place, to);
  if (target.scope === undefined || !target.scope.includes('/'))
    throw new Failure('usage', `${to} does not name a scope for the secrets`, { hint: 'host/web1/..., group/db/...' });
  const { scope, path } = target;
  const above = below.path === '' ? '' : `${below.path}/`;
  const start = `${below.scope ?? ''}/${above}`;
  if (`${scope}/${path}/`.startsWith(start)) throw new Failure('usage', `${to} is inside ${from}`);
  return inside.map((name) => [
    name,
    { scope, path: [path, name.path.slice(above.length)].filter((part) => part !== '').join('/') },
  ]);
}

/**
 * Refuses a move in which one secret takes another one's place: x/a/b and x/a/a/b, moved from x/a to x, become x/b and
 * x/a/b. Even in an order that loses none, a killed move could not be finished, since x/a/b may be either of the two.
 */
function refuseChains(
  verb: string,
  pairs: readonly (readonly [FixedName, FixedName])[],
  from: string,
  to: string,
): void {
  const sources = new Set(pairs.map(([source]) => nameText(source)));
  const [source, target] = pairs.find(([, candidate]) => sources.has(nameText(candidate))) ?? [];
  if (!source || !target) return;
  throw new Failure(
    'refused',
    `${nameText(source)} would take the place of ${nameText(target)}, which is in ${from} too, so nothing was changed`,
    { hint: `go through another name: auxcred ${verb} ${from} NAME, then auxcred mv NAME ${to}` },
  );
}

function copy(open: OpenPlace, source: FixedName, target: FixedName): void {
  const { value } = open.folder.open(source, open.seedOf);
  try {
    open.folder.write(target, value, open);
  } finally {
    value.fill(0);
  }
}
