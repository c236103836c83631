/** The manifest: which unit gets which secret. Reading it never throws: what is wrong is returned as problems. */
import { parse as parseToml, TomlError } from 'smol-toml';
import { namePattern } from '../derive/realm.ts';
import { nearest } from '../nearest.ts';
import { mergeConflictIn } from '../system/merge-conflict.ts';
import { notToml, quotesFor } from '../system/toml.ts';
import { isTemplate, socketNameRoom } from '../system/unit-name.ts';
import { contentKeys, contentKinds, readContent } from './content.ts';
import {
  credentialsOf,
  deliveries,
  type Problem,
  receiversOf,
  type SecretDeclaration,
  unitActions,
} from './declaration.ts';
import { checkDependencies, dependenciesOf } from './dependencies.ts';
import { type ManifestFile, manifestFiles } from './folder.ts';
import { LineIndex } from './line-index.ts';
import { placementKeys, readPlacement } from './placement.ts';
import { ManifestTable } from './table.ts';
import { unitProblem } from './units.ts';

/** All manifest files of a machine, read as one. */
export interface Manifest {
  readonly files: readonly ManifestFile[];
  /** The declarations in the files without errors. */
  readonly declarations: readonly SecretDeclaration[];
  readonly problems: readonly Problem[];
}

const commonKeys = ['kind', 'units', 'credential', 'delivery', 'change', 'hook'];
/**
 * A subset of systemd's credential_name_valid(): without spaces, `\`, `%` and `:`, which some of its versions mangle.
 */
export const credentialId = /^[A-Za-z0-9_][A-Za-z0-9._@+-]*$/;
const longestId = 200;
/** The prefix of the files that hold the credentials of single units. */
const ownPrefix = 'auxcred.';

/** Reads all active manifest files under `root`. */
export const readManifest = (root: string): Manifest => manifestOf(manifestFiles(root));

/** Reads these files as one manifest. */
export function manifestOf(files: readonly ManifestFile[]): Manifest {
  const parsed = files.map(parseFile);
  const declarations = parsed.flatMap((file) => file.declarations);
  const problems = [
    ...parsed.flatMap((file) => file.problems),
    ...conflicts(declarations, new Map(parsed.map(({ lines }, i) => [files[i]?.path ?? '', lines]))),
  ];
  const broken = brokenFiles(problems);
  return { files, declarations: declarations.filter(({ file }) => !broken.has(file)), problems };
}

/** The paths of the files with an error. */
export const brokenFiles = (problems: readonly Problem[]): Set<string> =>
  new Set(problems.filter(({ severity }) => severity === 'error').map(({ file }) => file));

interface ParsedFile {
  readonly lines: LineIndex;
  readonly declarations: readonly SecretDeclaration[];
  readonly problems: readonly Problem[];
}

function parseFile({ path: file, text, fault }: ManifestFile): ParsedFile {
  const problems: Problem[] = [];
  const lines = new LineIndex(file, text ?? '');
  if (text === undefined)
    return {
      lines,
      declarations: [],
      problems: [fileProblem(file, undefined, fault?.message ?? "it can't be read", fault?.hint)],
    };
  if (text === '') return { lines, declarations: [], problems };
  const content = contentOf(file, text);
  if ('problem' in content) return { lines, declarations: [], problems: [content.problem] };
  const note = (problem: Omit<Problem, 'file' | 'line'>): void => {
    problems.push({ ...problem, file, line: lines.of(problem.key ?? '') });
  };
  const top = new ManifestTable(content.record, '', (problem) => {
    note({ ...problem, key: problem.key?.slice(1) });
  });
  for (const key of top.keys())
    if (key !== 'secret') top.problem(key, 'a manifest has no such table', 'secrets are declared as [secret.NAME]');
  const secrets = Object.hasOwn(content.record, 'secret') ? content.record['secret'] : {};
  if (!isTable(secrets)) {
    top.problem('secret', 'a table is expected here', '[secret.NAME]');
    return { lines, declarations: [], problems };
  }
  const declarations = Object.entries(secrets).flatMap(([name, value]) => {
    if (isTable(value)) return [parseSecret(file, name, new ManifestTable(value, `secret.${name}`, note))];
    top.problem(`secret.${name}`, 'a table is expected here', `[secret.${name}]`);
    return [];
  });
  return { lines, declarations, problems };
}

