/** Gives units the drop-ins with which they find the active secrets. */
import { overridesOn } from '../drop-ins/overrides.ts';
import { applyRendering, changesOf } from '../drop-ins/rendered-folder.ts';
import { readGenerated, readRendering } from '../drop-ins/rendering.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { nobody, type Told } from '../provision/running-units.ts';
import { configurationOf } from '../system/configuration.ts';
import { textIfPresent } from '../system/files.ts';
import { pathsUnder } from '../system/paths.ts';
import { systemctl, systemIsRunning } from '../system/systemctl.ts';
import { say, warn } from '../terminal/say.ts';
import type { Activated } from './provisioning.ts';
import { tellUnits } from './restarts.ts';

/**
 * Writes the drop-ins once the secrets are active: a unit must never ask for a credential that the broker does not
 * know. A configuration that renders the drop-ins has written them already.
 * @returns the restarts and reloads under way
 */
export function applyToUnits(
  root: string,
  manifest: Manifest,
  provisioned: Activated | undefined,
  restart: boolean,
): Told {
  if (configurationOf(pathsUnder(root)) !== undefined)
    return provisioned && systemIsRunning(root) ? tellUnits(root, provisioned, restart) : nobody;
  const units = applyRendering(pathsUnder(root), manifest);
  for (const { unit, change } of units) say(`drop-in of ${unit}: ${change}`);
  if (!systemIsRunning(root)) {
    warnOverrides(root);
    return nobody;
  }
  // Also if an earlier run was killed before it got here.
  const { rendered, generated } = pathsUnder(root);
  if (units.length > 0 || changesOf(readGenerated({ generated }), readRendering({ rendered })).length > 0)
    systemctl('daemon-reload');
  warnOverrides(root);
  return provisioned ? tellUnits(root, provisioned, restart) : nobody;
}

/** Warns of other files that keep a unit from what was applied. */
function warnOverrides(root: string): void {
  const reasons = {
    hides: 'replaces the drop-in of',
    undoes: 'takes away what the drop-in gives to',
    sets: 'sets its own value for what the drop-in gives to',
  };
  for (const { unit, file, how, lines } of overridesOn(pathsUnder(root), textIfPresent))
    warn(`${file} ${reasons[how]} ${unit}: ${lines.join(', ')}`, 'auxcred doctor says what to do');
}
