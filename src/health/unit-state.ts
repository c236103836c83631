/** The state of units according to systemd: those with secrets, and auxcred's own. */
import { failureOf, failureProperties, lackedCredentials } from '../provision/unit-jobs.ts';
import { journalEntries } from '../system/journal-entries.ts';
import { listedUnits, unitProperties } from '../system/systemctl.ts';
import { instancesOf, isTemplate, templateOf } from '../system/unit-name.ts';

/** A unit that gets secrets, according to systemd. */
export interface UnitState {
  readonly unit: string;
  /** The unit's name in the manifest: for an instance, its template. */
  readonly declared: string;
  readonly state: 'runs' | 'waits' | 'failed' | 'stopped' | 'unknown';
  /**
   * Whether its last start failed because it did not get its credentials (243/CREDENTIALS in systemd.exec(5), or a
   * refusal of `auxcred stage`), or its file was missing.
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

/** Named beside the units that are looked for, since systemctl fails if none of those that it is given exists. */
const everInstalled = 'systemd-journald.service';

/** The declared services and, for templates, the instances that systemd knows. */
export function unitStates(declared: readonly string[]): UnitState[] {
  const templates = declared.filter(isTemplate);
  const patterns = templates.map(instancesOf);
  const instances = patterns.length === 0 ? [] : listedUnits('list-units', '--all', '--plain', '--', ...patterns);
  // An instance can have a file of its own without one of its template.
  const installed = new Set(
    (patterns.length === 0 ? [] : listedUnits('list-unit-files', '--', everInstalled, ...patterns)).map(
      (unit) => templateOf(unit) ?? unit,
    ),
  );
  const known = unitProperties(
    [...declared.filter((unit) => !isTemplate(unit)), ...instances],
    ['LoadState', ...failureProperties, 'InvocationID', 'ExecStartPre', 'AssertResult', 'AssertTimestampMonotonic'],
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
          ((state === 'failed' || state === 'waits') && (lacksSecret(values) || lackedSecret(unit, values))) ||
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
    values.get('ExecMainStatus') === lackedCredentials ||
    new RegExp(`status=${lackedCredentials}\\b`).test(before) ||
    /auxcred(?:\.cjs)? stage [^;]*;.*?status=[1-9]/.test(before)
  );
};

/** The `MESSAGE_ID` of the end of a unit's process (systemd's sd-messages.h). */
const processExit = '98e322203f7a4ed290d09fe03c09fe15';

/** The journal knows how a command before the service ended; systemd forgets it with each daemon-reload. */
function lackedSecret(unit: string, values: ReadonlyMap<string, string>): boolean {
  const isKnown = values.get('ExecMainStatus') !== '0' || /status=[1-9]/.test(values.get('ExecStartPre') ?? '');
  if (isKnown || values.get('Result') !== 'exit-code') return false;
  const invocation = `INVOCATION_ID=${values.get('InvocationID') ?? ''}`;
  const ends = journalEntries('--boot', '_PID=1', `MESSAGE_ID=${processExit}`, `UNIT=${unit}`, invocation);
  return ends.some((entry) => entry.field('EXIT_STATUS') === lackedCredentials);
}

/** Its file (`delivery = "file"`) was missing when it was to start: `AssertPathExists=`. */
const lacksFile = (values: ReadonlyMap<string, string>): boolean =>
  values.get('AssertResult') === 'no' && Number(values.get('AssertTimestampMonotonic')) > 0;
