import { existsSync } from 'node:fs';
import { overridesOn } from '../drop-ins/overrides.ts';
import { applyRendering, changesOf } from '../drop-ins/rendered-folder.ts';
import { readGenerated, readRendering } from '../drop-ins/rendering.ts';
import { nobody, type Told } from '../provision/running-units.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { pathsUnder } from '../system/paths.ts';
import { textIfPresent } from '../system/files.ts';
import { systemctl, systemIsRunning } from '../system/systemctl.ts';
import { Options } from '../cli/options.ts';
import { sayUnsealed, showPlan } from './plan.ts';
import { type InForce, oneAtATime, provisionManifest, sayHeld, tellUnits, unitsStatus, usableManifest } from './provision.ts';
import { counted, say, warn } from '../terminal/say.ts';

/** `auxcred apply`: puts the whole manifest in force, or changes nothing. */
export async function apply(argv: readonly string[]): Promise<number> {
  const options = new Options('apply', argv);
  options.exactly();
  if (options.flag('dry-run')) return await showPlan(options, { dropIns: true });
  const root = options.value('root') ?? '/';
  let told = nobody;
  const status = await oneAtATime(root, 'wait', async () => {
    const manifest = usableManifest(root);
    const sealed = existsSync(pathsUnder(root).seeds);
    const provisioned = sealed ? await provisionManifest(root, options.value('tpm2-device'), manifest, { early: false, acceptClock: options.flag('accept-clock'), acceptOlder: options.flag('accept-older') }) : undefined;
    if (provisioned) say(`${counted(provisioned.credentials, 'credential')} ${provisioned.changed ? 'now in force' : 'in force already'}`);
    else sayUnsealed(pathsUnder(root));
    told = putInForce(root, manifest, provisioned, !options.flag('no-restart'));
    return provisioned ? sayHeld(provisioned) : 0;
  });
  return await unitsStatus(status, told, !options.flag('no-wait'));
}

/** What follows once the secrets are in force: a unit must never wait for a credential that the broker does not know. @returns what is being done with the units that run */
export function putInForce(root: string, manifest: Manifest, provisioned: InForce | undefined, restart: boolean): Told {
  const units = applyRendering(pathsUnder(root), manifest);
  for (const { unit, change } of units) say(`drop-in of ${unit}: ${change}`);
  if (!systemIsRunning(root)) {
    warnOverrides(root);
    return nobody;
  }
  // Also where an earlier run was killed before it came to this.
  const { rendered, generated } = pathsUnder(root);
  if (units.length > 0 || changesOf(readGenerated({ generated }), readRendering({ rendered })).length > 0) systemctl('daemon-reload');
  warnOverrides(root);
  return provisioned ? tellUnits(root, provisioned, restart) : nobody;
}

/** Says which other files keep a unit from what was applied. */
function warnOverrides(root: string): void {
  const reasons = { hides: 'takes the place of the drop-in', undoes: 'takes away what the drop-in gives', sets: 'has a value of its own for what the drop-in gives' };
  for (const { unit, file, how, lines } of overridesOn(pathsUnder(root), textIfPresent)) warn(`${file} ${reasons[how]} ${unit}: ${lines.join(', ')}`, 'auxcred doctor says what to do');
}
