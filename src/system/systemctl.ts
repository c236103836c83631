import { existsSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { programs } from './programs.ts';

/** Whether systemd runs the system at `root`: false for an installation in progress (sd_booted(3)). */
export const systemIsRunning = (root: string): boolean => root === '/' && existsSync('/run/systemd/system');

/** Whether the system at `root` runs and has reached sysinit.target: units of the ordinary boot may start. */
export function isInitialized(root: string): boolean {
  return systemIsRunning(root) && activeState('sysinit.target') === 'active';
}

/** The state of a unit as `systemctl is-active` prints it; empty if systemctl can't run. */
function activeState(unit: string): string {
  const { stdout } = programs().spawnSync('systemctl', ['is-active', unit], { encoding: 'utf8' });
  return (stdout ?? '').trim();
}

/**
 * Stops a unit only if it runs: otherwise a stop would cancel a start that may be waiting for this process. Leaves a
 * unit with RefuseManualStop= alone, such as a broker that holds locked seeds.
 * @param starting - whether to stop a unit that is activating too; one whose start is only queued never is
 * @throws Failure `system`
 */
export function stopRunning(unit: string, starting: 'and starting' | undefined = undefined): void {
  const states = ['active', 'reloading', ...(starting === undefined ? [] : ['activating'])];
  if (!states.includes(activeState(unit)) || property(unit, 'RefuseManualStop') === 'yes') return;
  systemctl('stop', unit);
}

const property = (unit: string, name: string): string =>
  systemctlOutput('show', '--value', `--property=${name}`, '--', unit).trim();

/** The major version of systemd, such as 257; 0 if it is unknown. */
export function systemdVersion(): number {
  const { stdout } = programs().spawnSync('systemctl', ['--version'], { encoding: 'utf8' });
  return Number(/^systemd (\d+)/.exec(stdout ?? '')?.[1] ?? 0);
}

/** Runs systemctl. @returns its output @throws Failure `system` with its message */
function systemctlOutput(...args: readonly string[]): string {
  const { status, stdout, stderr, error } = programs().spawnSync('systemctl', args, {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (error !== undefined || status !== 0)
    throw new Failure('system', `systemctl ${args.slice(0, 3).join(' ')} failed: ${error?.message ?? stderr.trim()}`);
  return stdout;
}

/** Runs systemctl. @throws Failure `system` with its message */
export function systemctl(...args: readonly string[]): void {
  systemctlOutput(...args);
}

/**
 * Queues a job for each unit and waits for none of them.
 * @returns the reasons for the units whose jobs systemd refused
 * @throws Failure `system` if systemctl itself fails
 */
export function queueJobs(verb: 'try-restart' | 'reload', units: readonly string[]): Map<string, string> {
  if (units.length === 0) return new Map();
  const { status, stderr, error } = programs().spawnSync(
    'systemctl',
    ['--no-block', '--no-ask-password', verb, '--', ...units],
    {
      encoding: 'utf8',
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  const refused = new Map(
    (stderr ?? '').split('\n').flatMap((line): [string, string][] => {
      const [, unit = '', reason = ''] = /^Failed to \S+ (\S+): (.*?)\.?$/.exec(line) ?? [];
      return units.includes(unit)
        ? [[unit, `did not ${verb === 'reload' ? 'reload' : 'restart'}: ${reason.replace(` for unit ${unit}`, '')}`]]
        : [];
    }),
  );
  if (error !== undefined || (status !== 0 && refused.size === 0))
    throw new Failure('system', `systemctl ${verb} failed: ${error?.message ?? stderr.trim()}`);
  return refused;
}

/** A property of systemd itself, as `systemctl show` prints it. @throws Failure `system` */
export const managerProperty = (name: string): string =>
  systemctlOutput('show', '--value', `--property=${name}`).trim();

/** The names in a list of systemctl. @throws Failure `system` */
export const listedUnits = (list: 'list-units' | 'list-unit-files', ...more: readonly string[]): string[] =>
  systemctlOutput(list, '--no-legend', '--no-pager', '--full', ...more)
    .split('\n')
    .map((line) => line.trim().split(/\s+/)[0] ?? '')
    .filter((name) => name !== '');

/** The files that systemd has read for each of these units; units that are not loaded are left out. @throws Failure */
export const loadedFiles = (units: readonly string[]): Map<string, readonly string[]> =>
  new Map(
    unitProperties(units, ['LoadState', 'FragmentPath', 'DropInPaths'])
      .filter(({ values }) => values.get('LoadState') === 'loaded')
      .map(({ unit, values }) => [
        unit,
        ['FragmentPath', 'DropInPaths'].flatMap((name) => listItemsIn(values.get(name) ?? '')),
      ]),
  );

/** Properties of units as `systemctl show` prints them, in the order of the units. @throws Failure `system` */
export function unitProperties(
  units: readonly string[],
  names: readonly string[],
): { readonly unit: string; readonly values: ReadonlyMap<string, string> }[] {
  if (units.length === 0) return [];
  const blocks = systemctlOutput('show', `--property=${names.join(',')}`, '--', ...units)
    .trimEnd()
    .split('\n\n');
  return units.map((unit, i) => ({ unit, values: propertiesIn(blocks[i] ?? '') }));
}

/** Parses properties. Repeated ones, such as `ExecStart`, are joined by newlines. */
function propertiesIn(block: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of block.split('\n')) {
    const [name, value] = [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)];
    const known = values.get(name);
    values.set(name, known === undefined ? value : `${known}\n${value}`);
  }
  return values;
}

/**
 * Splits a list as `systemctl show` prints it: separated by spaces, words with special characters quoted and escaped
 * (systemd src/basic/escape.c).
 */
export const listItemsIn = (text: string): string[] =>
  [...text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, bare]) =>
    (quoted ?? bare ?? '').replaceAll(
      /\\x([0-9a-f]{2})|\\(.)/g,
      (_, code: string | undefined, char: string | undefined) =>
        code === undefined ? (char ?? '') : String.fromCharCode(Number.parseInt(code, 16)),
    ),
  );
