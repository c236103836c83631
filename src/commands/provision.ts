import { existsSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { showPlan } from '../cli/machine-plan.ts';
import { Options } from '../cli/options.ts';
import { exitStatus, Failure } from '../failure.ts';
import { type Occasion, provisionManifest, sayHeld, usableManifest } from '../machine/provisioning.ts';
import { tellUnits, unitsStatus } from '../machine/restarts.ts';
import { oneAtATime } from '../machine/store-lock.ts';
import { withhold } from '../machine/withholding.ts';
import { rotates } from '../manifest/declaration.ts';
import { nobody } from '../provision/running-units.ts';
import { hadSeeds } from '../seeds/lost-seeds.ts';
import { ensureFolder, writeNew } from '../system/files.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { isInitialized, systemIsRunning } from '../system/systemctl.ts';
import { counted, say, warn } from '../terminal/say.ts';

/** `auxcred provision`: activates the manifest's secrets for the broker, without touching the units' drop-ins. */
export async function provisionCommand(argv: readonly string[]): Promise<number> {
  const options = new Options('provision', argv);
  options.exactly();
  if (options.flag('dry-run')) return await showPlan(options, { dropIns: false });
  const root = options.value('root') ?? '/';
  const byConfiguration = options.flag('by-configuration');
  if (byConfiguration && options.flag('early'))
    throw new Failure('usage', '--by-configuration and --early exclude each other', {
      hint: '--by-configuration decides itself whether the system is booting',
    });
  if (!byConfiguration) return await activate(options, root, options.flag('early') ? 'boot' : 'command');
  const isBooting = !isInitialized(root);
  return await inSwitch(
    pathsUnder(root),
    async (isRetry) => await activate(options, root, isBooting ? 'boot' : isRetry ? 'command' : 'switch'),
  );
}

/**
 * Does `work` as a part of a switch: if it fails, what the configuration changed is withheld.
 * @param work - gets whether an earlier switch failed, so that nobody else restarts the units which that one changed
 */
async function inSwitch(paths: Paths, work: (isRetry: boolean) => Promise<number>): Promise<number> {
  const isRetry = existsSync(paths.unprovisioned);
  ensureFolder(dirname(paths.unprovisioned), { mode: 0o755 });
  if (!isRetry) writeNew(paths.unprovisioned, new Uint8Array(0), { mode: 0o644 });
  // systemd's time limit ends it like this.
  process.once('SIGTERM', () => {
    withhold(paths);
    process.exit(exitStatus.timeout);
  });
  try {
    const status = await work(isRetry);
    rmSync(paths.unprovisioned, { force: true });
    return status;
  } catch (error) {
    const withheld = withhold(paths);
    if (withheld.length > 0)
      warn(`${withheld.join(', ')} ${withheld.length === 1 ? 'is' : 'are'} withheld until this succeeds`);
    throw error;
  }
}

/** Starts or stops the unit that runs hooks once the machine is up, by the file that is its condition. */
function notePostponed({ postponed }: Paths, isWaiting: boolean): void {
  if (!isWaiting) rmSync(postponed, { force: true });
  else if (!existsSync(postponed)) {
    ensureFolder(dirname(postponed), { mode: 0o755 });
    writeNew(postponed, new Uint8Array(0), { mode: 0o644 });
  }
}

/** Whether this machine never had a seed: a configuration may enable auxcred before anybody can seal one. */
const isUnsealed = (paths: Paths): boolean => !existsSync(paths.seeds) && !hadSeeds(paths);

async function activate(options: Options, root: string, occasion: Occasion): Promise<number> {
  let told = nobody;
  // A broker that starts for a hook of a running auxcred must not wait for that auxcred.
  const status = await oneAtATime(root, occasion === 'boot' ? 'leave' : 'wait', async () => {
    const manifest = usableManifest(root);
    if (options.flag('due') && !manifest.declarations.some(({ content }) => rotates(content))) {
      say('no secret rotates');
      return 0;
    }
    if (options.flag('by-configuration') && manifest.declarations.length === 0 && isUnsealed(pathsUnder(root))) {
      say('no secret is declared, and no seed is sealed');
      return 0;
    }
    const provisioned = await provisionManifest(root, options.value('tpm2-device'), manifest, {
      occasion,
      acceptClock: options.flag('accept-clock'),
      acceptOlder: options.flag('accept-older'),
    }).catch((error: unknown) => {
      if (!options.flag('due') || !(error instanceof Failure) || error.code !== 'until-boot') throw error;
      say(`${error.message}: secrets of a new period become active then`);
      return undefined;
    });
    // Not a failure of the timer's unit: to try again before the next boot would find the same lock.
    if (provisioned === undefined) return 0;
    say(
      provisioned.changed
        ? `${counted(provisioned.credentials, 'credential')} now active`
        : 'nothing to do: the manifest is already active',
    );
    // Units now get everything that changed since a switch that failed.
    if (occasion === 'command') rmSync(pathsUnder(root).unprovisioned, { force: true });
    notePostponed(pathsUnder(root), provisioned.postponed.length > 0);
    if (occasion !== 'boot' && systemIsRunning(root)) told = tellUnits(root, provisioned, !options.flag('no-restart'));
    return sayHeld(provisioned);
  });
  // A switch waits for this unit before it goes on with others.
  return await unitsStatus(status, told, !options.flag('no-wait') && !options.flag('by-configuration'));
}
