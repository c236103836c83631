/** The files of the store, judged by their names and permissions alone. */
import { commandLine } from '../../system/shell.ts';
import type { FileFault } from '../store-files.ts';
import { type Check, type Fault, listed } from './check.ts';

export const access: Check = {
  name: 'access',
  why: "others could read or replace it, or the broker can't read it",
  faults: ({ files }) => {
    const byRule = new Map<string, [FileFault, ...FileFault[]]>();
    for (const fault of files.faults) {
      const others = byRule.get(fault.should);
      if (others) others.push(fault);
      else byRule.set(fault.should, [fault]);
    }
    return [...byRule.values()].map(accessFault);
  },
  well: ({ seeds }) => (seeds.state === 'missing' ? undefined : 'owners and permissions are as they should be'),
};

/** One fault for all files that should be alike. */
function accessFault(files: readonly [FileFault, ...FileFault[]]): Fault {
  const [{ is, should, owner, mode }] = files;
  const paths = files.map(({ path }) => path);
  return {
    level: 'problem',
    message: `${listed(paths)} ${files.length === 1 ? `is ${is}, not` : 'are not'} ${should}`,
    mend: [`${commandLine('chown', owner, ...paths)} && ${commandLine('chmod', mode, ...paths)}`],
  };
}

export const leftovers: Check = {
  name: 'leftovers',
  why: 'it is never read, and may hold an old secret',
  faults: ({ files: { leftovers: paths } }) =>
    paths.length === 0
      ? []
      : [
          {
            level: 'warning',
            message: `${listed(paths)} ${paths.length === 1 ? 'was' : 'were'} being written when auxcred ended`,
            mend: [commandLine('rm', ...paths)],
          },
        ],
};

export const sight: Check = {
  name: 'sight',
  why: 'its contents could not be checked',
  faults: ({ hidden }) =>
    hidden.length === 0
      ? []
      : [{ level: 'note', message: `this user can't read ${listed(hidden)}`, mend: ['sudo auxcred doctor'] }],
};
