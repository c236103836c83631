/** The manifest: which unit gets which secret. Reading it never throws; what is wrong comes back as problems. */
import { parse as parseToml, TomlError } from 'smol-toml';
import { type KindName, kindNames } from '../derive/kind.ts';
import { namePattern } from '../derive/realm.ts';
import { deliveries, type Problem, type SecretDeclaration } from './declaration.ts';
import { type ManifestFile, manifestFiles } from './folder.ts';
import { optionKeys, readOptions } from './options.ts';
import { nearest, Table } from './table.ts';
import { socketNameRoom, unitProblem } from './units.ts';

export interface Manifest {
  readonly files: readonly ManifestFile[];
  /** Of the files without errors. */
  readonly declarations: readonly SecretDeclaration[];
  readonly problems: readonly Problem[];
}

const commonKeys = ['kind', 'generation', 'units', 'credential', 'delivery'];
/** systemd's credential_name_valid(), without what its own versions mangle: spaces, `\`, `%`, `:` and, in stage files, nothing more. */
const credentialId = /^[A-Za-z0-9_][A-Za-z0-9._@+-]*$/;
const longestId = 200;

/** Reads all manifest files under `root`. */
export function readManifest(root: string): Manifest {
  const files = manifestFiles(root);
  const parsed = files.map(parseFile);
  const declarations = parsed.flatMap((file) => file.declarations);
  const problems = [...parsed.flatMap((file) => file.problems), ...conflicts(declarations)];
  const broken = brokenFiles(problems);
  return { files, declarations: declarations.filter(({ file }) => !broken.has(file)), problems };
}

/** The files that an error was found in. */
export const brokenFiles = (problems: readonly Problem[]): Set<string> => new Set(problems.filter(({ severity }) => severity === 'error').map(({ file }) => file));

function parseFile({ path: file, text }: ManifestFile): { declarations: SecretDeclaration[]; problems: Problem[] } {
  const problems: Problem[] = [];
  if (text === undefined) return { declarations: [], problems: [fileProblem(file, undefined, 'it can\'t be read', 'a manifest is a regular file')] };
  if (text === '') return { declarations: [], problems };
  const content = contentOf(file, text);
  if ('problem' in content) return { declarations: [], problems: [content.problem] };
  const note = (problem: Omit<Problem, 'file' | 'line'>): void => {
    problems.push({ ...problem, file, line: lineOf(file, text, problem.key ?? '') });
  };
  const top = new Table(content.record, '', (problem) => { note({ ...problem, key: problem.key?.slice(1) }); });
  for (const key of top.keys()) if (key !== 'secret') top.problem(key, 'a manifest has no such table', 'secrets are declared as [secret.NAME]');
  const secrets = Object.hasOwn(content.record, 'secret') ? content.record['secret'] : {};
  if (!isTable(secrets)) {
    top.problem('secret', 'a table is expected here', '[secret.NAME]');
    return { declarations: [], problems };
  }
  const declarations = Object.entries(secrets).flatMap(([name, value]) => {
    if (isTable(value)) return [parseSecret(file, name, new Table(value, `secret.${name}`, note))];
    top.problem(`secret.${name}`, 'a table is expected here', `[secret.${name}]`);
    return [];
  });
  return { declarations, problems };
}

function contentOf(file: string, text: string): { record: Readonly<Record<string, unknown>> } | { problem: Problem } {
  try {
    const record: unknown = file.endsWith('.json') ? JSON.parse(text) : parseToml(text);
    return isTable(record) ? { record } : { problem: fileProblem(file, undefined, 'an object is expected', '{"secret": {"NAME": {...}}}') };
  } catch (error) {
    if (error instanceof TomlError) return { problem: fileProblem(file, error.line, `it is not TOML: ${error.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '') ?? ''}`, undefined) };
    const message = error instanceof Error ? error.message : '';
    const position = Number(/position (\d+)/.exec(message)?.[1]);
    return { problem: fileProblem(file, Number.isInteger(position) ? text.slice(0, position).split('\n').length : undefined, `it is not JSON: ${message}`, undefined) };
  }
}

const fileProblem = (file: string, line: number | undefined, message: string, hint: string | undefined): Problem => ({ severity: 'error', file, line, key: undefined, message, hint });

