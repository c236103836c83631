import { commit, type OpenPlace, placeOf, withSeeds } from '../cli/chosen-folder.ts';
import { Options } from '../cli/options.ts';
import { keyId } from '../derive/tree.ts';
import { exitStatus, Failure } from '../failure.ts';
import { decodeFixed, readHeader } from '../fixed/file.ts';
import { type FixedName, nameText } from '../fixed/name.ts';
import { say, warn } from '../terminal/say.ts';
import { raiseEpoch } from '../vault/epoch.ts';
import type { Vault } from '../vault/vault.ts';

/**
 * `auxcred rekey [SCOPE...]`: encrypts fixed secrets of earlier epochs anew under the epoch that vault.toml names; `--next` raises it first.
 * What it was ended in the middle of, it finishes when it is run again.
 */
export async function rekey(argv: readonly string[]): Promise<number> {
  const options = new Options('rekey', argv);
  const { vault, folder } = placeOf(options);
  if (!vault) throw new Failure('usage', "only the operator's vault knows earlier epochs", { hint: '--vault=DIR' });
  const given = options.operands.map((scope) => scope.replace(/\/+$/, ''));
  for (const scope of given)
    if (!/^(?:host|group)\/[^/]+$/.test(scope))
      throw new Failure('usage', `${scope} is not a scope`, { hint: 'host/web1, group/db' });
  if (options.flag('next') && given.length === 0)
    throw options.lacks('a scope whose epoch is to be raised', 'auxcred rekey --next host/web1');
  if (options.flag('next'))
    for (const scope of given)
      say(
        `${scope} is in epoch ${String(raiseEpoch(vault, scope))} now: every derived secret of it is a new one; auxcred push brings it to the hosts`,
      );
  if (options.flag('next')) sayGroups(vault, given);
  const scopes = given.length > 0 ? given : [...new Set(folder.list().names.map(({ scope }) => scope))];
  let failed = 0;
  const attempt = (work: () => boolean): boolean => {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      failed++;
      say(`${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}`);
      return false;
    }
  };
  // Read again: the epochs may be others now.
  const place = placeOf(options);
  const done = await withSeeds(place, options, (open) => {
    const old = scopes.flatMap((scope) => folder.list(scope).names).filter((name) => attempt(() => isOld(open, name)));
    // Before the work, so that a run that is ended halfway has said it.
    sayKnown(old);
    return old.filter((name) => attempt(() => rekeyed(open, name))).length;
  });
  say(`${String(done)} ${done === 1 ? 'secret is' : 'secrets are'} encrypted anew`);
  commit(place, `Rekey ${given.join(', ') || 'all scopes'}`, 'vault.toml');
  return failed === 0 ? 0 : exitStatus.malformed;
}

/** What an old seed tells whoever has it, and re-encryption does not change. */
function sayKnown(names: readonly FixedName[]): void {
  if (names.length === 0) return;
  const [what, stay, it] =
    names.length === 1 ? ['this value', 'stays', 'it'] : [`these ${String(names.length)} values`, 'stay', 'them'];
  say(`${what} ${stay} the same, and whoever has the old seed knows ${it}:`);
  for (const name of names) say(`  ${nameText(name)}`);
  say(
    `hint: change ${names.length === 1 ? 'it' : 'each'} at its issuer, then auxcred put --force NAME, or auxcred fetch for one of another vault`,
  );
}

/** A host has the seeds of its groups, so they are stolen with it. */
function sayGroups({ hosts }: Vault, given: readonly string[]): void {
  for (const { name, groups } of hosts.values()) {
    const others = groups.map((group) => `group/${group}`).filter((group) => !given.includes(group));
    if (given.includes(`host/${name}`) && others.length > 0)
      warn(
        `${name} has the seeds of ${others.join(', ')} too`,
        `if it was stolen: auxcred rekey --next ${others.join(' ')}`,
      );
  }
}

/** Whether the file is of an earlier epoch, or of none. */
function isOld({ folder, seedOf }: OpenPlace, name: FixedName): boolean {
  return Buffer.compare(readHeader(name, folder.bytes(name)).keyId, keyId(seedOf(name.scope).seed)) !== 0;
}

/** Re-encrypts a file of an earlier epoch. @throws Failure `malformed` for one of no epoch */
function rekeyed(open: OpenPlace, name: FixedName): true {
  const bytes = open.folder.bytes(name);
  const old = open.former(name.scope, readHeader(name, bytes).keyId);
  let value: Uint8Array | undefined;
  try {
    value = old && decodeFixed(old.seed, name.path, bytes);
  } finally {
    old?.seed.fill(0);
  }
  if (!value)
    throw new Failure('malformed', `${nameText(name)} opens under no epoch of ${name.scope}`, {
      hint: 'auxcred verify says more',
    });
  open.folder.write(name, value, open);
  value.fill(0);
  return true;
}