function contentOf(file: string, text: string): { record: Readonly<Record<string, unknown>> } | { problem: Problem } {
  try {
    const record: unknown = file.endsWith('.json') ? JSON.parse(text) : parseToml(text);
    if (!isUnicode(record))
      return {
        problem: fileProblem(
          file,
          undefined,
          'a string in it has half a surrogate pair',
          'the character itself, or both halves: \\ud83d\\ude00',
        ),
      };
    return isTable(record)
      ? { record }
      : { problem: fileProblem(file, undefined, 'an object is expected', '{"secret": {"NAME": {...}}}') };
  } catch (error) {
    const conflict = mergeConflictIn(text);
    if (conflict) return { problem: fileProblem(file, conflict.line, conflict.message, conflict.hint) };
    if (error instanceof TomlError) {
      const hint = quotesFor(text.split('\n')[error.line - 1] ?? '');
      return { problem: fileProblem(file, error.line, notToml(error), hint) };
    }
    const message = error instanceof Error ? error.message : '';
    const position = Number(/position (\d+)/.exec(message)?.[1]);
    return {
      problem: fileProblem(
        file,
        Number.isInteger(position) ? text.slice(0, position).split('\n').length : undefined,
        `it is not JSON: ${message}`,
        undefined,
      ),
    };
  }
}

/**
 * Whether no string or key in a parsed value has half a surrogate pair, which JSON can write and UTF-8 can't hold.
 * Works without recursion, since the parser sets no limit to the depth.
 */
function isUnicode(parsed: unknown): boolean {
  for (const left = [parsed]; left.length > 0; ) {
    const value = left.pop();
    if (typeof value === 'string' && !value.isWellFormed()) return false;
    if (value !== null && typeof value === 'object')
      for (const [key, inner] of Object.entries(value)) left.push(key, inner);
  }
  return true;
}

const fileProblem = (file: string, line: number | undefined, message: string, hint: string | undefined): Problem => ({
  severity: 'error',
  file,
  line,
  key: undefined,
  message,
  hint,
});

const isTable = (value: unknown): value is Readonly<Record<string, unknown>> =>
  value !== null && typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date);

