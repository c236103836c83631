import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { chosenPolicy } from '../cli/chosen-policy.ts';
import { checkedRecipient, chosenCredsKey, chosenKey, hostName, installedTpm } from '../cli/chosen-sealing.ts';
import { scopesIn, seedIn } from '../cli/given-seeds.ts';
import { activation } from '../cli/next-step.ts';
import { Options } from '../cli/options.ts';
import { keyId, seedLength } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { isOnEncryptedDisk } from '../health/platform.ts';
import { ReadableFiles } from '../health/readable-files.ts';
import { openersOf } from '../machine/openers.ts';
import { type SealWishes, sealMachine } from '../machine/sealing.ts';
import { sayLocking } from '../machine/sealing-report.ts';
import { oneAtATime } from '../machine/store-lock.ts';
import { manifestFiles } from '../manifest/folder.ts';
import { activeSnapshot } from '../provision/active-snapshot.ts';
import { restoreHint } from '../seeds/lost-seeds.ts';
import type { Sealing } from '../seeds/payload.ts';
import { type Pins, pinsOf, usablePins } from '../seeds/pins.ts';
import { type Scope, scopeName, wipeScopes } from '../seeds/scope.ts';
import { wordsOf } from '../seeds/words.ts';
import { isNoLoss, type Loss, lossText, lossUnder } from '../snapshot/loss.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { isTerminal } from '../system/terminals.ts';
import { counted, handOut, say, warn } from '../terminal/say.ts';

/** `auxcred seal`: creates or imports this machine's seed, and seals it to the machine. */
export async function seal(argv: readonly string[]): Promise<number> {
  const options = new Options('seal', argv);
  options.exactly();
  const root = options.value('root') ?? '/';
  const paths = pathsUnder(root);
  const openers = openersOf(paths, options.value('tpm2-device'));
  const withKey = chosenKey(options.value('with-key') ?? 'host', openers.device);
  const credsKey = chosenCredsKey(options.value('creds-key'), withKey);
  // Checked before any question: a new seed loses every old secret.
  refuseExisting(paths, options);
  if (options.value('scopes') === undefined && options.value('seed-file') === undefined) refuseLoss(paths, [], options);
  const device = withKey === 'host' ? undefined : openers.device;
  const installed = installedTpm(root, options);
  const policy = await chosenPolicy(options, { withKey, credsKey, device }, paths, undefined);
  const { scopes, known } = chosenScopes(options, paths);
  try {
    refuseLoss(paths, scopes, options);
    const { recovery, printWords } = await chosenRecovery(options, known);
    const sealing: Sealing = {
      withKey,
      credsKey,
      recovery,
      ...policy,
      device,
    };
    return await oneAtATime(root, 'wait', async () => {
      refuseExisting(paths, options);
      const loss = refuseLoss(paths, scopes, options);
      const before = usablePins(paths);
      const accepted = {
        installed,
        acceptOlder: options.flag('accept-older'),
        acceptWeak: options.flag('accept-weak'),
      };
      await sealOver(root, scopes, sealing, { ...accepted, printWords });
      if (sealing.lock !== undefined) sayLocking(sealing);
      if (options.flag('replace')) sayReplaced(paths, scopes, before, loss);
      if (withKey === 'host') sayShared(paths);
      if (!options.flag('replace')) sayToActivate(paths);
      return 0;
    });
  } finally {
    wipeScopes(scopes);
  }
}

/**
 * Seals the seeds, and shows their words before they replace anything.
 * @throws Failure and leaves everything unchanged
 */
async function sealOver(
  root: string,
  scopes: readonly Scope[],
  sealing: Sealing,
  { printWords, ...accepted }: Pick<SealWishes, 'acceptOlder' | 'acceptWeak' | 'installed'> & { printWords: boolean },
): Promise<void> {
  let shown = false;
  const showWords = (): void => {
    say('write down these 24 words: they are the seed, and are shown only once');
    handOut(
      'the 24 words',
      scopes.map((scope) => `${scopes.length === 1 ? '' : `${scopeName(scope)}: `}${wordsOf(scope.seed)}\n`).join(''),
    );
    shown = true;
  };
  // Rewrites the snapshot of this seed, so that the replaced file can't be restored.
  const counter = 1 + (activeSnapshot(pathsUnder(root), scopes)?.counter ?? 0);
  try {
    await sealMachine(
      root,
      { counter, scopes, sealing },
      { ...accepted, wasClosed: true, srk: undefined, ...(printWords ? { beforehand: showWords } : {}) },
    );
  } catch (error) {
    // The seeds' own file may already be in place.
    if (shown)
      warn(
        'the 24 words were shown before this failed: they are valid only if auxcred unseal shows key id ' +
          `${scopes.map(({ seed }) => Buffer.from(keyId(seed)).toString('hex')).join(', ')}`,
      );
    throw error;
  }
}

