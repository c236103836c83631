/** Files and `!vault` values of Ansible, read by `ansible-vault decrypt`. */
import { readFileSync } from 'node:fs';
import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { programOnPath } from '../other-vaults/find.ts';
import { encryptedText, filesIn, withoutEnding } from './files.ts';
import { type Asked, type Findings, type FoundSecret, wipeFindings } from './findings.ts';
import { jsonLeaves } from './json-leaves.ts';
import { attempt, outputOf } from './program.ts';

const heading = '$ANSIBLE_VAULT;';

/** Every encrypted file, and every `!vault` value in the others. @throws Failure */
export function ansibleVault({ from, keys }: Asked): Findings {
  const secrets: FoundSecret[] = [];
  const unread: string[] = [];
  const take = (read: () => readonly FoundSecret[]): void => {
    const found = attempt(read);
    if (found instanceof Failure) unread.push(found.message);
    else secrets.push(...found);
  };
  try {
    for (const { path, below } of filesIn(from)) {
      const text = encryptedText(path);
      const prefix = from.includes(path) ? '' : `${withoutEnding(below)}/`;
      const inline = text.startsWith(heading) ? undefined : inlineValues(text);
      if (!inline) take(() => wholeFile(path, below, prefix, keys));
      else if (inline.length === 0 && prefix === '') unread.push(`${path} has no secret of ansible-vault`);
      for (const { key, vault } of inline ?? []) {
        const what = `${path}: ${key}`;
        take(() => [{ name: prefix + key, from: what, value: decrypted(vault, what, keys), use: { units: [] } }]);
      }
    }
  } catch (error) {
    wipeFindings({ secrets });
    throw error;
  }
  return { secrets, environments: [], unread, notes: [] };
}

/** @param what - for messages. The caller wipes the value */
const decrypted = (vault: string, what: string, keys: readonly string[]): Uint8Array =>
  outputOf(
    [
      'ansible-vault',
      'decrypt',
      ...keys.map((file) => `--vault-password-file=${file}`),
      '--output=-',
      // Otherwise it would ask for the password on standard input, which holds the vault.
      '-',
    ],
    what,
    { input: utf8(vault) },
  );

/** The keys of an encrypted YAML or JSON file; any other is one secret. */
function wholeFile(path: string, below: string, prefix: string, keys: readonly string[]): FoundSecret[] {
  const value = decrypted(encryptedText(path), path, keys);
  const one = (): FoundSecret[] => [{ name: withoutEnding(below), from: path, value, use: { units: [] } }];
  if (!/\.(ya?ml|json)$/.test(path)) return one();
  try {
    const json = outputOf([...ansiblePython(), '-c', yamlToJson], path, { input: value });
    try {
      return jsonLeaves(json, path).map((leaf) => ({
        name: prefix + leaf.path.join('/'),
        from: `${path}: ${leaf.path.join('/')}`,
        value: leaf.value,
        use: { units: [] },
      }));
    } finally {
      json.fill(0);
    }
  } finally {
    value.fill(0);
  }
}

/** Ansible reads YAML by PyYAML, so its interpreter has it. */
const yamlToJson =
  'import sys, json, yaml; json.dump(yaml.safe_load(sys.stdin.buffer), sys.stdout, default=str, ensure_ascii=False)';

/** The interpreter in the first line of ansible-vault. */
function ansiblePython(): string[] {
  const program = programOnPath('ansible-vault', process.env);
  const [, interpreter] =
    /^#! *(\S+(?: +\S+)?)/.exec(program === undefined ? '' : readFileSync(program, 'latin1')) ?? [];
  const words = (interpreter ?? 'python3').split(/ +/).filter((word) => word !== '');
  return [...words, ...(words.includes('-I') ? [] : ['-I'])];
}

/** An encrypted value in a file that is otherwise plain. */
interface InlineValue {
  /** The keys that lead to it, joined by `/`. */
  readonly key: string;
  readonly vault: string;
}

/** A key of a mapping or an item of a list that later lines belong to, as long as they are indented more. */
interface Level {
  readonly indent: number;
  readonly name: string | number;
}

/**
 * The `KEY: !vault |` blocks of YAML, as `ansible-vault encrypt_string` writes them, with the keys of the mappings and
 * the numbers of the list items around them, which the indentation tells.
 */
function inlineValues(text: string): InlineValue[] {
  const lines = text.split(/\r?\n/);
  let levels: readonly Level[] = [];
  return lines.flatMap((line, i) => {
    levels = levelsAt(levels, line);
    if (!/^(?:[^#'"]*|.*[:-]\s+)!vault\s*\|/.test(line) || levels.length === 0) return [];
    const block = lines.slice(i + 1);
    const end = block.findIndex((next) => !/^\s+(?:[0-9a-f]+|\$ANSIBLE_VAULT;\S+)\s*$/.test(next));
    const vault = block.slice(0, end === -1 ? block.length : end).map((next) => `${next.trim()}\n`);
    if (vault[0]?.startsWith(heading) !== true) return [];
    return [{ key: levels.map(({ name }) => String(name)).join('/'), vault: vault.join('') }];
  });
}

/** The levels that are open after a line. */
function levelsAt(levels: readonly Level[], line: string): readonly Level[] {
  let open = [...levels];
  let indent = line.length - line.trimStart().length;
  let rest = line.slice(indent);
  for (; /^- +\S/.test(rest); rest = rest.slice(indent - (open.at(-1)?.indent ?? 0))) {
    open = openAt(open, indent);
    indent += /^- +/.exec(rest)?.[0].length ?? 0;
  }
  const [, key] = /^("[^"]*"|'[^']*'|[^\s#:'"-][^:#]*?)\s*:(?:\s|$)/.exec(rest) ?? [];
  if (key === undefined) return open;
  return [...open.filter((level) => level.indent < indent), { indent, name: key.replace(/^(['"])(.*)\1$/, '$2') }];
}

/** Opens the next item of the list whose dash is at this indentation, which may be that of the key above it. */
function openAt(levels: readonly Level[], indent: number): Level[] {
  const around = levels.filter((level) => level.indent < indent || (level.indent === indent && isKey(level)));
  const before = levels.find((level) => level.indent === indent && !isKey(level));
  return [...around, { indent, name: typeof before?.name === 'number' ? before.name + 1 : 0 }];
}

const isKey = ({ name }: Level): boolean => typeof name === 'string';
