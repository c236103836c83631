/** The folder of fixed secrets. */
import { join } from 'node:path';
import { commandLine } from '../../system/shell.ts';
import type { ActiveSecrets } from '../active.ts';
import type { Health } from '../health.ts';
import { type Check, type Fault, listed } from './check.ts';
import { auxcred, push } from './commands.ts';

export const fixed: Check = {
  name: 'fixed',
  why: "it can't be activated",
  faults: (health) =>
    health.opening.state === 'opened'
      ? [...damaged(health, health.opening.active), ...strange(health, health.opening.active)]
      : [],
};

function damaged(health: Health, { fixed: files, refused }: ActiveSecrets): Fault[] {
  const [first] = files;
  if (!first) return [];
  const pushAgain = health.isFromVault && health.host !== undefined ? [push(health)] : [];
  if (files.length === 1)
    return [
      {
        level: 'problem',
        message: first.failure.message,
        mend: [...pushAgain, auxcred(health, 'put', '--force', first.name)],
      },
    ];
  const stops = files.some(({ failure }) => failure.message === refused?.message);
  return [
    {
      level: 'problem',
      message: `${String(files.length)} fixed secrets do not open: ${listed(files.map(({ name }) => name))}`,
      why:
        `they can't be activated${stops ? ', nor can anything else until they open' : ''}; ` +
        'a backup of the whole folder loses what was put since',
      mend: [...pushAgain, commandLine('cp', '-aT', 'BACKUP', health.paths.fixed), auxcred(health, 'verify')],
    },
  ];
}

function strange({ paths }: Health, { strangers }: ActiveSecrets): Fault[] {
  const [first] = strangers;
  if (first === undefined) return [];
  return [
    {
      level: 'warning',
      message:
        strangers.length === 1
          ? `${join(paths.fixed, first)} is no fixed secret`
          : `${String(strangers.length)} files in ${paths.fixed} are no fixed secrets: ${listed(strangers)}`,
      why: 'it is never read; a plain secret in it is not protected',
      mend: [commandLine('rm', ...strangers.map((stranger) => join(paths.fixed, stranger)))],
    },
  ];
}
