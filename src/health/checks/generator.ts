import type { LackingUnit } from '../../drop-ins/loaded-lines.ts';
import { commandLine } from '../../system/shell.ts';
import { type Check, type Fault, listed } from './check.ts';

export const generator: Check = {
  name: 'generator',
  why: 'these units start without their secrets, or with the old ones',
  faults: ({ system, declared, configuration, lacking, ways }) => {
    if (configuration !== undefined) return lacking.map(lackingFault(ways.apply));
    // The generator renders what an older version applied, so systemd has other drop-ins on purpose.
    if (!system || declared.state === 'upgraded') return [];
    const { hasGenerator, outdated } = system.rendered;
    if (!hasGenerator)
      return [
        {
          level: 'problem',
          message: 'auxcred-generator is not installed',
          why: 'systemd does not learn which unit gets which secret',
          mend: [ways.install('auxcred')],
        },
      ];
    // Of a changed manifest, systemd may have the new drop-ins since a daemon-reload, which only `apply` makes current.
    const stale = outdated.filter((unit) => !declared.dropIns.some((dropIn) => dropIn.unit === unit));
    if (stale.length === 0) return [];
    return [
      {
        level: 'warning',
        message: `systemd does not have the drop-ins of ${listed(stale)} as they were applied`,
        mend: ['systemctl daemon-reload'],
      },
    ];
  },
  well: ({ system, configuration }) => {
    if (configuration !== undefined) return 'the unit files have what the manifest needs';
    return system ? 'systemd has the drop-ins as they were applied' : undefined;
  },
};

const lackingFault =
  (apply: string) =>
  ({ unit, lines }: LackingUnit): Fault => ({
    level: 'problem',
    message: `${unit} lacks ${listed(lines)}`,
    why: 'the manifest declares secrets for it, but its unit files do not ask for them',
    mend: [commandLine('systemctl', 'cat', unit), apply],
  });
