import { type OpenPlace, placeOf, withSeeds } from '../cli/chosen-folder.ts';
import { failureLine } from '../cli/failure-line.ts';
import { commit } from '../cli/kept-changes.ts';
import { Options } from '../cli/options.ts';
import { keyId } from '../derive/tree.ts';
import { exitStatus, Failure } from '../failure.ts';
import { decodeFixed, readHeader } from '../fixed/file.ts';
import { type FixedName, nameText } from '../fixed/name.ts';
import { counted, say, warn } from '../terminal/say.ts';
import { type RaisedEpochs, raisedEpochs } from '../vault/epoch.ts';
import type { Vault } from '../vault/vault.ts';

/**
 * `auxcred rekey [SCOPE...]`: re-encrypts fixed secrets of earlier epochs under the epoch in vault.toml; `--next`
 * raises that first. If interrupted, run it again: it finishes the rest.
 */
export async function rekey(argv: readonly string[]): Promise<number> {
  const options = new Options('rekey', argv);
  const present = placeOf(options);
  const { vault, folder } = present;
  if (!vault) throw new Failure('usage', "only the operator's vault knows earlier epochs", { hint: '--vault=DIR' });
  const given = [...new Set(options.operands.map((scope) => scope.replace(/\/+$/, '')))];
  for (const scope of given)
    if (!/^(?:host|group)\/[^/]+$/.test(scope))
      throw new Failure('usage', `${scope} is not a scope`, { hint: 'host/web1, group/db' });
  if (options.flag('next') && given.length === 0)
    throw options.lacks('a scope whose epoch to raise', 'auxcred rekey --next host/web1');
  const raised = options.flag('next') ? raisedEpochs(vault, given) : undefined;
  const scopes = given.length > 0 ? given : [...new Set(folder.list().names.map(({ scope }) => scope))];
  let failed = 0;
  const attempt = (work: () => boolean): boolean => {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      failed++;
      say(failureLine(error));
      return false;
    }
  };
  const place = { ...present, vault: raised?.vault ?? vault };
  const done = await withSeeds(place, options, (open) => {
    // Written only now: without the fleet seed, files of the former epoch would stay.
    if (raised) raise(raised);
    const old = scopes.flatMap((scope) => folder.list(scope).names).filter((name) => attempt(() => isOld(open, name)));
    // Said before the work, so that an interrupted run has said it too.
    sayKnown(old);
    return old.filter((name) => attempt(() => rekeyed(open, name))).length;
  });
  say(`re-encrypted ${counted(done, 'secret')}`);
  commit(place, `Rekey ${given.join(', ') || 'all scopes'}`, 'vault.toml');
  return failed === 0 ? 0 : exitStatus.malformed;
}

function raise({ vault, epochs, write }: RaisedEpochs): void {
  write();
  for (const [scope, epoch] of epochs)
    say(
      `${scope} is in epoch ${String(epoch)} now: every secret derived from it is new; ` +
        'auxcred push sends them to the hosts',
    );
  sayGroups(vault, [...epochs.keys()]);
}

/** Names the values that a holder of the old seed knows, which re-encryption does not change. */
function sayKnown(names: readonly FixedName[]): void {
  if (names.length === 0) return;
  const [what, stay, it] =
    names.length === 1 ? ['this value', 'stays', 'it'] : [`these ${String(names.length)} values`, 'stay', 'them'];
  say(`${what} ${stay} the same, and anyone with the old seed knows ${it}:`);
  for (const name of names) say(`  ${nameText(name)}`);
  say(
    `hint: change ${names.length === 1 ? 'it' : 'each'} at its issuer, then run auxcred put --force NAME, or ` +
      'auxcred fetch if another vault has it',
  );
}

/** A host has the seeds of its groups, so they are stolen along with it. */
function sayGroups({ hosts }: Vault, given: readonly string[]): void {
  for (const { name, groups } of hosts.values()) {
    const others = groups.map((group) => `group/${group}`).filter((group) => !given.includes(group));
    if (given.includes(`host/${name}`) && others.length > 0)
      warn(
        `${name} also has the seeds of ${others.join(', ')}`,
        `if it was stolen: auxcred rekey --next ${others.join(' ')}`,
      );
  }
}

/** Whether the file is not of the current epoch. */
function isOld({ folder, seedOf }: OpenPlace, name: FixedName): boolean {
  return Buffer.compare(readHeader(name, folder.bytes(name)).keyId, keyId(seedOf(name.scope).seed)) !== 0;
}

/** Re-encrypts a file of an earlier epoch. @throws Failure `malformed` if it opens under none */
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
    throw new Failure('malformed', `${nameText(name)} does not open under any epoch of ${name.scope}`, {
      hint: 'auxcred verify says more',
    });
  open.folder.write(name, value, open);
  value.fill(0);
  return true;
}
