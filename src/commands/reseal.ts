import { existsSync } from 'node:fs';
import { parseHeader } from '../age/header.ts';
import { decryptWith } from '../age/identities.ts';
import { type BranchMode, branchesText, branchMode, chosenBranches, isPrepared } from '../cli/chosen-branches.ts';
import { chosenPolicy } from '../cli/chosen-policy.ts';
import { checkedRecipient, chosenCredsKey, chosenKey, installedTpm } from '../cli/chosen-sealing.ts';
import { scopesIn, seedIn } from '../cli/given-seeds.ts';
import { Options } from '../cli/options.ts';
import { exitStatus, Failure, messageOf } from '../failure.ts';
import { dependsOnKernel } from '../health/next-boot.ts';
import { ReadableFiles } from '../health/readable-files.ts';
import { sealedSeeds } from '../health/sealed-seeds.ts';
import { clearUnprepared, recordUnprepared } from '../health/unprepared.ts';
import { deliverDirectly } from '../machine/delivering.ts';
import { openersOf } from '../machine/openers.ts';
import { sealMachine, wantedPolicy, withPolicy } from '../machine/sealing.ts';
import { sayLocking } from '../machine/sealing-report.ts';
import { oneAtATime } from '../machine/store-lock.ts';
import { activeSnapshot } from '../provision/active-snapshot.ts';
import { undelivered } from '../provision/undelivered.ts';
import { devicePatience, missingSeeds, type OpenedSeeds, openPinnedSeeds } from '../seeds/open.ts';
import { type Payload, parsePayload, type Sealing } from '../seeds/payload.ts';
import { type Pins, pinsHint, pinsPlace, readPins, type SeedSource, usablePins, verifyPins } from '../seeds/pins.ts';
import { tpmObjects } from '../seeds/policies.ts';
import { type Scope, wipeScopes } from '../seeds/scope.ts';
import { refuseOldSeeds, refuseRewound } from '../seeds/tpm-counter.ts';
import type { Snapshot } from '../snapshot/snapshot.ts';
import { readIfPresent } from '../system/files.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { askSecret } from '../terminal/prompt.ts';
import { counted, say, warn } from '../terminal/say.ts';
import { literalPcrs } from '../tpm2/policy.ts';

/** The options that name another source of the seeds than the machine itself. */
const recoveries = ['identity', 'seed-file', 'scopes'] as const;

/**
 * `auxcred reseal`: seals the same seeds again: to the current PCRs, to another key of the machine, to other recovery
 * recipients. If the machine can no longer open them, a recovery key does (`--identity=`), or the user brings them
 * (`--seed-file=`, `--scopes=`). No secret changes.
 */
export async function reseal(argv: readonly string[]): Promise<number> {
  const options = new Options('reseal', argv);
  options.exactly();
  refuseTogether(options, recoveries, 'either of them is enough');
  for (const name of ['tpm2-pcrs', 'tpm2-public-key', 'tpm2-pcrlock', 'lock-after-unseal'])
    refuseTogether(options, [`no-${name}`, name], 'leave out one of them');
  const root = options.value('root') ?? '/';
  const paths = pathsUnder(root);
  const mode = branchMode(options);
  if (mode.kind !== 'installed') return await sealedAgain(root, paths, options, mode);
  return await keptPrepared(paths, async () => await sealedAgain(root, paths, options, mode));
}

/**
 * Prepares the seed for what is installed, as after an update of the kernel. Does nothing if the seed opens whatever
 * kernel boots, or with each of these already. A failure is recorded, for `status` and `doctor`.
 */
async function keptPrepared(paths: Paths, sealAgain: () => Promise<number>): Promise<number> {
  const { object } = sealedSeeds(new ReadableFiles(), paths);
  try {
    const branches = object && dependsOnKernel(literalPcrs(object.policy)) ? isPrepared(paths, object.policy) : 0;
    const status = branches === undefined ? await sealAgain() : 0;
    clearUnprepared(paths);
    if (branches !== undefined)
      say(
        branches === 0
          ? 'no literal PCR is bound that another kernel changes'
          : `the seed opens with every kernel that is installed (${branchesText(branches)})`,
      );
    return status;
  } catch (error) {
    recordUnprepared(paths, messageOf(error), new Date());
    throw error;
  }
}

