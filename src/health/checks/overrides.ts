/** What other files of the system make of the drop-ins and links of auxcred. */
import type { Override } from '../../drop-ins/overrides.ts';
import { commandLine } from '../../system/shell.ts';
import type { Health } from '../health.ts';
import { type Check, type Fault, listed } from './check.ts';
import { auxcred } from './commands.ts';

export const overrides: Check = {
  name: 'overrides',
  why: 'the unit does not start, or starts without that secret or with another value',
  faults: (health) => [...health.overrides.map((override) => overrideFault(health, override)), ...aliases(health)],
  well: (health) =>
    health.overrides.length > 0 || health.declared.dropIns.length > 0
      ? undefined
      : 'no file removes what auxcred gives a unit',
};

function overrideFault({ isRunning }: Health, { unit, file, how, lines }: Override): Fault {
  const reload = isRunning ? ' && systemctl daemon-reload' : '';
  const edit = `"\${EDITOR:-vi}" ${commandLine(file)}${reload}`;
  switch (how) {
    case 'hides':
      return {
        level: 'problem',
        message: `${file} takes the place of auxcred's drop-in of ${unit}`,
        why: 'the unit does not get its secrets',
        mend: [`${commandLine('mv', file, file.replace(/\.conf$/, '-local.conf'))}${reload}`],
      };
    case 'undoes':
      return { level: 'problem', message: `${file} takes ${listed(lines)} away from ${unit}`, mend: [edit] };
    case 'sets':
      return {
        name: 'own-credential',
        level: 'warning',
        message: `${file} sets its own value for a credential of ${unit}: ${listed(lines)}`,
        why: "if the secret's own source is missing, systemd starts the unit with that value",
        mend: [edit],
      };
  }
}

const aliases = (health: Health): Fault[] =>
  [...health.aliases].map(([alias, unit]) => ({
    name: 'aliases',
    level: 'problem',
    message: `${alias} is declared, but is an alias of ${unit}`,
    why: 'systemd asks for secrets only under that name',
    mend: [auxcred(health, 'check')],
  }));

export const links: Check = {
  name: 'links',
  why: "somebody may have led auxcred there, and the owner of the secret's file decides what is read",
  faults: (health) =>
    health.strayLinks.map(({ path, objection }) =>
      objection === undefined
        ? {
            level: 'warning',
            message: `${path} leads to a secret's file, but nothing declares it`,
            mend: [commandLine('rm', path)],
          }
        : {
            level: 'problem',
            message: `${path} was made where others could lead it: ${objection}`,
            why: "anyone who can write to that folder or owns the secret's file decides what is read there",
            mend: [commandLine('rm', path), auxcred(health, 'check')],
          },
    ),
};
