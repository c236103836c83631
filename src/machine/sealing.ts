/** Seals this machine's seeds and replaces the old ones, for `seal`, `reseal` and `receive`. */
import { existsSync } from 'node:fs';
import { parseHeader } from '../age/header.ts';
import { ingredients } from '../derive/recipe.ts';
import { dropInFor, lackingAccess } from '../drop-ins/broker-access.ts';
import { Failure } from '../failure.ts';
import { activeSnapshot } from '../provision/active-snapshot.ts';
import { closedAlternatives, type OpenedSeeds, type Openers, openSeeds } from '../seeds/open.ts';
import { type KeySource, type Payload, type Sealing, usesTpm } from '../seeds/payload.ts';
import { pinsOf, refuseUnpinned, samePins, usablePins } from '../seeds/pins.ts';
import { policyText, tpmObjects } from '../seeds/policies.ts';
import { wipeScopes } from '../seeds/scope.ts';
import { sealPayload } from '../seeds/seal.ts';
import { refuseRewound, type TpmCounter } from '../seeds/tpm-counter.ts';
import { readFixedFile, type Snapshot } from '../snapshot/snapshot.ts';
import { configurationOf, moduleOptions } from '../system/configuration.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { say, warn } from '../terminal/say.ts';
import type { PcrValues } from '../tpm2/policy.ts';
import type { RecordedSrk } from '../tpm2/srk.ts';
import { indexText } from '../tpm2/wire.ts';
import { caughtUp, counterOf, hasCounter } from './counter.ts';
import { sealedIdentity, withSealingKeys } from './keys.ts';
import { openersOf } from './openers.ts';
import { replaceSeeds, type Succession } from './replacing-seeds.ts';
import { saySealed, sayUnconfigured } from './sealing-report.ts';

/** How seeds are sealed. */
export interface SealWishes {
  /** Whether to accept a snapshot that is older than the TPM's counter. */
  readonly acceptOlder: boolean;
  /**
   * The SRK of the TPM that opened the seeds, the only TPM to seal to; undefined if something else opened them, or they
   * are new.
   */
  readonly srk: RecordedSrk | undefined;
  /** Whether the broker may have refused the present seeds: one that did keeps refusing for some seconds. */
  readonly wasClosed: boolean;
  /** Whether PCRs that nothing was measured into may be all that is bound. */
  readonly acceptWeak?: boolean;
  /** The literal PCR values that open the seeds, from those of this boot; by default these alone. */
  readonly branches?: (current: PcrValues) => readonly PcrValues[];
  /** The TPM as the machine will find it, if that is not how it is reached now: an installer may have another way. */
  readonly installed?: { readonly device: string | undefined } | undefined;
  /** Called once the seeds are sealed and were opened again, right before they replace the old ones. */
  readonly beforehand?: () => void;
}

/**
 * Seals `payload` as its sealing says, opens the result with this machine's own keys, and only then replaces the old
 * seeds. If killed at any point, it leaves either the old seeds or the new ones, and they open. The caller holds the
 * lock, and wipes the payload.
 * @returns the counter of the TPM that they are sealed to; undefined if it has none
 * @throws Failure and leaves everything unchanged: `older` for a snapshot that is older than the TPM's counter,
 * `other-tpm` for a TPM that did not open the seeds; where a configuration renders them, `not-pinned` if its pins, and
 * `refused` if its unit files do not fit
 */