/** Said once, when sealing: the user may not know, and `status` need not repeat it every day. */
function sayShared(paths: Paths): void {
  if (isOnEncryptedDisk(new ReadableFiles(), paths.seeds) === true) return;
  say(
    'the seed and the host key that opens it are on the same disk: unless that is encrypted, anyone who steals it has ' +
      'the secrets; with --with-key=tpm2 they need this machine too',
  );
}

/** Drop-ins of a manifest that was applied before the seal ask for secrets that nothing has made active. */
function sayToActivate(paths: Paths): void {
  if (manifestFiles(paths.root).length > 0) say(`next: ${activation(paths)}, which activates the declared secrets`);
}

/** @throws Failure `refused` */
function refuseExisting(paths: Paths, options: Options): void {
  if (!existsSync(paths.seeds) || options.flag('replace')) return;
  const loss = lossUnder(paths, []);
  throw new Failure(
    'refused',
    `${paths.seeds} exists, and a new seed would change every secret of this ` +
      `machine${loss.fixed > 0 ? `: ${counted(loss.fixed, 'fixed secret')} would be lost` : ''}`,
    {
      hint: 'auxcred unseal shows what it holds, auxcred reseal seals it again, --replace seals a new one instead',
    },
  );
}

/**
 * Refuses to seal seeds if others were sealed before: everything that depends on those would be lost.
 * @returns what is lost, if that is intended
 * @throws Failure `refused`
 */
function refuseLoss(paths: Paths, scopes: readonly Scope[], options: Options): Loss {
  const loss = lossUnder(paths, scopes);
  if (isNoLoss(loss) || options.flag('replace')) return loss;
  throw new Failure(
    'refused',
    `this machine had another seed, and ${paths.seeds} is missing: with a new seed it would lose ${lossText(loss)}`,
    { hint: `${restoreHint(paths)}; --replace gives it up` },
  );
}

/** Says which scopes have new secrets, and what is lost. */
function sayReplaced(paths: Paths, scopes: readonly Scope[], before: Pins | undefined, loss: Loss): void {
  const fresh = scopes
    .map((scope) => scopeName(scope))
    .filter((name) => {
      const [was, is] = [before?.scopes.get(name), pinsOf(scopes, undefined).scopes.get(name)];
      return !was || !is || Buffer.compare(was.keyId, is.keyId) !== 0;
    });
  say(
    `${fresh.length === 0 ? 'the secrets stay the same' : `every secret of ${fresh.join(' and ')} is new`}; ` +
      `${activation(paths)} activates them`,
  );
  if (loss.fixed > 0)
    warn(
      `${counted(loss.fixed, 'fixed secret')} can no longer be opened`,
      'auxcred put --force NAME, or auxcred push from the vault',
    );
}

/** The scopes to seal: the operator's, or this host's own with a given or a new seed. */
function chosenScopes(options: Options, paths: Paths): { scopes: Scope[]; known: boolean } {
  const file = options.value('scopes');
  const seedFile = options.value('seed-file');
  const given = seedFile === undefined ? undefined : seedIn(seedFile);
  if (file === undefined)
    return {
      scopes: [
        {
          kind: 'host',
          name: hostName(options.value('name'), paths),
          epoch: 1,
          seed: given ?? new Uint8Array(randomBytes(seedLength)),
        },
      ],
      known: given !== undefined,
    };
  for (const other of ['seed-file', 'name'])
    if (options.value(other) !== undefined)
      throw new Failure('usage', `--scopes and --${other} do not go together`, {
        hint: 'the scopes include their seeds and names',
      });
  return { scopes: scopesIn(file), known: true };
}

/** A new seed that only this machine can open dies with its mainboard, so a way to recover it is required up front. */
async function chosenRecovery(
  options: Options,
  seedIsKnown: boolean,
): Promise<{ recovery: string[]; printWords: boolean }> {
  const recovery = options.list('recipient').map(checkedRecipient);
  const printWords = options.flag('print-words');
  if (recovery.length > 0 || printWords || options.flag('no-recovery') || seedIsKnown) return { recovery, printWords };
  const missing = new Failure('usage', 'a new seed needs a way to recover it when this machine dies', {
    hint: 'one of --recipient=age1..., --print-words (24 words for paper) and --no-recovery',
  });
  if (!isTerminal(0)) throw missing;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = (await terminal.question('age recipient for recovery (empty: show 24 words once): ')).trim();
    return answer === ''
      ? { recovery: [], printWords: true }
      : { recovery: [checkedRecipient(answer)], printWords: false };
  } finally {
    terminal.close();
  }
}
