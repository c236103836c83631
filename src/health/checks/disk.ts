/** What is on a disk without encryption. */
import { commandLine } from '../../system/shell.ts';
import type { Check } from './check.ts';
import { auxcred } from './commands.ts';

export const disk: Check = {
  name: 'disk',
  why: 'anyone who takes the disk has the secrets',
  faults: (health) =>
    health.system?.onEncryptedDisk === false && health.withKey === 'host'
      ? [
          {
            level: 'note',
            message: 'the seed is sealed to the host key, and both are on an unencrypted disk',
            mend: [auxcred(health, 'reseal', '--with-key=tpm2', '--tpm2-pcrs=4+7')],
          },
        ]
      : [],
};

export const swap: Check = {
  name: 'swap',
  why: 'the broker is never swapped, but units with secrets in their memory are',
  faults: ({ system }) =>
    (system?.swaps ?? []).map((device) => ({
      level: 'note',
      message: `${device} is swap on an unencrypted disk`,
      mend: [commandLine('swapoff', device)],
    })),
};
