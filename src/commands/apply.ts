import { existsSync } from 'node:fs';
import { applyRendering } from '../deliver/rendered-folder.ts';
import { pathsUnder } from '../system/paths.ts';
import { systemctl, systemIsRunning } from '../system/systemctl.ts';
import { Options } from './options.ts';
import { provisionManifest, usableManifest } from './provision.ts';
import { say, warn } from './say.ts';

/** `auxcred apply`: puts the whole manifest in force, or changes nothing. */
export async function apply(argv: readonly string[]): Promise<number> {
  const options = new Options('apply', argv, { values: ['root', 'tpm2-device'] });
  options.exactly();
  const root = options.value('root') ?? '/';
  const manifest = usableManifest(root);
  if (existsSync(pathsUnder(root).seeds)) {
    const { releases, changed } = await provisionManifest(root, options.value('tpm2-device'), manifest);
    say(`${String(releases.length)} credentials ${changed ? 'are now' : 'were already'} in force`);
  } else {
    warn('no seed is sealed yet, so units with secrets will not start', 'run auxcred seal');
  }
  // The secrets come first: a unit must never wait for a credential that the broker does not know.
  const units = applyRendering(pathsUnder(root), manifest);
  for (const { unit, change } of units) say(`${change} ${unit}`);
  if (units.length === 0) say('the drop-ins are as they should be');
  if (systemIsRunning(root)) {
    systemctl('daemon-reload');
    const running = units.filter(({ change }) => change !== 'removed').map(({ unit }) => unit);
    if (running.length > 0) say(`restart what should see its new secrets: systemctl try-restart ${running.join(' ')}`);
  }
  return 0;
}
