/**
 * README.md and docs/ are right: links lead somewhere, commands and options exist, tables agree with the schema.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { isVerb, manual, type VerbEntry, verbNames } from '../src/cli/manual.ts';
import { chapter, rowsOf } from '../src/package/roff.ts';
import { changes, sealings } from './measured-boot/comparison-page.ts';
import { filesOfPage } from './watching-page.ts';

const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  ...readdirSync('docs', { recursive: true })
    .map(String)
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];
const read = (path: string): string => readFileSync(path, 'utf8');
const isCode = (line: string): boolean => line.startsWith('    ');
const prose = (text: string): string =>
  text
    .split('\n')
    .filter((line) => !isCode(line))
    .join('\n');

/** GitHub's anchor for a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');
const anchorsIn = (path: string): Set<string> =>
  new Set([...prose(read(path)).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => anchorOf(heading)));

describe('the documentation', () => {
  for (const page of pages)
    test(`${page} links only to what is there`, () => {
      for (const [, target = ''] of prose(read(page))
        .replaceAll(/`[^`\n]*`/g, '')
        .matchAll(/\[[^\]]*\]\(([^)]+)\)/g)) {
        if (/^https?:/.test(target)) continue;
        const [file = '', anchor] = target.split('#');
        const path = file === '' ? page : join(dirname(page), file);
        assert.ok(existsSync(path), `${page}: ${target}`);
        if (anchor !== undefined) assert.ok(anchorsIn(path).has(anchor), `${page}: ${target}`);
      }
    });

  test("has lines of at most 120 columns, except tables and what can't be broken", () => {
    for (const page of pages)
      for (const line of prose(read(page)).split('\n'))
        if (!line.startsWith('|') && line.trim().includes(' ')) assert.ok([...line].length <= 120, `${page}: ${line}`);
  });

  test('the README fits on two screens', () => {
    assert.ok(read('README.md').split('\n').length <= 120);
  });

  for (const picture of ['flow', 'graph', 'peers'])
    test(`docs/${picture}.svg is what docs/${picture}.mjs prints`, () => {
      const { stdout } = spawnSync(process.execPath, [`docs/${picture}.mjs`], { encoding: 'utf8' });
      assert.equal(stdout, read(`docs/${picture}.svg`));
    });

  test('docs/comparison.md has each change and each sealing, and in bold what the owner does not want', () => {
    const titles = sealings().map(({ program, name }) => `${program}, ${name}`);
    for (const { title, outcomes } of changes()) assert.deepEqual([...outcomes.keys()], titles, title);
  });

  test('docs/bench.md shows the numbers of docs/peers.json', () => {
    const { stdout } = spawnSync(process.execPath, ['docs/peers.mjs', 'page'], { encoding: 'utf8' });
    assert.equal(stdout, read('docs/bench.md'));
  });

  test('the rules for alerts are what Prometheus takes, about metrics that exist', () => {
    const rules = filesOfPage().get('/etc/prometheus/rules.d/auxcred.yml') ?? '';
    const folder = mkdtempSync(join(tmpdir(), 'auxcred-rules-'));
    try {
      writeFileSync(join(folder, 'rules.yml'), rules);
      const { status, stderr } = spawnSync('promtool', ['check', 'rules', join(folder, 'rules.yml')], {
        encoding: 'utf8',
      });
      assert.equal(status, 0, stderr);
    } finally {
      rmSync(folder, { recursive: true });
    }
    const named = [...rules.matchAll(/\bauxcred_[a-z_]+/g)];
    assert.ok(named.length >= 5);
    for (const [name] of named) assert.ok(read('src/health/metrics.ts').includes(`'${name}'`), name);
  });
});

/** Programs' own options that the pages name, by page or program. */
const others = new Set([
  'destdir',
  'prefix',
  'node',
  'dist',
  'remove',
  'extra-files',
  'help',
  'version',
  'jitless',
  'disable-warning',
  'no-expose-wasm',
  'regenerate',
  'no-block',
  'quick',
  'valid-days',
  'name',
  'print',
  'follow',
  'collector',
  'web',
  'tls-verify',
  'authfile',
]);
const optionsOf = (verb: VerbEntry): readonly string[] => [...verb.options.map(({ name }) => name), 'help'];
const allOptions = new Set(verbNames.flatMap((verb) => optionsOf(manual[verb])));

