/** What auxcred itself needs to run. */
import { oldestNode } from '../platform.ts';
import type { Check } from './check.ts';

export const node: Check = {
  name: 'node',
  why: "the broker can't start: it reaches locks, sockets and the TPM through koffi",
  faults: ({ platform, ways }) => {
    if (platform.nodeIsTooOld)
      return [
        {
          level: 'problem',
          message: `Node ${platform.node} is too old`,
          why: `auxcred needs ${oldestNode} or later`,
          mend: [ways.install('node')],
        },
      ];
    if (!platform.koffi) return [];
    return [{ level: 'problem', message: platform.koffi.message, mend: [ways.install('auxcred')] }];
  },
  well: ({ platform }) => `Node ${platform.node}`,
};

export const libtss2: Check = {
  name: 'libtss2',
  why: "without it a seed can't be sealed to a TPM",
  faults: ({ platform, seeds, ways }) => {
    if (!platform.libtss2) return [];
    const isNeeded = seeds.object !== undefined;
    return [
      {
        level: isNeeded ? 'problem' : 'note',
        message: 'the TPM library libtss2 is not installed',
        ...(isNeeded ? { why: "the seed is sealed to the TPM and can't be opened without it" } : {}),
        mend: [ways.install('libtss2')],
      },
    ];
  },
  well: () => 'the TPM library is installed',
};

export const account: Check = {
  name: 'account',
  why: 'the broker runs as that user, and reads the store as that group',
  faults: ({ files, root, ways }) => {
    const missing = files.group === undefined ? 'group' : files.hasUser ? undefined : 'user';
    if (missing === undefined) return [];
    return [
      {
        level: 'problem',
        message: `there is no ${missing} auxcred`,
        mend: [ways.account(root)],
      },
    ];
  },
  well: () => 'the user and the group auxcred exist',
};
