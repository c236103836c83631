import { commandLine } from '../../system/shell.ts';
import type { Health } from '../health.ts';
import type { Check } from './check.ts';
import { pinAgain } from './commands.ts';

const canBeJudged = ({ seeds }: Health): boolean => seeds.state === 'there' && seeds.pins !== 'hidden';

export const pins: Check = {
  name: 'pins',
  why: 'nothing says which seeds this machine expects, so it accepts none',
  faults: (health) => {
    const { seeds, paths, opening } = health;
    if (!canBeJudged(health)) return [];
    const restore = commandLine('cp', 'BACKUP', paths.pins);
    if (typeof seeds.pins === 'string')
      return [{ level: 'problem', message: `${paths.pins} is ${seeds.pins}`, mend: [restore, ...pinAgain(health)] }];
    if (opening.state !== 'failed' || opening.failure.code !== 'not-pinned') return [];
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
