import { type Check, listed } from './check.ts';

export const generator: Check = {
  name: 'generator',
  why: 'these units start without their secrets, or with the old ones',
  faults: ({ system, declared }) => {
    // The generator renders what an older version applied, so systemd has other drop-ins on purpose.
    if (!system || declared.state === 'upgraded') return [];
    const { hasGenerator, outdated } = system.rendered;
    if (!hasGenerator)
      return [
        {
          level: 'problem',
          message: 'auxcred-generator is not installed',
          why: 'systemd does not learn which unit gets which secret',
          mend: ['apt install --reinstall auxcred'],
        },
      ];
    if (outdated.length === 0) return [];
    return [
      {
        level: 'warning',
        message: `systemd does not have the drop-ins of ${listed(outdated)} as they were applied`,
        mend: ['systemctl daemon-reload'],
      },
    ];
  },
  well: ({ system }) => (system ? 'systemd has the drop-ins as they were applied' : undefined),
};
