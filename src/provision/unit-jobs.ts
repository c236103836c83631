/** Waits until systemd has finished restarts and reloads, and says which units do not run and why. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../failure.ts';
import { commandLine } from '../system/shell.ts';
import { managerProperty, unitProperties } from '../system/systemctl.ts';
import { isService, unitOfProcess } from '../system/unit-name.ts';
import type { TakenStep, Told } from './running-units.ts';

/** A unit that did not restart or reload as told. */
export interface UnitFailure {
  readonly unit: string;
  /** What happened, with systemd's reason. */
  readonly reason: string;
}

type Properties = ReadonlyMap<string, string>;

const watched = [
  'Job',
  'Type',
  'ActiveState',
  'SubState',
  'Result',
  'ReloadResult',
  'MainPID',
  'ExecMainStartTimestampMonotonic',
  'ExecMainCode',
  'ExecMainStatus',
  'InactiveEnterTimestampMonotonic',
  'AssertResult',
  'AssertTimestampMonotonic',
  'ConditionResult',
  'ConditionTimestampMonotonic',
  'RemainAfterExit',
  'TimeoutStartUSec',
  'TimeoutStopUSec',
] as const;
/** The properties with the status of each command of a unit. */
const commands = ['ExecStartPre', 'ExecStart', 'ExecStartPost', 'ExecReload'] as const;

/**
 * How many polls (about a second) a service has to stay up whose start ends with its first instruction (`Type=simple`
 * and the like). A count, not a time: on a busy machine both the service and the polls take longer.
 */
const probation = 10;
/** Milliseconds beyond a unit's own time limit that systemd may need to end it. */
const slack = 5000;
/** Milliseconds between two polls. */
const interval = 100;

/** Microseconds, on the clock of systemd's monotonic timestamps. */
export const monotonicNow = (): number => Number(process.hrtime.bigint() / 1000n);

/**
 * Waits until every unit has done what it was told, or makes no progress for longer than systemd allows it
 * (`DefaultTimeoutStartSec=` if a unit has no limit of its own).
 * @param progress - called with the units that are not ready yet
 * @returns those that do not run, in the order of `told`
 * @throws Failure `system` if systemctl fails
 */
export async function failuresOf(
  { taken, refused, since }: Told,
  progress: (waiting: readonly string[]) => void,
): Promise<UnitFailure[]> {
  const told = taken.filter(({ unit }) => !refused.has(unit));
  const states = await finalStates(
    told.map(({ unit }) => unit),
    since,
    progress,
  );
  return taken.flatMap((step): UnitFailure[] => {
    const state = states.get(step.unit);
    const reason = refused.get(step.unit) ?? (state && reasonOf(step, state, since));
    return reason === undefined ? [] : [{ unit: step.unit, reason }];
  });
}

/** The failure of a command if some of its units do not run. */
export const unitsFailure = (failures: readonly UnitFailure[]): Failure =>
  new Failure('unit-failed', failures.map(({ unit, reason }) => `${unit} ${reason}`).join('; '), {
    hint: commandLine('journalctl', '-b', ...failures.flatMap(({ unit }) => ['-u', unit])),
  });

/** Polls until no unit is under way or on probation, or none makes progress any more. @returns their last states */
async function finalStates(
  units: readonly string[],
  since: number,
  progress: (waiting: readonly string[]) => void,
): Promise<ReadonlyMap<string, Properties>> {
  const up = new Map<string, number>();
  let before = '';
  let changedAt = Date.now();
  for (;;) {
    const states = new Map(unitProperties(units, watched).map(({ unit, values }) => [unit, values]));
    const waiting = [...states].filter(([unit, state]) => {
      if (isUnderWay(state)) return true;
      if (!isOnProbation(state, since)) return false;
      const process = `${unit} ${state.get('MainPID') ?? ''}`;
      if (!isBeforeExec(state.get('MainPID') ?? '0')) up.set(process, (up.get(process) ?? 0) + 1);
      return (up.get(process) ?? 0) < probation;
    });
    progress(waiting.map(([unit]) => unit));
    if (waiting.length === 0) return states;
    const now = JSON.stringify(
      waiting.map(([unit, state]) => [unit, state.get('Job'), state.get('SubState'), state.get('MainPID')]),
    );
    if (now !== before) [before, changedAt] = [now, Date.now()];
    if (Date.now() - changedAt > Math.max(...waiting.map(([, state]) => limitOf(state)))) return states;
    await sleep(interval);
  }
}

const isUnderWay = (state: Properties): boolean =>
  (state.get('Job') ?? '') !== '' ||
  ['deactivating', 'reloading', 'refreshing'].includes(state.get('ActiveState') ?? '') ||
  (state.get('ActiveState') === 'activating' && !isRetrying(state));

/** Whether it failed, and systemd is waiting to start it again. */
const isRetrying = (state: Properties): boolean => state.get('SubState')?.startsWith('auto-restart') === true;

/** Whether it counts as started although nothing shows yet that it works. */
const isOnProbation = (state: Properties, since: number): boolean =>
  state.get('ActiveState') === 'active' &&
  ['simple', 'idle', 'exec'].includes(state.get('Type') ?? '') &&
  Number(state.get('ExecMainStartTimestampMonotonic')) >= since;

