/**
 * A stand-in for sops, which neither Debian nor npm has: it reads and writes sops' file format (README.rst of
 * getsops/sops, "Encryption Protocol") in the form of simple YAML, JSON, dotenv, INI and binary files, with age for the
 * data key. It takes the options that auxcred gives to sops.
 *
 *     sops -d [--input-type TYPE] [--output-type TYPE] FILE
 *     sops -e --age RECIPIENT --input-type json --output-type TYPE FILE     from plain JSON, to standard output
 */
import { spawnSync } from 'node:child_process';
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';

type Scalar = string | number | boolean;
type Tree = Scalar | readonly Tree[] | { readonly [key: string]: Tree };
type Visit = (value: Scalar, path: readonly string[]) => Scalar;

const isTable = (tree: Tree): tree is { readonly [key: string]: Tree } => typeof tree === 'object' && !isList(tree);
const isList = (tree: Tree): tree is readonly Tree[] => Array.isArray(tree);

/** Items of a list have the path of the list. */
function mapped(tree: Tree, visit: Visit, path: readonly string[] = []): Tree {
  if (isList(tree)) return tree.map((item) => mapped(item, visit, path));
  if (!isTable(tree)) return visit(tree, path);
  return Object.fromEntries(Object.entries(tree).map(([key, item]) => [key, mapped(item, visit, [...path, key])]));
}

const plainText = (value: Scalar): string => (typeof value === 'boolean' ? (value ? 'True' : 'False') : String(value));

function sealed(key: Buffer, text: string, type: string, additional: string): string {
  const iv = randomBytes(32);
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(additional));
  const data = Buffer.concat([cipher.update(text), cipher.final()]);
  const [d, i, t] = [data, iv, cipher.getAuthTag()].map((bytes) => bytes.toString('base64'));
  return `ENC[AES256_GCM,data:${String(d)},iv:${String(i)},tag:${String(t)},type:${type}]`;
}

function opened(key: Buffer, text: string, additional: string): Scalar {
  const match = /^ENC\[AES256_GCM,data:(.*),iv:(.*),tag:(.*),type:(\w+)\]$/.exec(text);
  if (!match) return text;
  const [data, iv, tag] = match.slice(1, 4).map((part) => Buffer.from(part, 'base64'));
  if (!data || !iv || !tag) throw new Error('a value is cut off');
  const decipher = createDecipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(additional)).setAuthTag(tag);
  const plain = Buffer.concat([decipher.update(data), decipher.final()]).toString();
  return match[4] === 'bool' ? plain === 'True' : match[4] === 'int' || match[4] === 'float' ? Number(plain) : plain;
}

const typeOf = (value: Scalar): string =>
  typeof value === 'string' ? 'str' : typeof value === 'boolean' ? 'bool' : Number.isInteger(value) ? 'int' : 'float';

function age(args: readonly string[], input: string | Buffer): Buffer {
  const { status, stdout } = spawnSync('age', args, { input, stdio: ['pipe', 'pipe', 'inherit'] });
  if (status !== 0) throw new Error('age failed');
  return stdout;
}

function encrypt(plain: Tree, recipient: string, type: string): string {
  const key = randomBytes(32);
  const digest = createHash('sha512');
  const values = mapped(plain, (value, path) => {
    digest.update(plainText(value));
    return sealed(key, plainText(value), typeOf(value), `${path.join(':')}:`);
  });
  const lastmodified = '2026-11-26T00:00:00Z';
  const sops = {
    age: [{ recipient, enc: age(['-a', '-r', recipient], key).toString() }],
    lastmodified,
    mac: sealed(key, digest.digest('hex').toUpperCase(), 'str', lastmodified),
    unencrypted_suffix: '_unencrypted',
    version: '3.9.0',
  };
  if (!isTable(values)) throw new Error('a file has keys');
  if (type === 'yaml') return yaml({ ...values, sops }, '');
  if (type !== 'dotenv' && type !== 'ini') return `${JSON.stringify({ ...values, sops }, undefined, '\t')}\n`;
  const meta = flat({ ...sops }, '').map(([name, value]) => `${name}=${value.replaceAll('\n', '\\n')}`);
  if (type === 'dotenv')
    return `${[...flat(values, '').map((pair) => pair.join('=')), ...meta.map((line) => `sops_${line}`)].join('\n')}\n`;
  const sections = Object.entries(values).map(([name, keys]) => [
    `[${name}]`,
    ...flat(keys, '').map((pair) => pair.join(' = ')),
  ]);
  return `${[...sections, ['[sops]', ...meta]].map((lines) => lines.join('\n')).join('\n\n')}\n`;
}

/** sops' own names of keys in formats without depth. */
function flat(tree: Tree, prefix: string): [string, string][] {
  if (isList(tree)) return tree.flatMap((item, i) => flat(item, `${prefix}__list_${String(i)}`));
  if (!isTable(tree)) return [[prefix, String(tree)]];
  return Object.entries(tree).flatMap(([key, item]) => flat(item, prefix === '' ? key : `${prefix}__map_${key}`));
}

