/** A seed that the broker locks until the next boot. */
import { isBoundLater } from '../../seeds/payload.ts';
import { unitOf } from '../broker-state.ts';
import type { Health } from '../health.ts';
import { type Check, type Fault, listed } from './check.ts';
import { auxcred, reseal } from './commands.ts';

const isLocked = ({ opening }: Health): boolean => opening.state === 'failed' && opening.failure.code === 'until-boot';

const brokerRuns = ({ system }: Health): boolean =>
  system !== undefined && unitOf(system.broker, 'auxcred.service')?.active === 'active';

export const locked: Check = {
  name: 'locked',
  why: 'until the broker locks it, root can open the seed',
  faults: (health) => {
    const { opening, system } = health;
    if (system === undefined) return [];
    if (isLocked(health)) return brokerRuns(health) ? [] : [gone];
    if (opening.state !== 'opened' || opening.sealing.lock === undefined || isBoundLater(opening.sealing)) return [];
    return [
      {
        level: 'note',
        message: 'the seed is not locked, though it is sealed with a lock',
        ...(brokerRuns(health) && {
          why: 'the broker started before it was sealed that way, or the TPM refused the lock',
        }),
        mend: brokerRuns(health) ? ['systemctl reboot'] : ['systemctl start auxcred.service'],
      },
    ];
  },
  well: (health) =>
    isLocked(health) && brokerRuns(health)
      ? 'the seed is locked until the next boot, and the broker serves it'
      : undefined,
};

const gone: Fault = {
  level: 'problem',
  message: 'the seed is locked until the next boot, and the broker that had it is gone',
  why: 'no unit with secrets starts before the machine reboots',
  mend: ['journalctl -b -u auxcred.service -p err', 'systemctl reboot'],
};

export const policies: Check = {
  name: 'policies',
  why: 'the seed depends on the ways that are left',
  faults: (health) => {
    const { closed, opening } = health;
    if (closed.length === 0 || isLocked(health)) return [];
    const message = listed(closed.map(({ text, failure }) => `${text} does not open the seed: ${failure.message}`));
    const hints = [...new Set(closed.flatMap(({ failure }) => failure.hint ?? []))];
    const more = hints.length > 0 ? `: ${hints.join('; ')}` : '';
    if (opening.state === 'opened')
      return [
        {
          level: 'warning',
          message,
          why: `${policies.why}${more}`,
          mend: [auxcred(health, 'reseal')],
        },
      ];
    return [{ level: 'problem', message, why: `no unit with secrets starts${more}`, mend: reseal(health) }];
  },
  well: ({ seeds, opening, closed }) =>
    seeds.policies.length > 1 && opening.state === 'opened' && closed.length === 0
      ? `each of ${String(seeds.policies.length)} ways opens the seed now`
      : undefined,
};
