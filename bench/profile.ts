/**
 * Where the time of 100 units goes, by the kernel's own count of processor time for each control group, and inside the
 * broker by V8's sampling.
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
    await profileBroker(machine);
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

/** Functions of the broker, the innermost of which a sample counts for. */
const parts: readonly (readonly [RegExp, string])[] = [
  [/^(?:journal|encodeField)$/, 'journal record'],
  [/^(?:recordHash|record|anchor|sign|#write|#sign)$/, 'audit record'],
  [/^(?:encrypt|encryptWith|#encrypted)$/, 'encrypting'],
  [/^(?:value|recipeValue)$/, 'deriving the secret'],
  [/^(?:peer|peerOf|mayAskFor)$/, 'asking the kernel who asks'],
  [/^(?:isOutdated|reread|#current|identity)$/, 'looking for a newer snapshot or host secret'],
  [/^(?:#answerSystemd|releaseRecord)$/, 'the rest of an answer'],
  [/^(?:onconnection|onReadableStreamEnd|emit|accept|emitCloseNT|endReadableNT)$/, 'accepting and closing'],
];

/** Runs a broker with readable names under V8's profiler, and prints what an answer takes by part. */
async function profileBroker(machine: Machine): Promise<void> {
  await inScratch(async (folder) => {
    await bundle({ name: 'broker', entry: 'src/programs/auxcred-broker.ts', without: [], readable: true }, folder);
    await machine.write('/usr/lib/auxcred/auxcred-broker.cjs', readFileSync(join(folder, 'broker.cjs')));
  });
  const out = '/var/lib/auxcred-audit/profile';
  const start = `/usr/bin/node --jitless --cpu-prof --cpu-prof-interval=100 --cpu-prof-dir=${out}`;
  await machine.write(
    '/etc/systemd/system/auxcred.service.d/profile.conf',
    `[Service]\nExecStart=\nExecStart=${start} /usr/lib/auxcred/auxcred-broker.cjs\n`,
  );
  await machine.shell('systemctl daemon-reload; systemctl stop auxcred.service; systemctl start auxcred.socket');
  for (let round = 0; round < rounds; round++)
    await machine.run(['systemctl', 'start', ...unitsOf('socket')], { timeoutMs: 120_000 });
  const { stdout } = await machine.shell(`systemctl stop auxcred.service; cat ${out}/*.cpuprofile`);
  const times = timesIn(JSON.parse(stdout));
  for (const [, part] of parts)
    report({
      what: `an answer of the broker, ${part}`,
      measured: `${((times.get(part) ?? 0) / rounds / count).toFixed(3)} ms`,
      against: '',
      ratio: '',
      goal: '',
    });
}

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string };
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** Milliseconds by part. */
function timesIn({ nodes, samples, timeDeltas }: CpuProfile): Map<string, number> {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id] as const)));
  const partOf = (id: number | undefined): string | undefined => {
    if (id === undefined) return undefined;
    const name = byId.get(id)?.callFrame.functionName ?? '';
    return parts.find(([pattern]) => pattern.test(name))?.[1] ?? partOf(parents.get(id));
  };
  const times = new Map<string, number>();
  for (const [i, id] of samples.entries()) {
    const part = partOf(id);
    if (part !== undefined) times.set(part, (times.get(part) ?? 0) + (timeDeltas[i] ?? 0) / 1000);
  }
  return times;
}
