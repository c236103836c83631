import type { Check } from './check.ts';
import { auxcred } from './commands.ts';

export const recovery: Check = {
  name: 'recovery',
  why: 'if the seed is neither on paper nor in a vault, it dies with this machine',
  faults: (health) =>
    health.seeds.state !== 'there' || health.recovery > 0 || health.isFromVault
      ? []
      : [
          {
            level: 'note',
            message: 'no recovery recipient',
            mend: [auxcred(health, 'reseal', '--add-recipient=age1...')],
          },
        ],
  well: ({ seeds, recovery: count }) => {
    if (seeds.state !== 'there') return undefined;
    if (count === 0) return "the operator's vault has the seed";
    const recipients = count === 1 ? 'recipient opens' : 'recipients open';
    return `${String(count)} recovery ${recipients} the seed without this machine`;
  },
};
