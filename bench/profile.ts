/**
 * Where the time of 100 units goes, by the kernel's own count of processor time for each control group, and
 * inside the broker by the parts of an answer.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundle } from '../src/package/executable.ts';
import { manifestPath, secretToml } from '../test/auxcred-machine.ts';
import type { Machine } from '../test/machine/machine.ts';
import { count, unitsOf, ways, withMachine, writeUnits } from './delivery.ts';
import { median, report } from './report.ts';
import { inScratch } from './scratch.ts';

const rounds = 7;
const names = ['none', 'file', 'creds', 'socket'] as const;
type Name = (typeof names)[number];

/** The control groups that take part; what `units` has is the rest of system.slice. */
const groups = {
  whole: '',
  'PID 1': 'init.scope/',
  slice: 'system.slice/',
  broker: 'system.slice/auxcred.service/',
  journald: 'system.slice/systemd-journald.service/',
} as const;
type Group = keyof typeof groups;
const shown = ['whole', 'PID 1', 'units', 'broker', 'journald'] as const;
type Part = (typeof shown)[number];

export const benchProfile = async (): Promise<void> =>
  await withMachine(async (machine) => {
    await writeUnits(machine, { none: '', file: ways.file, creds: ways.creds, socket: ways.socket });
    await machine.write(manifestPath('bench'), secretToml('key', unitsOf('socket')));
    await machine.run(['auxcred', 'apply']);
    const used = new Map<Name, Record<Part, number>[]>(names.map((name) => [name, []]));
    // The first round starts the broker, and counts for nothing.
    for (let round = 0; round <= rounds; round++)
      for (const name of names) {
        const parts = await processorTime(machine, unitsOf(name));
        if (round > 0) used.get(name)?.push(parts);
      }
    for (const name of names) {
      const all = used.get(name) ?? [];
      const each = shown.map((part) => `${part} ${median(all.map((parts) => parts[part])).toFixed(2)}`);
      report({
        what: `a unit, ${described[name]} (CPU)`,
        measured: `${each.join(', ')} ms`,
        against: '',
        ratio: '',
        goal: '',
      });
    }
    await profileAnswer(machine, median((used.get('socket') ?? []).map(({ broker }) => broker)));
  });

const described: Readonly<Record<Name, string>> = {
  none: 'no credential',
  file: 'LoadCredential= of a file',
  creds: 'systemd-creds, host key',
  socket: 'socket (broker runs)',
};

/** Milliseconds of processor time for each unit, by part, until all of them have started and ended. */
async function processorTime(machine: Machine, units: readonly string[]): Promise<Record<Part, number>> {
  const read = `for g in ${Object.values(groups)
    .map((path) => `'${path}'`)
    .join(' ')}; do sed -n 's/^usage_usec //p' "/sys/fs/cgroup/\${g}cpu.stat" 2>/dev/null || echo 0; done`;
  const { stdout } = await machine.shell(`${read}; systemctl start ${units.join(' ')}; sync; ${read}`, {
    timeoutMs: 120_000,
  });
  const numbers = stdout.trim().split('\n').map(Number);
  const keys = Object.keys(groups).filter((key): key is Group => key in groups);
  const of = (group: Group): number => {
    const at = keys.indexOf(group);
    return ((numbers[keys.length + at] ?? Number.NaN) - (numbers[at] ?? Number.NaN)) / 1000 / count;
  };
  return {
    whole: of('whole'),
    'PID 1': of('PID 1'),
    units: of('slice') - of('broker') - of('journald'),
    broker: of('broker'),
    journald: of('journald'),
  };
}

/** Prints what an answer takes by part; what is left of the broker's time is the connection and who asks. */
async function profileAnswer(machine: Machine, whole: number): Promise<void> {
  await inScratch(async (folder) => {
    await bundle({ name: 'answer', entry: 'bench/answer.ts', without: [] }, folder);
    await machine.write('/usr/lib/auxcred/bench-answer.cjs', readFileSync(join(folder, 'answer.cjs')));
  });
  const { stdout } = await machine.run(['node', '--jitless', '/usr/lib/auxcred/bench-answer.cjs']);
  const parts = stdout
    .trim()
    .split('\n')
    .map((line) => ({ took: Number.parseFloat(line), part: line.slice(line.indexOf(' ') + 1) }));
  const known = parts.reduce((sum, { took }) => sum + took, 0);
  for (const { took, part } of [...parts, { took: whole - known, part: 'the connection, and who asks' }])
    report({
      what: `an answer, ${part} (CPU)`,
      measured: `${took.toFixed(3)} ms`,
      against: `of ${whole.toFixed(2)} ms`,
      ratio: '',
      goal: '',
    });
}
