/** The units that secrets are for. */
import { commandLine } from '../../system/shell.ts';
import type { UnitState } from '../unit-state.ts';
import { type Check, type Fault, listed } from './check.ts';

export const units: Check = {
  name: 'units',
  why: 'the broker refused it, or did not run',
  faults: ({ system }) => {
    const states = system?.units ?? [];
    return [...lacking(states), ...failed(states), ...unknown(states)];
  },
  well: ({ system }) => (system && system.units.length > 0 ? 'no unit lacks a secret' : undefined),
};

const namesOf = (states: readonly UnitState[]): string[] => states.map(({ unit }) => unit);

function lacking(states: readonly UnitState[]): Fault[] {
  const names = namesOf(states.filter(({ lacksSecret }) => lacksSecret));
  if (names.length === 0) return [];
  return [
    {
      level: 'problem',
      message: `${listed(names)} did not start for lack of a secret`,
      mend: ['journalctl -b -u auxcred.service AUXCRED_OUTCOME=refused', commandLine('systemctl', 'restart', ...names)],
    },
  ];
}

function failed(states: readonly UnitState[]): Fault[] {
  const others = states.filter(({ failure, lacksSecret }) => failure !== undefined && !lacksSecret);
  if (others.length === 0) return [];
  const names = namesOf(others);
  return [
    {
      level: 'warning',
      message: listed(others.map(({ unit, failure }) => `${unit} ${failure ?? ''}`)),
      why: 'it has its secrets, but does not run',
      mend: [
        commandLine('journalctl', '-b', ...names.flatMap((name) => ['-u', name])),
        commandLine('systemctl', 'restart', ...names),
      ],
    },
  ];
}

function unknown(states: readonly UnitState[]): Fault[] {
  const names = [...new Set(states.filter(({ state }) => state === 'unknown').map(({ declared }) => declared))];
  if (names.length === 0) return [];
  const [be, does] = names.length === 1 ? ['is', 'does'] : ['are', 'do'];
  return [
    {
      level: 'warning',
      message: `${listed(names)} ${be} declared, but ${does} not exist on this machine`,
      why: 'the name may be wrong: nothing gets the secret',
      mend: [commandLine('systemctl', 'cat', ...names)],
    },
  ];
}
