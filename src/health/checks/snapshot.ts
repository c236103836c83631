import { commandLine } from '../../system/shell.ts';
import { counted } from '../../terminal/say.ts';
import type { Check } from './check.ts';
import { auxcred } from './commands.ts';

export const snapshot: Check = {
  name: 'snapshot',
  why: 'declared units get no secret',
  faults: (health) => {
    const { opening, declared, paths } = health;
    if (opening.state !== 'opened') return [];
    const { active } = opening;
    if (active.snapshot === 'foreign')
      return [
        {
          level: 'problem',
          message: "the active snapshot was not made with this machine's seed",
          why: 'the broker refuses it: the seed was replaced, or somebody wrote to the store',
          mend: [auxcred(health, 'provision')],
        },
      ];
    if (active.older)
      return [
        {
          level: 'problem',
          message: active.older.message,
          why: 'somebody may have brought an old store back',
          mend: [
            commandLine('cp', 'NEWER', paths.seeds),
            auxcred(health, active.isCounterLost ? 'reseal' : 'provision', '--accept-older'),
          ],
        },
      ];
    if (active.snapshot === 'none' && declared.manifest.declarations.length > 0)
      return [
        {
          level: 'problem',
          message: 'nothing is active yet',
          mend: [auxcred(health, health.configuration === undefined ? 'apply' : 'provision')],
        },
      ];
    return [];
  },
  well: ({ opening }) => {
    if (opening.state !== 'opened') return undefined;
    const { credentials, units } = opening.active;
    const are = credentials === 1 ? 'is' : 'are';
    return `${counted(credentials, 'credential')} for ${counted(units, 'unit')} ${are} active`;
  },
};
