/** The results: rows of a table, printed as they come, and JSON of all of them at the end. */
import { spawnSync } from 'node:child_process';

export interface Row {
  readonly subject: string;
  readonly what: string;
  readonly measured: string;
  readonly against: string;
  readonly ratio: string;
  readonly goal: string;
  /** What was measured, as numbers. */
  readonly data?: Readonly<Record<string, string | number>>;
}

const rows: Row[] = [];
let subject = '';

const widths = { what: 50, measured: 32, against: 34, ratio: 10 };

/** The rows that follow belong to this subject. */
export function begin(name: string): void {
  subject = name;
}

export function report(row: Omit<Row, 'subject'>): void {
  rows.push({ subject, ...row });
  const { what, measured, against, ratio, goal } = row;
  const columns = [
    what.padEnd(widths.what),
    measured.padEnd(widths.measured),
    against.padEnd(widths.against),
    ratio.padEnd(widths.ratio),
    goal,
  ];
  console.log(columns.join('  ').trimEnd());
}

export const reported = (): readonly Row[] => rows;

export const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

export const milliseconds = (value: number): string => `${value.toFixed(value < 20 ? 1 : 0)} ms`;

/** A measured time beside a peer's or a floor's, both in milliseconds of this run. */
export interface Comparison {
  readonly what: string;
  /** The measured program, by default auxcred, and how long it took. */
  readonly by?: string;
  readonly took: number;
  readonly peer: string;
  readonly peerTook: number;
  /** The largest acceptable ratio. */
  readonly goal?: number;
  readonly data?: NonNullable<Row['data']>;
}

export function compare({ what, by = 'auxcred', took, peer, peerTook, goal, data }: Comparison): void {
  const ratio = took / peerTook;
  report({
    what,
    measured: `${by} ${milliseconds(took)}`,
    against: `${peer} ${milliseconds(peerTook)}`,
    ratio: `${ratio.toFixed(2)} x`,
    goal: goal === undefined ? '' : `<= ${goal.toFixed(2)} x ${ratio <= goal ? 'met' : 'MISSED'}`,
    ...(data === undefined ? {} : { data }),
  });
}

/** A measured value beside the largest acceptable one. */
export function reportLimit(what: string, value: number, limit: number, unit: string): void {
  report({
    what,
    measured: `auxcred ${value.toFixed(0)} ${unit}`,
    against: '',
    ratio: '',
    goal: `<= ${String(limit)} ${unit} ${value <= limit ? 'met' : 'MISSED'}`,
  });
}

/** The median time of each command. They run in turn, so that a change in the machine's load affects all alike. */
export function timeCommands<Name extends string>(
  rounds: number,
  commands: Readonly<Record<Name, readonly string[]>>,
  more: NodeJS.ProcessEnv = {},
): Record<Name, number> {
  const times = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    for (const name in commands) {
      const [program = '', ...args] = commands[name];
      const started = process.hrtime.bigint();
      const { status } = spawnSync(program, args, { stdio: 'ignore', env: { PATH: process.env['PATH'], ...more } });
      if (status !== 0) throw new Error(`${name} failed with status ${String(status)}`);
      times.set(name, [...(times.get(name) ?? []), Number(process.hrtime.bigint() - started) / 1e6]);
    }
  }
  const medians: Partial<Record<Name, number>> = {};
  for (const name in commands) medians[name] = median(times.get(name) ?? []);
  const complete = (candidate: Partial<Record<Name, number>>): candidate is Record<Name, number> =>
    Object.keys(commands).every((name) => name in candidate);
  if (!complete(medians)) throw new Error('a command was not timed');
  return medians;
}

/** Milliseconds that `work` takes. */
export function timed(work: () => void): number {
  const started = performance.now();
  work();
  return performance.now() - started;
}
