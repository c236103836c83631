import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { snapshotInForce } from '../deliver/provision.ts';
import { isOnEncryptedDisk } from '../health/platform.ts';
import { Sight } from '../health/sight.ts';
import { seedLength } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import type { Sealing } from '../store/payload.ts';
import { type Pins, pinsOf } from '../store/pins.ts';
import { type Scope, scopeName, wipeScopes } from '../store/scope.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { scopesIn, seedIn } from './given-seeds.ts';
import { meansOf } from './means.ts';
import { Options } from './options.ts';
import { oneAtATime } from './provision.ts';
import { print, say } from './say.ts';
import { pinsIn, sealMachine } from './sealing.ts';
import { checkedRecipient, chosenCredsKey, chosenKey, chosenPcrs, hostName } from './sealing-options.ts';
import { wordsOf } from './words.ts';

/** `auxcred seal`: makes this machine's seed, or takes one, and locks it to the machine. */
export async function seal(argv: readonly string[]): Promise<number> {
  const options = new Options('seal', argv);
  options.exactly();
  const root = options.value('root') ?? '/';
  const paths = pathsUnder(root);
  refuseExisting(paths, options);
  const means = meansOf(paths, options.value('tpm2-device'));
  const withKey = chosenKey(options.value('with-key') ?? 'host', means.device);
  const credsKey = chosenCredsKey(options.value('creds-key'), withKey);
  const pcrs = chosenPcrs(options.value('tpm2-pcrs'), { withKey, credsKey }, root);
  const { scopes, known } = chosenScopes(options, paths);
  const { recovery, printWords } = await chosenRecovery(options, known);

  const sealing: Sealing = { withKey, credsKey, recovery, ...pcrs, device: withKey === 'host' ? undefined : means.device };
  try {
    return await oneAtATime(root, 'wait', async () => {
      refuseExisting(paths, options);
      const before = pinsIn(paths);
      // Over what was in force with this seed before, so that the file it replaces can't come back in its place.
      await sealMachine(root, { counter: 1 + (snapshotInForce(paths, scopes)?.counter ?? 0), scopes, sealing }, options.flag('accept-older'));
      if (options.flag('replace')) sayReplaced(scopes, before);
      if (withKey === 'host') sayShared(paths);
      if (printWords) {
        say('write these 24 words down: they are the seed, and this is the only time that they are shown');
        for (const scope of scopes) print(scopes.length === 1 ? wordsOf(scope.seed) : `${scopeName(scope)}: ${wordsOf(scope.seed)}`);
      }
      return 0;
    });
  } finally {
    wipeScopes(scopes);
  }
}

/** @throws Failure `refused` */
function refuseExisting({ seeds }: Paths, options: Options): void {
  if (!existsSync(seeds) || options.flag('replace')) return;
  throw new Failure('refused', `${seeds} exists, and a new seed changes every secret of this machine`, { hint: 'auxcred unseal shows what it holds; --replace seals a new one in its place' });
}

/** Once, since whoever seals may know nothing of it, and nobody wants to hear it each day. */
function sayShared(paths: Paths): void {
  if (isOnEncryptedDisk(new Sight(), paths.seeds) === true) return;
  say('the seed and the host key that opens it share a disk: unless it is encrypted, whoever takes it has the secrets; with --with-key=tpm2 it takes this machine too');
}

/** Which scopes' secrets are new ones now. */
function sayReplaced(scopes: readonly Scope[], before: Pins | undefined): void {
  const fresh = scopes.map((scope) => scopeName(scope)).filter((name) => {
    const [was, is] = [before?.scopes.get(name), pinsOf(scopes, undefined).scopes.get(name)];
    return !was || !is || Buffer.compare(was.keyId, is.keyId) !== 0;
  });
  say(`${fresh.length === 0 ? 'the secrets stay what they were' : `every secret of ${fresh.join(' and ')} is a new one`}; auxcred apply puts them in force`);
}

/** The scopes to seal: those that the operator gave, or this host's own with a seed that was given or is new. */
function chosenScopes(options: Options, paths: Paths): { scopes: Scope[]; known: boolean } {
  const file = options.value('scopes');
  const seedFile = options.value('seed-file');
  const given = seedFile === undefined ? undefined : seedIn(seedFile);
  if (file === undefined) return { scopes: [{ kind: 'host', name: hostName(options.value('name'), paths), epoch: 1, seed: given ?? new Uint8Array(randomBytes(seedLength)) }], known: given !== undefined };
  for (const other of ['seed-file', 'name']) if (options.value(other) !== undefined) throw new Failure('usage', `--scopes and --${other} do not go together`, { hint: 'the scopes have their seeds and names' });
  return { scopes: scopesIn(file), known: true };
}

/** A new seed that only this machine could open would die with its board, so the way out is asked for up front. */
async function chosenRecovery(options: Options, seedIsKnown: boolean): Promise<{ recovery: string[]; printWords: boolean }> {
  const recovery = options.list('recipient').map(checkedRecipient);
  const printWords = options.flag('print-words');
  if (recovery.length > 0 || printWords || options.flag('no-recovery') || seedIsKnown) return { recovery, printWords };
  const missing = new Failure('usage', 'a new seed needs a way to recover it when this machine dies', { hint: 'one of --recipient=age1..., --print-words (24 words for paper) and --no-recovery' });
  if (!process.stdin.isTTY) throw missing;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = (await terminal.question('age recipient for recovery (empty: show 24 words once): ')).trim();
    return answer === '' ? { recovery: [], printWords: true } : { recovery: [checkedRecipient(answer)], printWords: false };
  } finally {
    terminal.close();
  }
}
