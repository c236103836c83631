/**
 * Replaces seeds.age and everything that has to fit it. The power may fail, or the process be killed, between any two
 * steps, and then either the old seeds open or the new ones. One rule makes it so: whatever either of them needs is
 * there before seeds.age is replaced, and what only the old ones need is removed afterwards.
 */
import { existsSync, rmSync, symlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { utf8 } from '../bytes.ts';
import type { Fixed } from '../derive/recipe.ts';
import { dropInFor } from '../drop-ins/broker-access.ts';
import { mergedDropIn } from '../drop-ins/broker-drop-in.ts';
import { Failure, messageOf } from '../failure.ts';
import { readLog } from '../measured/measured-log.ts';
import { encodeSummary, summaryOf } from '../measured/summary.ts';
import { brokerGroup } from '../provision/provision.ts';
import { isBoundLater, type Payload, usesTpm } from '../seeds/payload.ts';
import { establishedPins, type Pins, samePins, writePins } from '../seeds/pins.ts';
import { hostScope } from '../seeds/scope.ts';
import { installSnapshot, readFixedFile, type Snapshot } from '../snapshot/snapshot.ts';
import { configurationOf } from '../system/configuration.ts';
import {
  ensureFolder,
  groupId,
  linkTarget,
  removeLeftovers,
  replaceFile,
  replaceIfChanged,
  syncFolder,
  textIfPresent,
} from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import { stopRunning, systemctl, systemIsRunning } from '../system/systemctl.ts';
import { warn } from '../terminal/say.ts';
import { type FoundCounter, raised } from './counter.ts';
import type { SealedIdentity } from './keys.ts';

/** The new seeds, and what comes with them. */
export interface Succession {
  readonly root: string;
  readonly paths: Paths;
  readonly payload: Payload;
  /** The payload as a seeds.age that opens here. */
  readonly sealed: Uint8Array;
  /** The key under systemd-creds that opens it; undefined if another key does. */
  readonly sealedKey: SealedIdentity | undefined;
  readonly pins: Pins;
  /** The counter of the TPM that opens it; undefined if there is none. */
  readonly counter: FoundCounter | undefined;
  /** The snapshot that records the new seeds; undefined if that is left to the next provision. */
  readonly active: Snapshot | undefined;
  /** Whether a running broker has to be replaced. */
  readonly isBrokerOutdated: boolean;
}

/** The drop-in of auxcred.service: as it was, with what both seeds need, and with what the new ones need. */
interface DropIns {
  readonly old: string | undefined;
  readonly both: string;
  readonly next: string;
}

/**
 * Replaces the seeds. The caller holds the lock. A step is a line; below it, what a power cut after it leaves, and who
 * mends that. `auxcred seal` or `reseal` again mends all of it.
 * @returns by how much the TPM's counter was raised
 */
export async function replaceSeeds(next: Succession): Promise<0 | 1> {
  const dropIns = dropInsFor(next);
  makeFolders(next);
  // The old seeds open, and nothing has changed.
  pinBoth(next);
  // The old seeds open. The next provision pins them alone (settlePins). If there were none, seal does not take these
  // pins for those of lost seeds (establishedPins). Until pinNew, no counter is pinned that only one of the two has:
  // after a power cut a restored store goes unnoticed, and the check `counter` of doctor asks for a reseal.
  writeSealedKey(next);
  // The same: it is the same key as before, encrypted again.
  grantBoth(next, dropIns);
  // The same. The broker may use more than it needs, and may start at boot though nothing has to be locked.
  markUnbound(next);
  // The same. The next boot seals the old seeds again (auxcred-bind.service).

  writeSeeds(next);
  // The new seeds open, the old file would still be accepted. The next provision records the new one in the snapshot.
  recordSeeds(next);
  // The old file is refused. The TPM's counter is one behind the snapshot, which is accepted (refuseRewound); the next
  // provision raises it (caughtUp), and pins the new seeds alone.

  pinNew(next);
  // The broker may use more than it needs. The next provision raises the counter.
  grantNew(next, dropIns);
  // If there was a mark, the next boot seals the new seeds again (auxcred-bind.service).
  removeUnboundMark(next);
  // doctor explains a changed PCR by what the boot before measured, or not at all.
  keepMeasurements(next);
  // The next provision raises the counter. It comes after all that is on disk: the store of before is refused then.
  const raise = next.active ? await raised(next.counter) : 0;
  // From here on, a boot does the rest. After a kill, systemd has a drop-in that gives more than is needed, and the
  // broker answers from the old seeds until it ends or the next provision changes something.
  renewBroker(next, dropIns);
  // A key that nothing needs, until the next seal. Last, because the drop-in that systemd had loaded needs it.
  removeSealedKey(next);
  return raise;
}

/** What the drop-in has to be; undefined if a configuration renders it, which is one that fits both seeds. */
function dropInsFor({ root, paths, payload }: Succession): DropIns | undefined {
  if (configurationOf(paths) !== undefined) return undefined;
  const old = textIfPresent(paths.brokerDropIn);
  const next = dropInFor(root, payload.sealing, existsSync(paths.sshHostKey));
  return { old, both: mergedDropIn(old ?? '', next), next };
}

function makeFolders({ paths }: Succession): void {
  if (configurationOf(paths) !== undefined) return;
  for (const folder of [paths.pins, paths.brokerDropIn].map(dirname)) {
    ensureFolder(folder, { mode: 0o755 });
    removeLeftovers(folder);
  }
}

/** Seeds without pins are refused, and can't be sealed over: this is the first step. */
function pinBoth({ paths, pins, counter }: Succession): void {
  const old = establishedPins(paths);
  writePins(
    paths,
    old === undefined || old === 'damaged'
      ? { ...pins, next: pins.scopes }
      : pinsBetween(old, pins, counter?.isNew === true),
  );
}

/** Pins under which both the old and the new seeds open: old seeds that need no TPM also open with a TPM pinned. */
function pinsBetween({ scopes, device }: Pins, next: Pins, isCounterNew: boolean): Pins {
  return {
    scopes,
    device: device ?? next.device,
    ...(samePins(scopes, next.scopes) ? {} : { next: next.scopes }),
    ...(next.counter === undefined || isCounterNew ? {} : { counter: next.counter }),
  };
}

function writeSealedKey({ paths, sealedKey }: Succession): void {
  if (sealedKey) replaceFile(paths.sealedHostKey, sealedKey.credential, { mode: 0o600 });
}

const write = (file: string, text: string): void => {
  replaceIfChanged(file, utf8(text), { mode: 0o644 });
};

/** A broker that starts before the end needs access to whatever either of the two needs. */
function grantBoth({ root, paths, payload }: Succession, dropIns: DropIns | undefined): void {
  if (!dropIns) return;
  write(paths.brokerDropIn, dropIns.both);
  if (isLocked(payload)) startAtBoot(paths);
  if (dropIns.both !== dropIns.old && systemIsRunning(root)) systemctl('daemon-reload');
}

function markUnbound({ paths, payload }: Succession): void {
  if (isBoundLater(payload.sealing)) write(paths.unbound, '');
}

function writeSeeds({ root, paths, sealed }: Succession): void {
  replaceFile(paths.seeds, sealed, { mode: 0o640, group: groupId(root, brokerGroup) });
}

/** Keeps what is active with the new seeds, and ties it to this store: the previous store is refused from now on. */
function recordSeeds({ root, paths, payload, counter: tpmCounter, active }: Succession): void {
  if (!active) return;
  const fileOf = (recipe: Fixed): Uint8Array => {
    const file = readFixedFile(paths, recipe);
    if (file) return file;
    throw new Failure('not-found', `the active file of ${recipe.scope}/${recipe.path} is gone`, {
      hint: 'run auxcred provision',
    });
  };
  const { counter, sealing, scopes } = payload;
  const before = { ...active, tpmCounter: tpmCounter && tpmCounter.value + 1 };
  const snapshot = { ...before, counter, sealing };
  const group = groupId(root, brokerGroup);
  installSnapshot(paths, { before, snapshot, host: hostScope(scopes), group, fileOf });
}

function pinNew({ paths, pins }: Succession): void {
  writePins(paths, pins);
}

function grantNew({ paths, payload }: Succession, dropIns: DropIns | undefined): void {
  if (!dropIns) return;
  write(paths.brokerDropIn, dropIns.next);
  if (!isLocked(payload)) rmSync(paths.brokerAtBoot, { force: true });
}

/** A broker that locks the seeds starts at each boot, whether or not a unit asks for it. */
const isLocked = ({ sealing }: Payload): boolean => sealing.lock !== undefined;

function startAtBoot({ brokerAtBoot }: Paths): void {
  const unit = '/usr/lib/systemd/system/auxcred.service';
  if (linkTarget(brokerAtBoot) === unit) return;
  const folder = dirname(brokerAtBoot);
  ensureFolder(folder, { mode: 0o755 });
  rmSync(brokerAtBoot, { force: true });
  symlinkSync(unit, brokerAtBoot);
  syncFolder(folder);
}

function removeUnboundMark({ paths, payload }: Succession): void {
  if (!isBoundLater(payload.sealing)) rmSync(paths.unbound, { force: true });
}

/** Keeps what this boot measured, so that `doctor` can say later what changed. Nothing depends on it. */
function keepMeasurements({ paths, payload }: Succession): void {
  const { withKey, pcrs } = payload.sealing;
  const isBound = usesTpm(withKey) && pcrs.length > 0;
  try {
    const log = isBound ? readLog({ firmware: paths.firmwareLog, userspace: paths.userspaceLog }) : undefined;
    if (log) replaceFile(paths.measured, encodeSummary(summaryOf(log)), { mode: 0o600 });
    else rmSync(paths.measured, { force: true });
  } catch (error) {
    rmSync(paths.measured, { force: true });
    warn(`what this boot measured can't be kept, so auxcred doctor won't explain a change: ${messageOf(error)}`);
  }
}

/** Has systemd load the drop-in, and ends a broker that would go on with the old seeds. */
function renewBroker({ root, paths, sealedKey, isBrokerOutdated }: Succession, dropIns: DropIns | undefined): void {
  if (!systemIsRunning(root)) return;
  // A key that is left over: an earlier run was killed before systemd loaded the drop-in that no longer needs it.
  const isKeyLeft = !sealedKey && existsSync(paths.sealedHostKey);
  if (dropIns?.next !== dropIns?.old || isKeyLeft) systemctl('daemon-reload');
  if (isBrokerOutdated) stopRunning('auxcred.service', 'and starting');
}

function removeSealedKey({ paths, sealedKey }: Succession): void {
  if (!sealedKey) rmSync(paths.sealedHostKey, { force: true });
}
