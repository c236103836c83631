/**
 * Finds files of a unit that override auxcred's drop-in: if one takes the secrets away again, systemd starts the unit
 * without them and says nothing.
 */
import { basename } from 'node:path';
import { dropInFile, type Paths } from '../system/paths.ts';
import { listedUnits, loadedFiles, systemIsRunning } from '../system/systemctl.ts';
import { type Assignment, assignmentsOf, credentialIdOf, lineOf, UnitFiles } from '../system/unit-files.ts';
import { instancesOf, isTemplate, templateOf } from '../system/unit-name.ts';
import { readRendering } from './rendering.ts';

/** A file that changes what auxcred gives a unit. */
export interface Override {
  readonly unit: string;
  readonly file: string;
  /**
   * `hides`: it replaces the drop-in. `undoes`: one of its lines takes away what the drop-in sets. `sets`: it has a
   * value of its own for a credential, which systemd uses if the secret's own source is missing.
   */
  readonly how: 'hides' | 'undoes' | 'sets';
  /** The lines of the drop-in that have no effect; for `sets` the line that sets it, up to the credential's id. */
  readonly lines: readonly string[];
}

/** Reads a file; undefined if it is missing or hidden. */
export type TextReader = (path: string) => string | undefined;

/**
 * Compares the files that systemd reads for each unit, in its order, with the drop-ins that were applied last. A
 * running systemd is asked for these files; without one, and for templates, they are searched for as systemd would.
 */
export function overridesOn(paths: Paths, read: TextReader): Override[] {
  const rendering = [...readRendering(paths)].filter(([unit]) => unit.endsWith('.service'));
  const oursFor = (unit: string): string => dropInFile(paths.generated, unit);
  const filesOf = filesOfServices(paths.root, new Set(rendering.map(([unit]) => unit)), (unit) => [oursFor(unit)]);
  return rendering.flatMap(([declared, dropIn]) => {
    const overrides = filesOf(declared).flatMap(([unit, files]) =>
      overridesIn(unit, files, oursFor(declared), dropIn, read),
    );
    // The first instance of a template stands for all.
    return overrides.filter(
      ({ file, how }, i) => overrides.findIndex((other) => other.file === file && other.how === how) === i,
    );
  });
}

/**
 * Finds the files of a declared unit, or of each instance of a template that systemd knows.
 * @param has - drop-ins of a unit that will exist
 */
export function filesOfServices(
  root: string,
  declared: ReadonlySet<string>,
  has: (unit: string) => readonly string[] = () => [],
): (unit: string) => readonly (readonly [string, readonly string[]])[] {
  const loaded = systemIsRunning(root) ? knownFiles([...declared]) : new Map<string, readonly string[]>();
  let files: UnitFiles | undefined;
  return (one) => {
    // An instance with a drop-in of its own does not read its template's.
    const known = [...loaded].filter(([unit]) => unit === one || (templateOf(unit) === one && !declared.has(unit)));
    if (known.length > 0) return known;
    files ??= new UnitFiles(root);
    return [[one, files.of(one, has(one))]];
  };
}

/** The files that systemd has read for each declared unit, and for the instances of templates that it knows. */
function knownFiles(declared: readonly string[]): Map<string, readonly string[]> {
  const templates = declared.filter(isTemplate);
  const patterns = templates.map(instancesOf);
  const instances = patterns.length === 0 ? [] : listedUnits('list-units', '--all', '--plain', '--', ...patterns);
  return loadedFiles([...declared.filter((unit) => !templates.includes(unit)), ...instances]);
}

/**
 * Compares the files of one unit with auxcred's drop-in.
 * @param files - in the order in which systemd reads them
 * @param ours - the path of auxcred's drop-in, and `dropIn` its text
 */