function parseSecret(file: string, name: string, table: ManifestTable): SecretDeclaration {
  if (!namePattern.test(name) || name.length > longestId)
    table.problem(
      '',
      `${JSON.stringify(name)} is not a secret's name`,
      'lower-case letters, digits and . _ @ + -, in segments joined by /',
    );
  if (/^(?:host|group)\//.test(name))
    table.problem(
      '',
      `${name} would be mistaken for a file of the fixed folder`,
      'a name that does not begin with host/ or group/',
    );
  const kind = table.oneOf('kind', 'password', contentKinds);
  const delivery = table.oneOf('delivery', 'socket', deliveries);
  const keys = [...commonKeys, ...contentKeys(kind), ...(delivery === 'file' ? placementKeys : [])];
  for (const key of table.keys())
    if (!keys.includes(key))
      table.problem(
        key,
        `a ${kind} secret has no key ${key}`,
        nearest(key, keys) ??
          // Other kinds have these tables.
          (isTable(table.value(key)) && !/^(env|json|options)$/.test(key) ? `[secret."${name}.${key}"]` : undefined) ??
          (placementKeys.some((known) => known === key) ? 'delivery = "file"' : `it has ${keys.join(', ')}`),
      );
  const credential = table.text('credential', name.replaceAll('/', '_'));
  if (!credentialId.test(credential) || credential.length > longestId)
    table.problem(
      'credential',
      `${JSON.stringify(credential)} is not usable as a credential's id`,
      'letters, digits and . _ @ + -; systemd mangles the rest',
    );
  const hook = table.list('hook');
  if (hook.length > 0 && !hook[0]?.startsWith('/'))
    table.problem(
      'hook',
      'a hook is a command by its absolute path, and its arguments',
      'hook = ["/usr/local/bin/tell-db", "web"]',
    );
  const declaration: SecretDeclaration = {
    name,
    content: readContent(kind, name, table),
    units: [...new Set(table.list('units'))],
    credential,
    delivery,
    placement: delivery === 'file' ? readPlacement(table) : undefined,
    change: table.oneOf('change', 'restart', unitActions),
    hook,
    file,
  };
  if (delivery === 'credstore' && declaration.units.length === 0 && credential.startsWith(ownPrefix))
    table.problem(
      'credential',
      `names that begin with ${ownPrefix} are reserved for the credentials of single units`,
      'another credential = "..."',
    );
  for (const unit of declaration.units) checkUnit(unit, declaration, table);
  return declaration;
}

function checkUnit(unit: string, declaration: SecretDeclaration, table: ManifestTable): void {
  const problem = unitProblem(unit, declaration);
  if (problem) table.problem('units', problem.message, problem.hint);
  if (declaration.delivery !== 'socket') return;
  const [longest = ''] = credentialsOf(declaration)
    .map(({ id }) => id)
    .sort((a, b) => b.length - a.length);
  const room = Buffer.byteLength(unit) + Buffer.byteLength(longest);
  if (room > socketNameRoom)
    table.problem(
      'units',
      `${unit} and ${longest} have ${String(room)} bytes together, ` +
        `and systemd's socket credentials have room for ${String(socketNameRoom)}`,
      'delivery = "stage", or a shorter credential = "..."',
    );
  else if (isTemplate(unit) && room > socketNameRoom - 16)
    table.problem(
      'units',
      `instances of ${unit} with names of more than ${String(socketNameRoom - room)} bytes will not start`,
      'delivery = "stage"',
      'warning',
    );
}

/** Reports a problem of a declaration, by default an error, at its key `option`, such as `.units`. */
type Note = (
  declaration: SecretDeclaration,
  message: string,
  hint: string | undefined,
  severity?: Problem['severity'],
  option?: string,
) => void;

/** Checks declarations against each other: duplicate names, ids, files and links, and references to other secrets. */
function conflicts(declarations: readonly SecretDeclaration[], lines: ReadonlyMap<string, LineIndex>): Problem[] {
  const problems: Problem[] = [];
  const note: Note = ({ file, name }, message, hint, severity = 'error', option = '') => {
    const key = `secret.${name}${option}`;
    problems.push({ severity, file, line: lines.get(file)?.of(key), key, message, hint });
  };
  checkNames(declarations, note);
  checkPlaces(declarations, note);
  checkFixedFiles(declarations, note);
  checkDependencies(declarations, note);
  checkUse(declarations, note);
  return problems;
}

/** Checks that each name is declared once, and that no unit gets two secrets under one id. */
function checkNames(declarations: readonly SecretDeclaration[], note: Note): void {
  const names = new Map<string, SecretDeclaration>();
  const ids = new Map<string, SecretDeclaration>();
  for (const declaration of declarations) {
    const same = names.get(declaration.name);
    if (same)
      note(
        declaration,
        `${declaration.name} is declared in ${same.file} too`,
        'use another name; to replace a file, give the new one the same name in a stronger folder',
      );
    names.set(declaration.name, declaration);
    for (const unit of receiversOf(declaration)) {
      for (const { id } of credentialsOf(declaration)) {
        const other = ids.get(`${unit}/${id}`);
        if (other && other.name !== declaration.name) {
          const receiver = unit || 'the credential store';
          note(declaration, `${receiver} gets ${other.name} under the id ${id} already`, 'credential = "another-id"');
        }
        ids.set(`${unit}/${id}`, declaration);
      }
    }
  }
}

/** Checks that each file and link has one secret. */
function checkPlaces(declarations: readonly SecretDeclaration[], note: Note): void {
  const places = new Map<string, SecretDeclaration>();
  for (const declaration of declarations) {
    if (!declaration.placement) continue;
    const { link } = declaration.placement;
    for (const { id } of credentialsOf(declaration)) {
      const links = link === undefined ? [] : [`${link}${id.slice(declaration.credential.length)}`];
      for (const place of [id, ...links]) {
        const other = places.get(place);
        if (other && other !== declaration) {
          const hint = place === id ? 'credential = "another-id"' : 'link = "/another/path"';
          note(declaration, `${other.name} has the file ${place} already`, hint);
        }
        places.set(place, declaration);
      }
    }
  }
}

/** Checks that each file of the fixed folder comes from one vault only. */
function checkFixedFiles(declarations: readonly SecretDeclaration[], note: Note): void {
  const files = new Map<string, SecretDeclaration>();
  for (const declaration of declarations) {
    const { content } = declaration;
    if (content.form !== 'fixed') continue;
    const file = `${content.share ?? ''}/${content.path}`;
    const other = files.get(file);
    if (other?.content.form === 'fixed' && (other.content.vault ?? content.vault) !== undefined)
      note(
        declaration,
        `${other.name} has the same file in the fixed folder, and one of them comes from a vault`,
        'path = "another/one", or another name',
      );
    files.set(file, declaration);
  }
}

/** Warns of secrets that go neither to a unit nor into another secret. */
function checkUse(declarations: readonly SecretDeclaration[], note: Note): void {
  const names = new Set(declarations.map(({ name }) => name));
  const named = new Set(
    declarations.flatMap(({ content }) => dependenciesOf(content, (name) => names.has(name)).map(({ name }) => name)),
  );
  for (const declaration of declarations) {
    if (receiversOf(declaration).length === 0 && !named.has(declaration.name))
      note(declaration, 'no unit gets this secret', 'units = ["web.service"]', 'warning', '.units');
  }
}