function yaml(tree: Tree, indent: string): string {
  if (isList(tree)) return tree.map((item) => `${indent}- ${yaml(item, `${indent}  `).trimStart()}`).join('');
  if (!isTable(tree)) return `${indent}${yamlScalar(tree)}`;
  return Object.entries(tree)
    .map(([key, item]) =>
      typeof item === 'object'
        ? `${indent}${key}:\n${yaml(item, `${indent}    `)}`
        : `${indent}${key}: ${yamlScalar(item)}`,
    )
    .join('');
}

const yamlScalar = (value: Scalar): string => `${JSON.stringify(value)}\n`;

/** Reads what {@link yaml} writes. */
function readYaml(lines: string[], indent: number): Tree {
  const table: Record<string, Tree> = {};
  const list: Tree[] = [];
  for (let [line] = lines; line !== undefined && line.search(/\S/) === indent; [line] = lines) {
    const text = line.trim();
    if (text.startsWith('- ')) {
      const rest = text.slice(2);
      if (rest.startsWith('"')) list.push(scalar(rest));
      else {
        lines.splice(0, 1, `${' '.repeat(indent + 2)}${rest}`);
        list.push(readYaml(lines, indent + 2));
        continue;
      }
      lines.shift();
      continue;
    }
    lines.shift();
    const [, key = '', value = ''] = /^([^:]+):\s*(.*)$/.exec(text) ?? [];
    table[key] = value === '' ? readYaml(lines, lines[0]?.search(/\S/) ?? 0) : scalar(value);
  }
  return list.length > 0 ? list : table;
}

function scalar(text: string): Scalar {
  const value: unknown = JSON.parse(text);
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value;
  throw new Error(`${text} is not a scalar`);
}

/** The tree of a file and its metadata by their flat names. */
function readFile(text: string, type: string): { tree: Tree; meta: ReadonlyMap<string, string> } {
  if (type === 'dotenv' || type === 'ini') {
    const tables: Record<string, Record<string, string>> = {};
    const meta = new Map<string, string>();
    let section = '';
    for (const line of text.split('\n')) {
      section = /^\[(.*)\]$/.exec(line)?.[1] ?? section;
      const [, key, value = ''] = /^([^=[]+?) ?= ?(.*)$/.exec(line) ?? [];
      if (key === undefined) continue;
      if (section === 'sops' || key.startsWith('sops_'))
        meta.set(key.replace(/^sops_/, ''), value.replaceAll('\\n', '\n'));
      else tables[section] = { ...tables[section], [key]: value };
    }
    return { tree: type === 'ini' ? tables : (tables[''] ?? {}), meta };
  }
  const whole = type === 'yaml' ? readYaml(text.split('\n'), 0) : treeOf(JSON.parse(text));
  if (!isTable(whole)) throw new Error('not a file of sops');
  const { sops, ...tree } = whole;
  return { tree, meta: new Map(flat(sops ?? {}, '')) };
}

function treeOf(value: unknown): Tree {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value;
  if (Array.isArray(value)) return value.map(treeOf);
  if (typeof value !== 'object' || value === null) throw new Error('null');
  return Object.fromEntries(Object.entries(value).map(([key, item]: [string, unknown]) => [key, treeOf(item)]));
}

function decrypt(file: string, type: string): Tree {
  const { tree, meta } = readFile(readFileSync(file, 'utf8'), type);
  const identity = process.env['SOPS_AGE_KEY_FILE'] ?? '';
  const key = age(['-d', '-i', identity], meta.get('age__list_0__map_enc') ?? '');
  const digest = createHash('sha512');
  const plain = mapped(tree, (value, path) => {
    const text = opened(key, String(value), `${path.join(':')}:`);
    digest.update(plainText(text));
    return text;
  });
  const mac = opened(key, meta.get('mac') ?? '', meta.get('lastmodified') ?? '');
  if (mac !== digest.digest('hex').toUpperCase()) throw new Error('MAC mismatch');
  return plain;
}

function main(args: readonly string[]): void {
  const option = (name: string): string | undefined => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
  const file = args.at(-1) ?? '';
  if (args[0] === '-e') {
    const plain = treeOf(JSON.parse(readFileSync(file, 'utf8')));
    process.stdout.write(encrypt(plain, option('--age') ?? '', option('--output-type') ?? 'json'));
    return;
  }
  const ending = /\.(ya?ml|json|env|ini)$/.exec(file)?.[1];
  const usual = ending === undefined ? 'binary' : ending === 'env' ? 'dotenv' : ending === 'yml' ? 'yaml' : ending;
  const type = option('--input-type') ?? usual;
  const plain = decrypt(file, type);
  const isWhole = (option('--output-type') ?? type) === 'binary';
  process.stdout.write(
    isWhole && isTable(plain) ? String(plain['data']) : `${JSON.stringify(plain, undefined, '\t')}\n`,
  );
}

main(process.argv.slice(2));
