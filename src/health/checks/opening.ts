import type { Failure, FailureCode } from '../../failure.ts';
import { LaterFormat } from '../../system/json.ts';
import type { Health } from '../health.ts';
import type { Check } from './check.ts';
import { replaceSeeds, reseal } from './commands.ts';

/** What other checks explain, each with a way out of its own. */
const explained: readonly FailureCode[] = [
  'not-pinned',
  'pcr-mismatch',
  'until-boot',
  'other-tpm',
  'no-tpm',
  'tpm-lockout',
];

export const opening: Check = {
  name: 'opening',
  why: 'no unit with secrets starts',
  faults: (health) => {
    const { opening: state, seeds } = health;
    if (
      state.state !== 'failed' ||
      seeds.state === 'damaged' ||
      typeof seeds.pins === 'string' ||
      explained.includes(state.failure.code) ||
      (seeds.hostKey !== undefined && seeds.hostKey !== 'same')
    )
      return [];
    return [
      {
        level: 'problem',
        message: `the seed does not open: ${state.failure.message}`,
        mend: waysOut(health, state.failure),
      },
    ];
  },
  well: ({ opening: state }) =>
    state.state === 'opened' ? `the seed opens with ${state.openedBy} in ${String(state.milliseconds)} ms` : undefined,
};

function waysOut(health: Health, failure: Failure): string[] {
  const { code } = failure;
  if (failure instanceof LaterFormat) return [health.ways.install('auxcred')];
  if (code === 'timeout') return ['systemctl reboot'];
  return code === 'malformed' ? replaceSeeds(health) : reseal(health);
}
