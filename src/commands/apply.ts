import { existsSync } from 'node:fs';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import { applyToUnits } from '../machine/applying.ts';
import { provisionManifest, sayHeld, sayUnsealed, usableManifest } from '../machine/provisioning.ts';
import { unitsStatus } from '../machine/restarts.ts';
import { oneAtATime } from '../machine/store-lock.ts';
import { problemText } from '../manifest/problem-text.ts';
import { unreadProblems } from '../manifest/unread.ts';
import { nobody } from '../provision/running-units.ts';
import { configurationOf } from '../system/configuration.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { counted, print, say } from '../terminal/say.ts';

/** @throws Failure `usage` where the configuration does what `apply` does elsewhere */
function refuseRendered(paths: Paths): void {
  const configuration = configurationOf(paths);
  if (configuration === undefined) return;
  throw new Failure('usage', 'apply has no meaning here: the configuration renders the manifest and the drop-ins', {
    hint: `${configuration.switch} activates it; auxcred plan shows what would change, auxcred provision tries again`,
  });
}

/** `auxcred apply`: activates the whole manifest, or changes nothing. */
export async function apply(argv: readonly string[]): Promise<number> {
  const options = new Options('apply', argv);
  options.exactly();
  if (options.flag('dry-run'))
    return await (await import('../cli/machine-plan.ts')).showPlan(options, { dropIns: true });
  const root = options.value('root') ?? '/';
  refuseRendered(pathsUnder(root));
  let told = nobody;
  const status = await oneAtATime(root, 'wait', async () => {
    for (const problem of unreadProblems(pathsUnder('/').manifestFolders, root)) print(problemText(problem));
    const manifest = usableManifest(root);
    const sealed = existsSync(pathsUnder(root).seeds);
    const provisioned = sealed
      ? await provisionManifest(root, options.value('tpm2-device'), manifest, {
          occasion: 'command',
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