async function sealedAgain(root: string, paths: Paths, options: Options, mode: BranchMode): Promise<number> {
  return await oneAtATime(root, 'wait', async () => {
    const { payload, srk, policy } = await presentSeeds(paths, options);
    const wasClosed = options.flag('accept-older') || recoveries.some((name) => options.list(name).length > 0);
    try {
      const { pcrsAtFirstBoot } = payload.sealing;
      if (options.flag('first-boot') && !existsSync(paths.unbound)) {
        say('nothing waits for the first boot');
        return 0;
      }
      const counter = 1 + Math.max(payload.counter, activeSnapshot(paths, payload.scopes)?.counter ?? 0);
      const sealing = await changedSealing(payload.sealing, options, paths);
      const { sayBranches, ...branches } = chosenBranches(paths, mode, sealing.pcrs, policy);
      await sealMachine(
        root,
        { ...payload, counter, sealing },
        {
          acceptOlder: options.flag('accept-older'),
          wasClosed,
          // It was chosen when the system was installed, and without it nothing would be bound.
          acceptWeak: options.flag('accept-weak') || options.flag('first-boot'),
          srk,
          ...branches,
          installed: installedTpm(root, options),
        },
      );
      sayBranches();
      if (sealing.lock !== undefined && payload.sealing.lock === undefined) sayLocking(sealing);
      if (pcrsAtFirstBoot.length > 0 && sealing.pcrs.length > 0)
        say(
          `PCR ${sealing.pcrs.join('+')} ${sealing.pcrs.length === 1 ? 'is' : 'are'} bound to this boot's ` +
            `${sealing.pcrs.length === 1 ? 'value' : 'values'}`,
        );
      const resealed = { ...payload, sealing };
      const missing = await undelivered(root, paths, resealed, 'credentials');
      const { made, failures } = await deliverDirectly(root, resealed, missing, 'credentials');
      if (made.length > 0) say(`re-encrypted ${counted(made.length, 'credential')} in ${paths.credstore}`);
      for (const failure of failures) warn(failure, 'auxcred provision tries again');
      say(recoveryText(paths, sealing));
      return failures.length > 0 ? exitStatus.system : 0;
    } finally {
      wipeScopes(payload.scopes);
    }
  });
}

/** What opens the seed if this machine can't. */
function recoveryText({ pushed }: Paths, { recovery }: Sealing): string {
  if (recovery.length > 0) return `recovery: ${recovery.map((recipient) => recipient.slice(0, 24)).join(', ')}`;
  return existsSync(pushed)
    ? "recovery: the operator's vault has the seed"
    : 'only this machine can open it: --add-recipient=age1... adds a recovery key';
}

/** @throws Failure `usage` */
function refuseTogether(options: Options, names: readonly string[], hint: string): void {
  const [one, other] = names.filter((name) => options.list(name).length > 0);
  if (one !== undefined && other !== undefined)
    throw new Failure('usage', `--${one} and --${other} exclude each other`, { hint });
}

/**
 * The seeds, from the named source or as the machine itself opens them, and the TPM that opened them.
 * @throws Failure, `older` for seeds or a snapshot that were rolled back
 */
async function presentSeeds(paths: Paths, options: Options): Promise<Pick<OpenedSeeds, 'payload' | 'srk' | 'policy'>> {
  const acceptOlder = options.flag('accept-older');
  const scopes = givenScopes(paths, options);
  if (scopes)
    return { payload: givenPayload(scopes, activeSnapshot(paths, scopes), options), srk: undefined, policy: undefined };
  if (options.list('identity').length > 0) {
    const { payload, policy } = await recovered(paths, options.list('identity'));
    // The machine itself may not open them, so provision could not accept them.
    const way = 'auxcred reseal --accept-older --identity=FILE';
    if (!acceptOlder) refuseOldSeeds(payload.counter, activeSnapshot(paths, payload.scopes)?.counter ?? 0, way);
    return { payload, srk: undefined, policy };
  }
  const { payload, counter, srk, policy } = await openPinnedSeeds(paths, {
    ...openersOf(paths, options.value('tpm2-device')),
    patience: options.flag('first-boot') ? devicePatience : 0,
  });
  if (acceptOlder) return { payload, srk, policy };
  const snapshot = activeSnapshot(paths, payload.scopes);
  refuseRewound(counter, snapshot?.tpmCounter);
  refuseOldSeeds(payload.counter, snapshot?.counter ?? 0);
  return { payload, srk, policy };
}