const isTable = (value: unknown): value is Readonly<Record<string, unknown>> => value !== null && typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date);

function parseSecret(file: string, name: string, table: Table): SecretDeclaration {
  if (!namePattern.test(name) || name.length > longestId) table.problem('', `${JSON.stringify(name)} is not a secret's name`, 'lower-case letters, digits and . _ @ + -, in segments joined by /');
  const kind = readKind(table);
  const keys = [...commonKeys, ...optionKeys[kind]];
  for (const key of table.keys()) if (!keys.includes(key)) table.problem(key, `a ${kind} secret has no key ${key}`, nearest(key, keys) ?? `it has ${keys.join(', ')}`);
  const delivery = table.oneOf('delivery', 'socket', deliveries);
  const credential = table.text('credential', name.replaceAll('/', '_'));
  if (!credentialId.test(credential) || credential.length > longestId) table.problem('credential', `${JSON.stringify(credential)} is not usable as a credential's id`, 'letters, digits and . _ @ + -; systemd mangles the rest');
  const units = table.list('units');
  if (units.length === 0) table.problem('units', 'no unit gets this secret', 'units = ["web.service"]', 'warning');
  for (const unit of units) {
    const problem = unitProblem(unit);
    if (problem) table.problem('units', problem.message, problem.hint);
    const room = Buffer.byteLength(unit) + Buffer.byteLength(credential);
    if (delivery === 'socket' && room > socketNameRoom) table.problem('units', `${unit} and ${credential} have ${String(room)} bytes together, and systemd's socket credentials have room for ${String(socketNameRoom)}`, 'delivery = "stage", or a shorter credential = "..."');
    else if (delivery === 'socket' && /@\.service$/.test(unit)) {
      if (room > socketNameRoom - 16) table.problem('units', `instances of ${unit} with names of more than ${String(socketNameRoom - room)} bytes will not start`, 'delivery = "stage"', 'warning');
    }
  }
  return { name, options: readOptions(kind, table), generation: table.whole('generation', 1, 1, 0xffffffff), units: [...new Set(units)], credential, delivery, file };
}

function readKind(table: Table): KindName {
  return table.oneOf('kind', 'password', kindNames);
}

/** What no file can see alone: a secret declared twice, two secrets under one id in a unit. */
function conflicts(declarations: readonly SecretDeclaration[]): Problem[] {
  const names = new Map<string, SecretDeclaration>();
  const ids = new Map<string, SecretDeclaration>();
  const problems: Problem[] = [];
  const note = ({ file, name }: SecretDeclaration, message: string, hint: string): void => {
    problems.push({ severity: 'error', file, line: undefined, key: `secret.${name}`, message, hint });
  };
  for (const declaration of declarations) {
    const same = names.get(declaration.name);
    if (same) note(declaration, `${declaration.name} is declared in ${same.file} too`, 'a file of the same name in a stronger folder replaces another; anything else has to have a name of its own');
    names.set(declaration.name, declaration);
    for (const unit of declaration.units) {
      const other = ids.get(`${unit}/${declaration.credential}`);
      if (other && other !== declaration) note(declaration, `${unit} gets ${other.name} under the id ${declaration.credential} already`, 'credential = "another-id"');
      ids.set(`${unit}/${declaration.credential}`, declaration);
    }
  }
  return problems;
}

/** The line of a key, or of the nearest table around it; JSON keys and TOML tables are both found by their text. */
function lineOf(file: string, text: string, key: string): number | undefined {
  const lines = text.split('\n');
  const [, name = '', ...rest] = key.split('.');
  const option = rest.at(-1);
  const isHeader = (line: string): boolean => (file.endsWith('.json') ? line.includes(`"${name}"`) : /^\s*\[/.test(line) && line.replaceAll(/["'\s]/g, '').includes(`[secret.${name}`));
  const header = lines.findIndex(isHeader);
  if (header === -1) return undefined;
  if (option === undefined) return header + 1;
  const at = lines.slice(header + 1).findIndex((line) => line.replaceAll(/["']/g, '').trimStart().startsWith(option));
  return at === -1 ? header + 1 : header + at + 2;
}
