import { basename } from 'node:path';
import { commandLine } from '../../system/shell.ts';
import { type Check, listed } from './check.ts';

export const volatile: Check = {
  name: 'volatile',
  why: 'the next boot loses it, and with it every secret of this machine',
  faults: ({ system, configuration }) => {
    const lost = system?.volatile ?? [];
    if (lost.length === 0) return [];
    return [
      {
        level: 'problem',
        message: `${listed(lost)} ${lost.length === 1 ? 'is' : 'are'} on a file system in memory`,
        mend: lost.map((path) =>
          configuration === undefined
            ? commandLine('mount', '--bind', `/PERSISTENT/${basename(path)}`, path)
            : `${configuration.switch}    # with ${path} mounted from a disk, as environment.persistence does`,
        ),
      },
    ];
  },
};