/** The code of a page: the lines of its blocks, without comments, and what is between backticks. */
function codeIn(text: string): string[] {
  const blocks = text
    .split('\n')
    .filter(isCode)
    .flatMap((line) => line.split(/ {2,}# /));
  const paragraphs = prose(text).split(/\n\n|\n(?=\|)/);
  return [
    ...blocks,
    ...paragraphs.flatMap((paragraph) =>
      [...paragraph.matchAll(/(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)/gs)].map(([, , code = '']) =>
        code.replaceAll(/\s+/g, ' '),
      ),
    ),
    // A comment is no command.
  ].filter((code) => !code.startsWith('# '));
}

describe('commands in the documentation', () => {
  for (const page of pages.filter((path) => path !== 'docs/decisions.md'))
    test(`${page} names verbs and options that exist`, () => {
      for (const code of codeIn(read(page))) {
        for (const [, verb = '', rest = ''] of code.matchAll(/(?<![\w/.-])auxcred ([a-z]+)\b(?![./-])([^|&;#`)]*)/g)) {
          if (verb === 'help') continue;
          assert.ok(isVerb(verb), `${page}: auxcred ${verb}`);
          // What follows a lone -- is another program's.
          const [own = ''] = rest.split(' -- ');
          for (const [, option = ''] of own.matchAll(/(?<=\s)--([a-z][a-z0-9-]*)/g))
            assert.ok(optionsOf(manual[verb]).includes(option), `${page}: auxcred ${verb} --${option}`);
        }
      }
      if (page === 'docs/formats.md') return;
      for (const [, option = ''] of prose(read(page)).matchAll(/`--([a-z][a-z0-9-]*)/g))
        assert.ok(allOptions.has(option) || others.has(option), `${page}: --${option}`);
    });

  test('docs/guide.md lists the verbs that have --json', () => {
    const [list = ''] = /[^.:]*\btake\s+`--json`/.exec(chapter(read('docs/guide.md'), 'Look')) ?? [];
    const listed = [...list.matchAll(/`([a-z][a-z-]*)`/g)].map(([, verb]) => verb);
    assert.deepEqual(listed.sort(), verbNames.filter((verb) => optionsOf(manual[verb]).includes('json')).sort());
  });
});

test('sockets in the documentation are those of the units', () => {
  const listening = readdirSync('units')
    .filter((name) => name.endsWith('.socket'))
    .flatMap((name) => [...read(`units/${name}`).matchAll(/^ListenStream=(.+)$/gm)].map(([, path]) => path));
  for (const page of pages)
    for (const [path] of read(page).matchAll(/\/run\/auxcred\/[a-z]+\.sock/g))
      assert.ok(listening.includes(path), `${page}: ${path}`);
});

interface Schema {
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly items?: Schema;
  readonly $ref?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly {
    readonly if: { readonly properties: { readonly kind?: Schema; readonly delivery?: Schema } };
    readonly then: Schema;
  }[];
}

describe('the table of manifest keys', () => {
  const { $defs: defs }: { $defs: { secret: Schema; derived: Schema; account: Schema } } = JSON.parse(
    read('src/manifest/schema.json'),
  );
  const rows = rowsOf(
    chapter(read('docs/guide.md'), 'Manifest')
      .split('\n')
      .filter((line) => line.startsWith('|')),
  ).filter((row) => row.length === 4 && row[0] !== 'key');
  const kinds = defs.secret.properties?.['kind']?.enum ?? [];
  const branches = (defs.secret.allOf ?? []).map(({ if: { properties }, then }) => ({
    names: properties.kind?.enum ?? ['file'],
    then,
  }));
  const derived = branches.filter(({ then }) => then.$ref === '#/$defs/derived').flatMap(({ names }) => names);

  /** Every key for each kind that has it: `all` for keys of every kind, `file` for keys of files. */
  function expected(): Map<string, Schema> {
    const keys = new Map<string, Schema>();
    const add = (kind: string, properties: Readonly<Record<string, Schema>> = {}): void => {
      for (const [key, schema] of Object.entries(properties))
        keys.set(`${key} of ${kind}`, schema.$ref === '#/$defs/account' ? { ...defs.account, ...schema } : schema);
    };
    add('all', defs.secret.properties);
    for (const { names, then } of branches)
      for (const name of names)
        add(name, { ...then.properties, ...(then.$ref === undefined ? {} : defs.derived.properties) });
    return keys;
  }

  function documented(): Map<string, readonly string[]> {
    const keys = new Map<string, readonly string[]>();
    for (const row of rows) {
      const key = /^`([a-z-]+)`$/.exec(row[0] ?? '')?.[1];
      assert.ok(key !== undefined, row[0]);
      for (const kind of (row[1] ?? '').split(', ').flatMap((name) => (name === 'derived' ? derived : [name]))) {
        assert.ok(kind === 'all' || kind === 'file' || kinds.includes(kind), `${key}: ${kind}`);
        assert.ok(!keys.has(`${key} of ${kind}`), `${key} of ${kind} stands twice`);
        keys.set(`${key} of ${kind}`, row);
      }
    }
    return keys;
  }

  test('has every key of every kind, and no other', () => {
    assert.deepEqual([...documented().keys()].sort(), [...expected().keys()].sort());
  });

  test('has the values, limits and defaults of the schema', () => {
    const table = documented();
    for (const [key, schema] of expected()) {
      const [, , value = '', byDefault = ''] = table.get(key) ?? [];
      for (const one of schema.enum ?? schema.items?.enum ?? [])
        assert.ok(value.includes(`\`${one}\``), `${key}: ${one}`);
      for (const limit of [schema.minimum, schema.maximum])
        if (limit !== undefined) assert.match(value, new RegExp(`\\b${String(limit)}\\b`), key);
      if (schema.default === undefined) continue;
      const written =
        typeof schema.default === 'string'
          ? `\`${schema.default}\``
          : Array.isArray(schema.default)
            ? 'empty'
            : String(schema.default);
      assert.equal(byDefault.split(/[;,]/)[0], written, key);
    }
  });

  test("marks the keys that a kind can't do without", () => {
    const table = documented();
    for (const { names, then } of branches)
      for (const name of names)
        for (const key of then.required ?? []) assert.equal(table.get(`${key} of ${name}`)?.[3], 'required', key);
  });
});