export async function sealMachine(root: string, given: Payload, wishes: SealWishes): Promise<TpmCounter | undefined> {
  const paths = pathsUnder(root);
  const { scopes, sealing: reached } = given;
  const { installed, acceptOlder, wasClosed, beforehand } = wishes;
  const sealing = installed && reached.device !== undefined ? { ...reached, ...installed } : reached;
  const payload = { ...given, sealing };
  refuseUnpinned(paths, pinsOf(scopes, sealing.device));
  const snapshot = activeSnapshot(paths, scopes);
  refuseUnfit(root, paths, sealing, snapshot?.sealing.withKey);
  const before = usablePins(paths);
  const sameSeeds = before !== undefined && samePins(before.scopes, pinsOf(scopes, undefined).scopes);
  const active = snapshot ? recordable(paths, snapshot) : firstSnapshot(paths, payload);
  const { srk, ...seeds } = await sealedAndOpened(paths, payload, reached, wishes);

  const found = await counterOf(reached, before?.counter, srk);
  if (found && !found.isNew && before?.counter && sameSeeds && !acceptOlder)
    refuseRewound({ ...before.counter, ...found }, active?.tpmCounter);
  const counter = found && { ...found, value: await caughtUp(found, found.value, active?.tpmCounter) };
  const pins = pinsOf(scopes, sealing.device, counter && { index: counter.index, start: counter.value });
  beforehand?.();
  // With the same seeds a broker gives the same answers, and one that is opening them with a TPM must not be stopped.
  const isBrokerOutdated = !sameSeeds || wasClosed;
  const raise = await replaceSeeds({ root, paths, payload, ...seeds, pins, counter, active, isBrokerOutdated });
  saySealed(paths, payload);
  sayUnconfigured(paths, pins);
  if (before?.counter && before.counter.index !== counter?.index) await sayUnused(before.counter.index, before.device);
  return counter && { ...counter, start: counter.value, value: counter.value + raise };
}

/**
 * Seals the seeds, and opens the result as this machine would.
 * @param reached - how to reach the TPM now, which may be another way than the one that the payload names
 * @returns the SRK of the TPM that they are sealed to, among others
 * @throws Failure if nothing opens them
 */
async function sealedAndOpened(
  paths: Paths,
  payload: Payload,
  reached: Sealing,
  { srk, branches, acceptWeak = false }: SealWishes,
): Promise<Pick<Succession, 'sealed' | 'sealedKey'> & Pick<OpenedSeeds, 'srk'>> {
  const sealedKey = reached.withKey === 'systemd-creds' ? await sealedIdentity(paths, reached) : undefined;
  const sealed = await withSealingKeys(
    paths,
    reached,
    { sealedKey, srk, branches, acceptWeak },
    async (keys) => await sealPayload(payload, keys),
  );
  const openers = openersOf(paths, reached.device);
  const reopened = await testOpened(
    sealed,
    sealedKey ? { ...openers, keys: { ssh: undefined, age: undefined, sealed: sealedKey.open } } : openers,
  );
  return { sealed, sealedKey, srk: reopened.srk };
}

/** Says how to remove a counter, unless it was in a TPM that is no longer here. */
async function sayUnused(index: number, device: string | undefined): Promise<void> {
  if (await hasCounter(device, index))
    say(`the TPM's counter ${indexText(index)} is no longer used; tpm2_nvundefine -C o ${indexText(index)} removes it`);
}

/**
 * Opens seeds that were just sealed, under each of their policies that the TPM accepts now. Says which it does not.
 * @returns the SRK of the TPM that they are sealed to; undefined without one
 * @throws Failure if nothing opens them, unless a lock alone keeps them closed until the next boot
 */
async function testOpened(sealed: Uint8Array, openers: Openers): Promise<Pick<OpenedSeeds, 'srk'>> {
  const [first, ...more] = tpmObjects(parseHeader(sealed).stanzas);
  try {
    const { payload, srk } = await openSeeds(sealed, openers);
    wipeScopes(payload.scopes);
    for (const { policy, failure } of more.length > 0 ? await closedAlternatives(sealed, openers) : [])
      warn(`${policyText(policy)} could not be tried, since it does not open now: ${failure.message}`, failure.hint);
    return { srk };
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'until-boot' || !first) throw error;
    warn(
      'the new file could not be test-opened, because its lock opens only at the next boot. Until then, keep the key ' +
        'or words that opened the seed now; if the broker ends before, no unit with secrets starts',
    );
    return { srk: { srkName: first.srkName, srkTemplate: first.srkTemplate } };
  }
}

