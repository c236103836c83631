import { exitStatus, Failure } from '../failure.ts';
import { decodeFixed, readHeader } from '../fixed/file.ts';
import { type FixedName, nameText } from '../fixed/name.ts';
import { keyId } from '../derive/tree.ts';
import { raiseEpoch } from '../vault/epoch.ts';
import { Options } from './options.ts';
import { commit, type OpenPlace, placeOf, withSeeds } from './place.ts';
import { say } from './say.ts';

/**
 * `auxcred rekey [SCOPE...]`: encrypts fixed secrets of earlier epochs anew under the epoch that vault.toml names; `--next` raises it first.
 * What it was ended in the middle of, it finishes when it is run again.
 */
export async function rekey(argv: readonly string[]): Promise<number> {
  const options = new Options('rekey', argv);
  const { vault, folder } = placeOf(options);
  if (!vault) throw new Failure('usage', 'only the operator\'s vault knows earlier epochs', { hint: '--vault=DIR' });
  const given = options.operands.map((scope) => scope.replace(/\/+$/, ''));
  for (const scope of given) if (!/^(?:host|group)\/[^/]+$/.test(scope)) throw new Failure('usage', `${scope} is not a scope`, { hint: 'host/web1, group/db' });
  if (options.flag('next') && given.length === 0) throw options.lacks('a scope whose epoch is to be raised', 'auxcred rekey --next host/web1');
  if (options.flag('next')) for (const scope of given) say(`${scope} is in epoch ${String(raiseEpoch(vault, scope))} now: every derived secret of it is a new one; auxcred push brings it to the hosts`);
  const scopes = given.length > 0 ? given : [...new Set(folder.list().names.map(({ scope }) => scope))];
  let failed = 0;
  // Read again: the epochs may be others now.
  const place = placeOf(options);
  const done = await withSeeds(place, options, (open) => {
    let count = 0;
    for (const name of scopes.flatMap((scope) => folder.list(scope).names)) {
      try {
        if (rekeyed(open, name)) count++;
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        failed++;
        say(`${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}`);
      }
    }
    return count;
  });
  say(`${String(done)} ${done === 1 ? 'secret is' : 'secrets are'} encrypted anew`);
  commit(place, `Rekey ${given.join(', ') || 'all scopes'}`, 'vault.toml');
  return failed === 0 ? 0 : exitStatus.malformed;
}

/** @returns whether the file was of an earlier epoch */
function rekeyed({ folder, seedOf, former }: OpenPlace, name: FixedName): boolean {
  const bytes = folder.bytes(name);
  const header = readHeader(name, bytes);
  if (Buffer.compare(header.keyId, keyId(seedOf(name.scope).seed)) === 0) return false;
  const seeds = former(name.scope);
  const old = seeds.find(({ seed }) => Buffer.compare(header.keyId, keyId(seed)) === 0);
  const value = old && decodeFixed(old.seed, name.path, bytes);
  for (const { seed } of seeds) seed.fill(0);
  if (!value) throw new Failure('malformed', `${nameText(name)} opens under no epoch of ${name.scope}`, { hint: 'auxcred verify says more' });
  folder.write(name, value, seedOf);
  value.fill(0);
  return true;
}
