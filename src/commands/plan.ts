import { staleCredentials } from '../deliver/credential-store.ts';
import { planOf, withMade } from '../deliver/plan.ts';
import { snapshotInForce } from '../deliver/provision.ts';
import { changesOf } from '../deliver/rendered-folder.ts';
import { readRendering, renderUnits } from '../deliver/rendering.ts';
import { stepsFor } from '../deliver/running-units.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { Shelf } from '../fixed/shelf.ts';
import { readManifest } from '../manifest/manifest.ts';
import { openStore } from '../store/open.ts';
import { scopeSeedsOf, wipeScopes } from '../store/scope.ts';
import { hostScope } from '../store/snapshot.ts';
import { pathsUnder } from '../system/paths.ts';
import { periodNamed } from './get.ts';
import { meansOf } from './means.ts';
import { Options } from './options.ts';
import { printJson, printTable, say } from './say.ts';
import { sound } from './view.ts';

/** `auxcred plan`: what `auxcred apply` would change and which units it would touch. Changes nothing. */
export async function plan(argv: readonly string[]): Promise<number> {
  const options = new Options('plan', argv, { flags: ['json', 'accept-clock', 'accept-older'], values: ['root', 'tpm2-device', 'at'] });
  options.exactly();
  const root = options.value('root') ?? '/';
  const paths = pathsUnder(root);
  const { declarations } = sound(readManifest(root));
  const at = options.value('at');
  const { payload } = await openStore(paths, meansOf(paths, options.value('tpm2-device')));
  try {
    const wanted = planOf(declarations, payload.scopes, snapshotInForce(paths, payload.scopes), { at: at === undefined ? new Date() : periodNamed(at).start, acceptEarlier: at !== undefined || options.flag('accept-clock'), acceptOlder: options.flag('accept-older'), fixed: new Shelf(new FixedFolder(paths.fixed), scopeSeedsOf(payload.scopes)).find });
    const planned = withMade(wanted, staleCredentials(paths, wanted.releases, payload.sealing, hostScope(payload.scopes)), declarations);
    const dropIns = changesOf(readRendering(paths), renderUnits(declarations));
    const steps = stepsFor(planned.changes);
    const hooks = planned.replaced.filter(({ declaration }) => declaration.hook.length > 0).map(({ declaration }) => ({ secret: declaration.name, command: declaration.hook }));
    if (options.flag('json')) {
      printJson({ credentials: planned.changes, units: steps, hooks, dropIns });
      return 0;
    }
    if (planned.changes.length > 0) printTable([['UNIT', 'CREDENTIAL', 'CHANGE', 'THEN'], ...planned.changes.map(({ unit, credential, why, action }) => [unit || 'any', credential, why, why === 'removed' || action === 'none' ? '' : action])]);
    for (const { secret, command } of hooks) say(`would run ${command.join(' ')} for ${secret}`);
    for (const { unit, change } of dropIns) say(`drop-in of ${unit}: ${change}`);
    const touched = steps.filter(({ action }) => action !== 'none').length;
    say(planned.changes.length + dropIns.length === 0 ? 'nothing would change' : `${count(planned.changes.length, 'credential')} and ${count(dropIns.length, 'drop-in')} would change; of the units that run, ${count(touched, 'unit')} at most would be restarted or reloaded`);
  } finally {
    wipeScopes(payload.scopes);
  }
  return 0;
}

const count = (number: number, what: string): string => `${String(number)} ${what}${number === 1 ? '' : 's'}`;
