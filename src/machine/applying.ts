/** Gives units the drop-ins by which they find what is active. */
import { overridesOn } from '../drop-ins/overrides.ts';
import { applyRendering, changesOf } from '../drop-ins/rendered-folder.ts';
import { readGenerated, readRendering } from '../drop-ins/rendering.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { nobody, type Told } from '../provision/running-units.ts';
import { textIfPresent } from '../system/files.ts';
import { pathsUnder } from '../system/paths.ts';
import { systemctl, systemIsRunning } from '../system/systemctl.ts';
import { say, warn } from '../terminal/say.ts';
import type { Activated } from './provisioning.ts';
import { tellUnits } from './restarts.ts';

/** What follows once the secrets are in force: a unit must never wait for a credential that the broker does not know. @returns what is being done with the units that run */
export function applyToUnits(
  root: string,
  manifest: Manifest,
  provisioned: Activated | undefined,
  restart: boolean,
): Told {
  const units = applyRendering(pathsUnder(root), manifest);
  for (const { unit, change } of units) say(`drop-in of ${unit}: ${change}`);
  if (!systemIsRunning(root)) {
    warnOverrides(root);
    return nobody;
  }
  // Also where an earlier run was killed before it came to this.
  const { rendered, generated } = pathsUnder(root);
  if (units.length > 0 || changesOf(readGenerated({ generated }), readRendering({ rendered })).length > 0)
    systemctl('daemon-reload');
  warnOverrides(root);
  return provisioned ? tellUnits(root, provisioned, restart) : nobody;
}

/** Says which other files keep a unit from what was applied. */
function warnOverrides(root: string): void {
  const reasons = {
    hides: 'takes the place of the drop-in',
    undoes: 'takes away what the drop-in gives',
    sets: 'has a value of its own for what the drop-in gives',
  };
  for (const { unit, file, how, lines } of overridesOn(pathsUnder(root), textIfPresent))
    warn(`${file} ${reasons[how]} ${unit}: ${lines.join(', ')}`, 'auxcred doctor says what to do');
}
