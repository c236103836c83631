import { showPlan } from '../cli/machine-plan.ts';
import { Options } from '../cli/options.ts';
import { provisionManifest, sayHeld, usableManifest } from '../machine/provisioning.ts';
import { tellUnits, unitsStatus } from '../machine/restarts.ts';
import { oneAtATime } from '../machine/store-lock.ts';
import { rotates } from '../manifest/declaration.ts';
import { nobody } from '../provision/running-units.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { counted, say } from '../terminal/say.ts';

/** `auxcred provision`: activates the manifest's secrets for the broker, without touching the units' drop-ins. */
export async function provisionCommand(argv: readonly string[]): Promise<number> {
  const options = new Options('provision', argv);
  options.exactly();
  if (options.flag('dry-run')) return await showPlan(options, { dropIns: false });
  const root = options.value('root') ?? '/';
  const early = options.flag('early');
  let told = nobody;
  // A broker that starts for a hook of a running auxcred must not wait for that auxcred.
  const status = await oneAtATime(root, early ? 'leave' : 'wait', async () => {
    const manifest = usableManifest(root);
    if (options.flag('due') && !manifest.declarations.some(({ content }) => rotates(content))) {
      say('no secret rotates');
      return 0;
    }
    const provisioned = await provisionManifest(root, options.value('tpm2-device'), manifest, {
      early,
      acceptClock: options.flag('accept-clock'),
      acceptOlder: options.flag('accept-older'),
    });
    say(
      provisioned.changed
        ? `${counted(provisioned.credentials, 'credential')} now active`
        : 'nothing to do: the manifest is already active',
    );
    if (!early && systemIsRunning(root)) told = tellUnits(root, provisioned, !options.flag('no-restart'));
    return sayHeld(provisioned);
  });
  return await unitsStatus(status, told, !options.flag('no-wait'));
}