/** The seeds that the user brings, which have to be the pinned ones. @throws Failure `not-pinned` */
function givenScopes(paths: Paths, options: Options): readonly Scope[] | undefined {
  const [seedFile, scopesFile] = [options.value('seed-file'), options.value('scopes')];
  if (seedFile === undefined && scopesFile === undefined) return undefined;
  const pins = readPins(paths);
  if (!pins)
    throw new Failure(
      'not-pinned',
      `${pinsPlace(paths).file} is missing, so it is not known which seeds this machine had`,
      {
        hint: pinsHint,
      },
    );
  const scopes = scopesFile === undefined ? [soleScope(pins, seedFile ?? '')] : scopesIn(scopesFile);
  verifyPins(scopes, pins, givenSeeds);
  return scopes;
}

const givenSeeds: SeedSource = {
  what: 'what was given',
  hint:
    'reseal takes the seeds that this machine has, of the same name, groups and epochs: auxcred push from the vault ' +
    'brings others; auxcred seal --replace seals what is given instead',
};

function soleScope({ scopes }: Pins, seedFile: string): Scope {
  const [[name, { epoch }] = ['', { epoch: 1 }], ...more] = scopes;
  if (more.length > 0 || !name.startsWith('host/'))
    throw new Failure(
      'usage',
      `this machine has the seeds of ${[...scopes.keys()].join(', ')}, so one seed is not enough`,
      { hint: 'auxcred scopes HOST | auxcred reseal --scopes=-' },
    );
  return { kind: 'host', name: name.slice('host/'.length), epoch, seed: seedIn(seedFile) };
}

/** The snapshot says how they were sealed; without one, the options have to. @throws Failure `usage` */
function givenPayload(scopes: readonly Scope[], snapshot: Snapshot | undefined, options: Options): Payload {
  if (snapshot) return { scopes, counter: snapshot.counter, sealing: snapshot.sealing };
  if (options.value('with-key') === undefined)
    throw new Failure('usage', 'nothing was ever activated here, so it is not known how these seeds were sealed', {
      hint: '--with-key=host, or --with-key=tpm2 --tpm2-pcrs=4+7; --add-recipient=age1... for recovery',
    });
  return {
    scopes,
    counter: 0,
    sealing: { withKey: 'host', recovery: [], pcrs: [], pcrsAtFirstBoot: [], device: undefined },
  };
}

/**
 * The seeds that a recovery key opens. Without pins, such as on a new disk, the key's owner vouches for them.
 * @throws Failure
 */
async function recovered(
  paths: Paths,
  identities: readonly string[],
): Promise<Pick<OpenedSeeds, 'payload' | 'policy'>> {
  const file = readIfPresent(paths.seeds);
  if (!file) throw missingSeeds(paths);
  const plaintext = await decryptWith(
    {
      identities,
      passphrase: () => Promise.resolve(new TextDecoder().decode(askSecret('passphrase', '--identity=FILE'))),
      hint: 'it takes the key of a recipient that was given with --recipient= or --add-recipient=',
    },
    paths.seeds,
    file,
  );
  try {
    const payload = parsePayload(plaintext);
    const pins = usablePins(paths);
    if (pins) verifyPins(payload.scopes, pins);
    // The header is authentic: its MAC is made with the key that opened the file.
    const [policy] = tpmObjects(parseHeader(file).stanzas).map((object) => object.policy);
    return { payload, policy };
  } finally {
    plaintext.fill(0);
  }
}

/** The sealing that the options ask for; what they leave out stays. @throws Failure as {@link chosenPolicy} */
async function changedSealing(sealing: Sealing, options: Options, paths: Paths): Promise<Sealing> {
  const device = openersOf(paths, options.value('tpm2-device')).device ?? sealing.device;
  const withKey =
    options.value('with-key') === undefined ? sealing.withKey : chosenKey(options.value('with-key') ?? '', device);
  const credsKey =
    chosenCredsKey(options.value('creds-key'), withKey) ?? (withKey === 'systemd-creds' ? sealing.credsKey : undefined);
  const key = { withKey, credsKey, device: withKey === 'host' ? undefined : device };
  return withPolicy(
    { ...key, recovery: chosenRecovery(sealing.recovery, options) },
    await chosenPolicy(options, key, paths, wantedPolicy(sealing)),
  );
}

/** @throws Failure `usage`, `not-found` */
function chosenRecovery(recovery: readonly string[], options: Options): string[] {
  const removed = options.list('remove-recipient');
  const unknown = removed.find((recipient) => !recovery.includes(recipient));
  if (unknown !== undefined)
    throw new Failure('not-found', `${unknown.slice(0, 24)} is not a recovery recipient`, {
      hint: recovery.join(', ') || 'there is none',
    });
  return [
    ...new Set([
      ...recovery.filter((recipient) => !removed.includes(recipient)),
      ...options.list('add-recipient').map(checkedRecipient),
    ]),
  ];
}
