import { commandLine } from '../../system/shell.ts';
import type { Check } from './check.ts';
import { reseal } from './commands.ts';

export const hostKey: Check = {
  name: 'host-key',
  why: 'the seed does not open without that key',
  faults: (health) => {
    const { seeds, paths } = health;
    if (seeds.hostKey === undefined || seeds.hostKey === 'same') return [];
    return [
      {
        level: 'problem',
        message:
          seeds.hostKey === 'missing'
            ? `${paths.sshHostKey} is missing`
            : `${paths.sshHostKey} is not the key that the seed was sealed to`,
        mend: [commandLine('cp', 'BACKUP', paths.sshHostKey), ...reseal(health)],
      },
    ];
  },
  well: ({ seeds }) =>
    seeds.hostKey === 'same' ? 'the ssh host key is the one that the seed was sealed to' : undefined,
};
