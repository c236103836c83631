import { pinsPlace } from '../../seeds/pins.ts';
import { moduleOptions } from '../../system/configuration.ts';
import { commandLine } from '../../system/shell.ts';
import type { Health } from '../health.ts';
import type { Check, Fault } from './check.ts';
import { pinAgain } from './commands.ts';

const canBeJudged = ({ seeds }: Health): boolean => seeds.state === 'there' && seeds.pins !== 'hidden';

export const pins: Check = {
  name: 'pins',
  why: 'nothing says which seeds this machine expects, so it accepts none',
  faults: (health) => {
    const { seeds, paths, opening } = health;
    if (!canBeJudged(health)) return [];
    const { file, writer } = pinsPlace(paths);
    const restore = writer === 'configuration' ? health.ways.apply : commandLine('cp', 'BACKUP', file);
    if (typeof seeds.pins === 'string')
      return [{ level: 'problem', message: `${file} is ${seeds.pins}`, mend: [restore, ...pinAgain(health)] }];
    if (opening.state !== 'failed' || opening.failure.code !== 'not-pinned')
      return file === paths.ownPins ? [besideStore(health)] : [];
    return [
      {
        level: 'problem',
        message: opening.failure.message,
        why: 'somebody may have put a store of their own in its place',
        mend: [commandLine('cp', 'BACKUP', paths.seeds), restore],
      },
    ];
  },
  well: (health) => (canBeJudged(health) ? 'the seeds that this machine expects are pinned' : undefined),
};

const besideStore = ({ paths, ways }: Health): Fault => ({
  name: 'pins-place',
  level: 'note',
  message: `the pins are in ${paths.ownPins}, beside what they vouch for`,
  why: 'anyone who can write there can replace the seeds and the pins; in the configuration they are out of reach',
  mend: [`${commandLine('cat', paths.ownPins)}    # is ${moduleOptions.pins}; then ${ways.apply}`],
});
