/** The state of units that secrets are for, as systemd knows it. */
import { failureOf, failureProperties } from '../provision/unit-jobs.ts';
import { systemctlOutput, unitProperties } from '../system/systemctl.ts';
import { instancesOf, isTemplate, templateOf } from '../system/unit-name.ts';

export interface UnitState {
  readonly unit: string;
  /** As the manifest names it: an instance's template. */
  readonly declared: string;
  readonly state: 'runs' | 'waits' | 'failed' | 'stopped' | 'unknown';
  /**
   * Whether its last start failed because it did not get its credentials (243/CREDENTIALS in systemd.exec(5), or
   * `auxcred stage` was refused), or its file was not there.
   */
  readonly lacksSecret: boolean;
  /** How it failed, `failed: exit-code, status 1`; undefined if it did not. */
  readonly failure: string | undefined;
}

const states: Readonly<Record<string, UnitState['state']>> = {
  active: 'runs',
  reloading: 'runs',
  refreshing: 'runs',
  activating: 'waits',
  failed: 'failed',
  inactive: 'stopped',
  deactivating: 'stopped',
};

/** The services that are declared and, of templates, the instances that systemd knows. */
export function unitStates(declared: readonly string[]): UnitState[] {
  const templates = declared.filter(isTemplate);
  const instances =
    templates.length === 0
      ? []
      : listed('list-units', '--all', '--plain', '--full', '--', ...templates.map(instancesOf));
  // All of them: systemctl fails if none of the named ones exists.
  const installed = new Set(templates.length === 0 ? [] : listed('list-unit-files', '--full', '--type=service'));
  const known = unitProperties(
    [...declared.filter((unit) => !isTemplate(unit)), ...instances],
    ['LoadState', ...failureProperties, 'ExecStartPre', 'AssertResult', 'AssertTimestampMonotonic'],
  );
  return [
    ...known.map(({ unit, values }): UnitState => {
      const state =
        values.get('LoadState') === 'not-found' ? 'unknown' : (states[values.get('ActiveState') ?? ''] ?? 'stopped');
      return {
        unit,
        declared: declared.includes(unit) ? unit : (templateOf(unit) ?? unit),
        state,
        lacksSecret:
          ((state === 'failed' || state === 'waits') && lacksSecret(values)) ||
          (state === 'stopped' && lacksFile(values)),
        failure: failureOf(unit, values),
      };
    }),
    ...templates
      .filter((unit) => !installed.has(unit))
      .map((unit): UnitState => ({ unit, declared: unit, state: 'unknown', lacksSecret: false, failure: undefined })),
  ];
}

const lacksSecret = (values: ReadonlyMap<string, string>): boolean => {
  const before = values.get('ExecStartPre') ?? '';
  return (
    values.get('ExecMainStatus') === '243' ||
    /status=243\b/.test(before) ||
    /auxcred(?:\.cjs)? stage [^;]*;.*?status=[1-9]/.test(before)
  );
};

/** The file of `delivery = "file"` was not there when it was to start (its `AssertPathExists=`). */
const lacksFile = (values: ReadonlyMap<string, string>): boolean =>
  values.get('AssertResult') === 'no' && Number(values.get('AssertTimestampMonotonic')) > 0;

const listed = (...command: readonly string[]): string[] =>
  systemctlOutput('--no-legend', '--no-pager', ...command)
    .split('\n')
    .map((line) => line.trim().split(/\s+/)[0] ?? '')
    .filter((name) => name !== '');