function overridesIn(
  unit: string,
  files: readonly string[],
  ours: string,
  dropIn: string,
  read: TextReader,
): Override[] {
  const given = assignmentsOf(dropIn);
  if (!files.includes(ours)) {
    // A drop-in that systemd does not have yet is reported by renderedOn.
    const hiding = files.find((file) => basename(file) === basename(ours));
    return hiding === undefined ? [] : [{ unit, file: hiding, how: 'hides', lines: given.map(lineOf) }];
  }
  const undone = new Map<Assignment, string>();
  let effective: { readonly file: string; readonly assignment: Assignment }[] = [];
  for (const file of files) {
    for (const assignment of file === ours ? given : assignmentsOf(read(file) ?? '')) {
      const isGone = (other: Assignment): boolean => replaces(assignment, other);
      // auxcred's own SetCredentialEncrypted= never decrypts. Without it, a start without an answer fails too, so only
      // a rival value matters.
      for (const gone of effective)
        if (gone.file === ours && !isSet(gone.assignment) && isGone(gone.assignment)) undone.set(gone.assignment, file);
      effective = effective.filter((other) => !isGone(other.assignment));
      if (assignment.value !== '') effective.push({ file, assignment });
    }
  }
  const credentials = given.flatMap((assignment) => (isLoad(assignment) ? [credentialIdOf(assignment)] : []));
  const rivals = effective.filter(({ file, assignment }) => file !== ours && sets(assignment, credentials));
  const setLine = (assignment: Assignment): string =>
    isSet(assignment) ? `${assignment.key}=${credentialIdOf(assignment)}` : lineOf(assignment);
  return [
    ...[...new Set(undone.values())].map(
      (file): Override => ({
        unit,
        file,
        how: 'undoes',
        lines: [...undone].filter(([, by]) => by === file).map(([assignment]) => lineOf(assignment)),
      }),
    ),
    ...[...new Set(rivals.map(({ file }) => file))].map(
      (file): Override => ({
        unit,
        file,
        how: 'sets',
        lines: rivals.filter((one) => one.file === file).map(({ assignment }) => setLine(assignment)),
      }),
    ),
  ];
}

const isLoad = ({ key }: Assignment): boolean => key === 'LoadCredential' || key === 'LoadCredentialEncrypted';
const isSet = ({ key }: Assignment): boolean => key === 'SetCredential' || key === 'SetCredentialEncrypted';

/**
 * Settings that one empty value clears together (systemd src/core/load-fragment.c, config_parse_load_credential() and
 * others). Dependencies can't be cleared.
 */
function groupOf(assignment: Assignment): string | undefined {
  const { section, key } = assignment;
  if (section === 'Unit') return /^(?:Assert|Condition)/.exec(key)?.[0];
  return isLoad(assignment) ? 'LoadCredential' : isSet(assignment) ? 'SetCredential' : key;
}

/**
 * Whether a line cancels an earlier one: an empty value cancels its whole group, a credential one with the same id, and
 * any value that of a single-valued setting.
 */
export function replaces(later: Assignment, earlier: Assignment): boolean {
  if (later.section !== earlier.section || groupOf(later) === undefined || groupOf(later) !== groupOf(earlier))
    return false;
  if (later.value === '') return true;
  return isLoad(later) || isSet(later)
    ? credentialIdOf(later) === credentialIdOf(earlier)
    : later.key === 'RefreshOnReload';
}

/** Whether a line sets its own value for one of these credentials. */
function sets(assignment: Assignment, credentials: readonly string[]): boolean {
  if (assignment.section !== 'Service') return false;
  if (isSet(assignment)) return credentials.includes(credentialIdOf(assignment));
  return assignment.key === 'ImportCredential' && credentials.some((id) => importPattern(assignment.value).test(id));
}

/**
 * The names under which `ImportCredential=` imports credentials: `GLOB`, with `*` only at its end, or `GLOB:NAME`,
 * where NAME replaces the part before the `*`.
 */
function importPattern(value: string): RegExp {
  const [glob = '', name] = value.split(':', 2);
  const begin = (name ?? glob).replace(/\*$/, '');
  return new RegExp(`^${begin.replaceAll(/[.*+?^$()|[\]{}\\]/g, '\\$&')}${glob.endsWith('*') ? '.*' : ''}$`);
}