/** The active snapshot, if all its files are there to write it again; else the next provision does that. */
function recordable(paths: Paths, snapshot: Snapshot): Snapshot | undefined {
  const gone = snapshot.releases
    .flatMap(({ recipe }) => ingredients(recipe))
    .find((source) => source.form === 'fixed' && readFixedFile(paths, source) === undefined);
  if (!gone) return snapshot;
  warn(
    `the file of ${gone.scope}/${gone.form === 'fixed' ? gone.path : gone.name} is gone or damaged, so the ` +
      'active snapshot still records the old sealing',
    'auxcred provision',
  );
  return undefined;
}

/**
 * What is recorded if nothing was ever activated: a configuration's pins name the TPM's counter without a start, so
 * every store needs a number.
 */
const firstSnapshot = (paths: Paths, { sealing }: Payload): Snapshot | undefined =>
  configurationOf(paths) !== undefined && usesTpm(sealing.withKey)
    ? {
        counter: 0,
        sealing,
        releases: [],
        history: new Map(),
        fingerprints: new Map(),
        fingerprintLabel: 'release',
      }
    : undefined;

/**
 * Refuses a sealing that the configuration's unit files do not fit.
 * @param present - the key of the present seal, which the broker needs until the new one is there
 * @throws Failure `refused` if the configuration's unit files keep the broker from opening seeds that are so sealed
 */
function refuseUnfit(root: string, paths: Paths, sealing: Sealing, present: KeySource | undefined): void {
  const configuration = configurationOf(paths);
  if (configuration === undefined) return;
  const lacking = lackingAccess(paths, dropInFor(root, sealing, existsSync(paths.sshHostKey)));
  if (lacking.length === 0) return;
  const device = sealing.device === undefined ? '' : `, ${moduleOptions.device} = "${sealing.device}"`;
  const also =
    present === undefined || present === sealing.withKey ? '' : `, ${moduleOptions.alsoWithKey} = [ "${present}" ]`;
  const hostKey =
    sealing.withKey === 'host' ? `, ${moduleOptions.sshHostKey} = ${String(existsSync(paths.sshHostKey))}` : '';
  throw new Failure(
    'refused',
    `the configuration does not give auxcred.service what --with-key=${sealing.withKey} needs: ${lacking.join(', ')}`,
    {
      hint:
        `${moduleOptions.withKey} = "${sealing.withKey}"${also}${hostKey}${device}; then ${configuration.switch}, ` +
        'and seal again',
    },
  );
}

/** The parts of a sealing that a TPM policy is made of. */
export type WantedPolicy = Pick<Sealing, 'pcrs' | 'signed' | 'pcrlock' | 'lock'>;
/** The same, bound now or later. */
export type BoundPolicy = WantedPolicy & Pick<Sealing, 'pcrsAtFirstBoot' | 'authorityAtFirstBoot'>;

/** A policy to bind now, or at the first boot of a system that is being installed. */
export function boundWhenRunning({ pcrs, signed, pcrlock, lock }: WantedPolicy, root: string): BoundPolicy {
  const authority = {
    ...(signed && { signed }),
    ...(pcrlock !== undefined && { pcrlock }),
    ...(lock !== undefined && { lock }),
  };
  if (systemIsRunning(root)) return { pcrs, pcrsAtFirstBoot: [], ...authority };
  const isLater = Object.keys(authority).length > 0;
  return { pcrs: [], pcrsAtFirstBoot: pcrs, ...authority, ...(isLater && { authorityAtFirstBoot: true }) };
}

/** The policy of a sealing, bound or not yet. */
export const wantedPolicy = ({ pcrs, pcrsAtFirstBoot, signed, pcrlock, lock }: Sealing): WantedPolicy => ({
  pcrs: [...new Set([...pcrs, ...pcrsAtFirstBoot])].sort((a, b) => a - b),
  signed,
  pcrlock,
  lock,
});

/** A sealing with another policy. */
export function withPolicy(sealing: Omit<Sealing, keyof BoundPolicy>, policy: BoundPolicy): Sealing {
  const { withKey, credsKey, recovery, device } = sealing;
  return { withKey, ...(credsKey && { credsKey }), recovery, device, ...policy };
}