/**
 * Whether systemd's forked process has not executed the service yet: it names itself in parentheses while it sets up
 * credentials (systemd src/shared/exec-util or src/core/exec-invoke.c, rename_process_from_path()).
 */
function isBeforeExec(pid: string): boolean {
  try {
    return /^(?:\(|systemd)/.test(readFileSync(`/proc/${pid}/comm`, 'utf8'));
  } catch {
    return false;
  }
}

/** Milliseconds that a unit may spend in its present state while it starts, reloads or stops. */
const limitOf = (state: Properties): number =>
  slack +
  (timespan(state.get(state.get('ActiveState') === 'deactivating' ? 'TimeoutStopUSec' : 'TimeoutStartUSec') ?? '') ??
    timespan(managerProperty('DefaultTimeoutStartUSec')) ??
    90_000);

const milliseconds: Readonly<Record<string, number>> = {
  us: 0.001,
  ms: 1,
  s: 1000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  month: 2_629_800_000,
  y: 31_557_600_000,
};

/**
 * Parses a time span of systemctl, `1min 30s` (systemd.time(7)), to milliseconds; undefined for none and for
 * `infinity`.
 */
function timespan(text: string): number | undefined {
  const parts = [...text.matchAll(/(\d+)([a-z]+)/g)];
  return parts.length === 0
    ? undefined
    : parts.reduce((sum, [, number, unit]) => sum + Number(number) * (milliseconds[unit ?? ''] ?? 0), 0);
}

/** Why a unit does not run as told; undefined if it does. */
function reasonOf({ unit, action }: TakenStep, state: Properties, since: number): string | undefined {
  if (isUnderWay(state))
    return (
      'is still ' +
      `${state.get('ActiveState') === 'active' ? `waiting to ${action}` : (state.get('ActiveState') ?? '')} ` +
      `(${state.get('SubState') ?? ''})`
    );
  const failure = failureOf(unit, state);
  if (failure !== undefined) return failure;
  const reloaded = state.get('ReloadResult') ?? 'success';
  if (action === 'reload' && reloaded !== 'success') return `did not reload: ${reloaded}${statusOf(unit, undefined)}`;
  return state.get('ActiveState') === 'inactive' ? absenceOf(state, since) : undefined;
}

/** Why a unit that ran is inactive; undefined if it may have finished its work or been stopped before. */
function absenceOf(state: Properties, since: number): string | undefined {
  const at = (name: string): number => Number(state.get(name));
  if (at('ConditionTimestampMonotonic') >= since && state.get('ConditionResult') === 'no') return undefined;
  if (at('AssertTimestampMonotonic') >= since && state.get('AssertResult') === 'no')
    return 'was stopped and did not start: one of its assertions failed';
  // systemd unloads an inactive unit that no other unit names, and then shows zeros.
  const isForgotten = at('InactiveEnterTimestampMonotonic') === 0;
  const mayHaveEnded = isForgotten
    ? state.get('Type') === 'oneshot' && state.get('RemainAfterExit') === 'no'
    : at('ExecMainStartTimestampMonotonic') >= since || at('InactiveEnterTimestampMonotonic') < since;
  return mayHaveEnded
    ? undefined
    : 'was stopped and did not start: a unit that it needs failed, or its start was cancelled';
}

/** The properties that {@link failureOf} needs. */
export const failureProperties = ['ActiveState', 'SubState', 'Result', 'ExecMainCode', 'ExecMainStatus'] as const;

/** How a unit failed, with systemd's reason; undefined if it did not. @param state - {@link failureProperties} */
export function failureOf(unit: string, state: Properties): string | undefined {
  if (state.get('ActiveState') !== 'failed' && !isRetrying(state)) return undefined;
  return (
    'failed: ' +
    `${state.get('Result') ?? ''}${statusOf(unit, state)}${isRetrying(state) ? '; systemd tries again' : ''}`
  );
}

/** The exit status of a unit that did not get its credentials: EXIT_CREDENTIALS (systemd.exec(5)). */
export const lackedCredentials = '243';

const statusText = (status: string): string =>
  `, status ${status}${status === lackedCredentials ? ': it did not get its secret' : ''}`;

/** `, status 1`, `, signal 9`: how the main process ended, else the command that failed. */
function statusOf(unit: string, state: Properties | undefined): string {
  const status = state?.get('ExecMainStatus') ?? '0';
  if (status !== '0') return state?.get('ExecMainCode') === '1' ? statusText(status) : `, signal ${status}`;
  const [known] = unitProperties([unit], commands);
  const ends = [...(known?.values.values() ?? [])]
    .flatMap((text) => [...text.matchAll(/ ; code=(\w+) ; status=(\d+)/g)])
    .filter(([, , number]) => number !== '0');
  const [, code, number] = ends.at(-1) ?? [];
  if (number === undefined) return '';
  return code === 'exited' ? statusText(number) : `, signal ${number}`;
}

/**
 * The service that this process belongs to, while that is starting, stopping or reloading: a unit that is ordered after
 * it waits for it, so it must not wait for the unit.
 */
export function unfinishedService(): string | undefined {
  const unit = unitOfProcess(readFileSync('/proc/self/cgroup', 'utf8'));
  if (unit === undefined || !isService(unit)) return undefined;
  const [known] = unitProperties([unit], ['ActiveState']);
  return ['activating', 'deactivating', 'reloading'].includes(known?.values.get('ActiveState') ?? '')
    ? unit
    : undefined;
}
