import { LaterFormat } from '../../system/json.ts';
import type { Check } from './check.ts';
import { auxcred, replaceSeeds, restoreSeeds } from './commands.ts';

export const seed: Check = {
  name: 'seed',
  why: 'no unit with secrets starts',
  faults: (health) => {
    const { seeds, paths, ways } = health;
    if (seeds.isLater)
      return [{ level: 'problem', message: new LaterFormat(paths.seeds).message, mend: [ways.install('auxcred')] }];
    if (seeds.state === 'damaged')
      return [{ level: 'problem', message: `${paths.seeds} is damaged`, mend: replaceSeeds(health) }];
    if (seeds.state !== 'missing') return [];
    if (seeds.lost === undefined)
      return [
        {
          level: 'problem',
          message: 'no seed is sealed here',
          why: 'no unit with secrets starts without one',
          mend: [auxcred(health, 'seal', '--recipient=age1...')],
        },
      ];
    return [
      {
        level: 'problem',
        message: `this machine's seed is lost: ${paths.seeds} is missing`,
        why:
          `no unit with secrets starts, and a new seed would cost ${seeds.lost.text}; ` +
          `a recovery key opens a backup of it, and if ${paths.store} is not mounted, mount it`,
        mend: restoreSeeds(health),
      },
    ];
  },
  well: ({ seeds, withKey }) => (seeds.state === 'there' ? `a seed is sealed to ${withKey ?? ''}` : undefined),
};
