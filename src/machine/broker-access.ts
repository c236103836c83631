/** Keeps auxcred.service able to open the seeds: after an upgrade whose unit file hides more, or a lost drop-in. */
import { dirname } from 'node:path';
import { utf8 } from '../bytes.ts';
import { dropInFor, lackingFor } from '../drop-ins/broker-access.ts';
import { mergedDropIn } from '../drop-ins/broker-drop-in.ts';
import type { OpenedSeeds } from '../seeds/open.ts';
import { configurationOf } from '../system/configuration.ts';
import { ensureFolder, replaceFile, textIfPresent } from '../system/files.ts';
import { pathsUnder } from '../system/paths.ts';
import { stopRunning, systemctl, systemIsRunning } from '../system/systemctl.ts';
import { say } from '../terminal/say.ts';

/** Adds what the broker's drop-in lacks for seeds that this machine has just opened. @throws Failure `system` */
export function restoreBrokerAccess(root: string, { payload, openedBy }: OpenedSeeds): void {
  const paths = pathsUnder(root);
  if (configurationOf(paths) !== undefined) return;
  const present = textIfPresent(paths.brokerDropIn) ?? '';
  const wanted = dropInFor(root, payload.sealing, openedBy !== 'age host key');
  const lines = new Set(present.split('\n'));
  // The files are read first: nothing is lacking almost always, and systemctl takes longer than all the rest.
  if (wanted.split('\n').every((line) => line.startsWith('#') || lines.has(line))) return;
  if (lackingFor(paths, payload.sealing, wanted).length === 0) return;
  ensureFolder(dirname(paths.brokerDropIn), { mode: 0o755 });
  const text = present === '' ? wanted : mergedDropIn(present, wanted);
  replaceFile(paths.brokerDropIn, utf8(text), { mode: 0o644 });
  say('drop-in of auxcred.service: changed');
  if (!systemIsRunning(root)) return;
  systemctl('daemon-reload');
  stopRunning('auxcred.service');
}
