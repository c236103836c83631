import { existsSync } from 'node:fs';
import { showPlan } from '../cli/machine-plan.ts';
import { Options } from '../cli/options.ts';
import { applyToUnits } from '../machine/applying.ts';
import { provisionManifest, sayHeld, sayUnsealed, usableManifest } from '../machine/provisioning.ts';
import { unitsStatus } from '../machine/restarts.ts';
import { oneAtATime } from '../machine/store-lock.ts';
import { nobody } from '../provision/running-units.ts';
import { pathsUnder } from '../system/paths.ts';
import { counted, say } from '../terminal/say.ts';

/** `auxcred apply`: activates the whole manifest, or changes nothing. */
export async function apply(argv: readonly string[]): Promise<number> {
  const options = new Options('apply', argv);
  options.exactly();
  if (options.flag('dry-run')) return await showPlan(options, { dropIns: true });
  const root = options.value('root') ?? '/';
  let told = nobody;
  const status = await oneAtATime(root, 'wait', async () => {
    const manifest = usableManifest(root);
    const sealed = existsSync(pathsUnder(root).seeds);
    const provisioned = sealed
      ? await provisionManifest(root, options.value('tpm2-device'), manifest, {
          early: false,
          acceptClock: options.flag('accept-clock'),
          acceptOlder: options.flag('accept-older'),
        })
      : undefined;
    if (provisioned)
      say(`${counted(provisioned.credentials, 'credential')} ${provisioned.changed ? 'now active' : 'already active'}`);
    else sayUnsealed(pathsUnder(root));
    told = applyToUnits(root, manifest, provisioned, !options.flag('no-restart'));
    return provisioned ? sayHeld(provisioned) : 0;
  });
  return await unitsStatus(status, told, !options.flag('no-wait'));
}
