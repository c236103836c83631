import type { Check } from './check.ts';

const why = 'until then whoever boots anything on this machine can open the seed';

export const unbound: Check = {
  name: 'unbound',
  why,
  faults: ({ isUnbound, isRunning, opening: state }) => {
    if (!isUnbound) return [];
    const hasPcrs = state.state !== 'opened' || state.sealing.pcrsAtFirstBoot.length > 0;
    const later = isRunning ? '' : '; the installed system does it at its first boot';
    return [
      {
        level: 'warning',
        message: hasPcrs
          ? 'the PCRs that were asked for are not bound yet'
          : 'the seed was sealed on another machine, and is not sealed natively yet',
        why: `${hasPcrs ? why : 'the machine that sealed it could have kept what opens it'}${later}`,
        mend: [isRunning ? 'systemctl start auxcred-bind.service' : 'systemctl reboot'],
      },
    ];
  },
};
