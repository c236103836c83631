/** The units that secrets are for. */
import { commandLine } from '../../system/shell.ts';
import { templateOf } from '../../system/unit-name.ts';
import type { Health } from '../health.ts';
import type { UnitState } from '../unit-state.ts';
import { type Check, type Fault, listed } from './check.ts';
import { auxcred } from './commands.ts';

export const units: Check = {
  name: 'units',
  why: 'the broker refused it, or did not run',
  faults: (health) => {
    const states = health.system?.units ?? [];
    return [...lacking(health, states), ...failed(states), ...unknown(states)];
  },
  well: ({ system }) => (system && system.units.length > 0 ? 'no unit lacks a secret' : undefined),
};

const namesOf = (states: readonly UnitState[]): string[] => states.map(({ unit }) => unit);

function lacking(health: Health, states: readonly UnitState[]): Fault[] {
  const without = states.filter(({ lacksSecret }) => lacksSecret);
  const asking = namesOf(without.filter((state) => asksBroker(health, state)));
  const reading = namesOf(without.filter((state) => !asksBroker(health, state)));
  const fault = (names: readonly string[], more: Pick<Fault, 'why' | 'mend'>): Fault[] =>
    names.length === 0
      ? []
      : [{ level: 'problem', message: `${listed(names)} did not start for lack of a secret`, ...more }];
  return [
    ...fault(asking, {
      mend: [
        'journalctl -b -u auxcred.service AUXCRED_OUTCOME=refused',
        commandLine('systemctl', 'restart', ...asking),
      ],
    }),
    ...fault(reading, {
      why: 'the file with its secret was missing, or did not decrypt',
      mend: [
        `${auxcred(health, 'provision')} && ${commandLine('systemctl', 'restart', ...reading)}`,
        journalOf(reading),
      ],
    }),
  ];
}

/** Whether a unit gets any of its secrets from the broker, and not only from files that were written before. */
const asksBroker = ({ declared }: Health, { unit, declared: name }: UnitState): boolean =>
  declared.manifest.declarations.some(
    ({ units: receivers, delivery }) =>
      (delivery === 'socket' || delivery === 'stage') &&
      [unit, name, templateOf(unit) ?? unit].some((one) => receivers.includes(one)),
  );

const journalOf = (names: readonly string[]): string =>
  commandLine('journalctl', '-b', ...names.flatMap((name) => ['-u', name]));

function failed(states: readonly UnitState[]): Fault[] {
  const others = states.filter(({ failure, lacksSecret }) => failure !== undefined && !lacksSecret);
  if (others.length === 0) return [];
  const names = namesOf(others);
  return [
    {
      level: 'warning',
      message: listed(others.map(({ unit, failure }) => `${unit} ${failure ?? ''}`)),
      why: 'it has its secrets, but does not run',
      mend: [journalOf(names), commandLine('systemctl', 'restart', ...names)],
    },
  ];
}

function unknown(states: readonly UnitState[]): Fault[] {
  const names = [...new Set(states.filter(({ state }) => state === 'unknown').map(({ declared }) => declared))];
  if (names.length === 0) return [];
  return [
    {
      level: 'warning',
      message: `${listed(names)} ${names.length === 1 ? 'is declared, but does' : 'are declared, but do'} not exist on this machine`,
      why: 'the name may be wrong: nothing gets the secret',
      mend: [commandLine('systemctl', 'cat', ...names)],
    },
  ];
}
