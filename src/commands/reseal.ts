import { decryptWith } from '../age/identities.ts';
import { snapshotInForce } from '../deliver/provision.ts';
import { Failure } from '../failure.ts';
import { openStore } from '../store/open.ts';
import { parsePayload, type Payload, type Sealing } from '../store/payload.ts';
import { verifyPins } from '../store/pins.ts';
import { wipeScopes } from '../store/scope.ts';
import { readIfPresent } from '../system/files.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { meansOf } from './means.ts';
import { Options } from './options.ts';
import { askSecret } from './prompt.ts';
import { layOut, oneAtATime } from './provision.ts';
import { say, warn } from './say.ts';
import { checkedRecipient, chosenCredsKey, chosenKey, chosenPcrs, pinsIn, sealMachine } from './sealing.ts';

/**
 * `auxcred reseal`: seals the same seeds again: to the PCRs as they are now, to another key of the machine, to other recovery recipients;
 * with `--identity=` a recovery key opens them where the machine itself can't any more. Every secret stays what it is.
 */
export async function reseal(argv: readonly string[]): Promise<number> {
  const options = new Options('reseal', argv, { flags: ['no-tpm2-pcrs'], values: ['with-key', 'creds-key', 'tpm2-pcrs', 'tpm2-device', 'root'], lists: ['add-recipient', 'remove-recipient', 'identity'] });
  options.exactly();
  const root = options.value('root') ?? '/';
  const paths = pathsUnder(root);
  return await oneAtATime(root, 'wait', async () => {
    const payload = options.list('identity').length > 0 ? await recovered(paths, options.list('identity')) : (await openStore(paths, meansOf(paths, options.value('tpm2-device')))).payload;
    try {
      const counter = 1 + Math.max(payload.counter, snapshotInForce(paths, payload.scopes)?.counter ?? 0);
      const sealing = changed(payload.sealing, options, root, paths);
      await sealMachine(root, { ...payload, counter, sealing });
      const { made, failures } = await layOut(root, paths, { ...payload, sealing }, true);
      if (made.length > 0) say(`credentials in ${paths.credstore} that are encrypted anew: ${String(made.length)}`);
      for (const failure of failures) warn(failure, 'auxcred provision tries again');
      say(sealing.recovery.length === 0 ? 'nothing but this machine opens it: --add-recipient=age1... adds a recovery key' : `recovery: ${sealing.recovery.map((recipient) => recipient.slice(0, 24)).join(', ')}`);
    } finally {
      wipeScopes(payload.scopes);
    }
    return 0;
  });
}

/** What a recovery key opens. Without pins, on a new disk say, its owner vouches for the seeds. @throws Failure */
async function recovered(paths: Paths, identities: readonly string[]): Promise<Payload> {
  const file = readIfPresent(paths.seeds);
  if (!file) throw new Failure('not-found', `no seed is sealed on this machine: ${paths.seeds} is missing`, { hint: 'restore it from a backup, or run auxcred seal' });
  const plaintext = await decryptWith({ identities, passphrase: () => Promise.resolve(new TextDecoder().decode(askSecret('passphrase', '--identity=FILE'))), hint: 'one of the recipients that auxcred unseal --json names' }, paths.seeds, file);
  try {
    const payload = parsePayload(plaintext);
    const pins = pinsIn(paths);
    if (pins) verifyPins(payload.scopes, pins);
    return payload;
  } finally {
    plaintext.fill(0);
  }
}

function changed(sealing: Sealing, options: Options, root: string, paths: Paths): Sealing {
  const device = meansOf(paths, options.value('tpm2-device')).device ?? sealing.device;
  const withKey = options.value('with-key') === undefined ? sealing.withKey : chosenKey(options.value('with-key') ?? '', device);
  const credsKey = chosenCredsKey(options.value('creds-key'), withKey) ?? (withKey === 'systemd-creds' ? sealing.credsKey : undefined);
  return { withKey, credsKey, ...chosenPolicy(sealing, { withKey, credsKey }, options, root), recovery: chosenRecovery(sealing.recovery, options), device: withKey === 'host' ? undefined : device };
}

function chosenPolicy(sealing: Sealing, key: Pick<Sealing, 'withKey' | 'credsKey'>, options: Options, root: string): Pick<Sealing, 'pcrs' | 'pcrsAtFirstBoot'> {
  if (options.flag('no-tpm2-pcrs')) return { pcrs: [], pcrsAtFirstBoot: [] };
  const asked = options.value('tpm2-pcrs');
  const known = [...new Set([...sealing.pcrs, ...sealing.pcrsAtFirstBoot])].sort((a, b) => a - b);
  if (asked !== undefined || key.withKey === 'host' || key.credsKey === 'host' || known.length === 0) return chosenPcrs(asked, key, root);
  return systemIsRunning(root) ? { pcrs: known, pcrsAtFirstBoot: [] } : { pcrs: [], pcrsAtFirstBoot: known };
}

/** @throws Failure `usage`, `not-found` */
function chosenRecovery(recovery: readonly string[], options: Options): string[] {
  const removed = options.list('remove-recipient');
  const unknown = removed.find((recipient) => !recovery.includes(recipient));
  if (unknown !== undefined) throw new Failure('not-found', `${unknown.slice(0, 24)} is none of the recovery recipients`, { hint: recovery.join(', ') || 'there is none' });
  return [...new Set([...recovery.filter((recipient) => !removed.includes(recipient)), ...options.list('add-recipient').map(checkedRecipient)])];
}
