import type { Check } from './check.ts';

const why = 'until they are, anything that boots on this machine can open the seed';

export const unbound: Check = {
  name: 'unbound',
  why,
  faults: ({ isUnbound, isRunning, opening: state }) => {
    if (!isUnbound) return [];
    const hasPcrs = state.state !== 'opened' || state.sealing.pcrsAtFirstBoot.length > 0;
    const done = hasPcrs ? 'binds them' : 'seals it again';
    const later = isRunning ? '' : `; the installed system ${done} at its first boot`;
    return [
      {
        level: 'warning',
        message: hasPcrs
          ? 'the chosen PCRs are not bound yet'
          : 'the seed was sealed on another machine, and not yet again on this one',
        why: `${hasPcrs ? why : 'the other machine may have kept the key to it'}${later}`,
        mend: [isRunning ? 'systemctl start auxcred-bind.service' : 'systemctl reboot'],
      },
    ];
  },
};
