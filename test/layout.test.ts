/** The folders of src/ form a list, and imports point down it (docs/architecture.md). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, test } from 'node:test';
import { manual } from '../src/cli/manual.ts';

/** From what is started down to what imports nothing. */
const order = [
  'programs',
  'commands',
  'package',
  'cli',
  'machine',
  'push',
  'health',
  'provision',
  'drop-ins',
  'broker',
  'snapshot',
  'moving-in',
  'other-vaults',
  'vault',
  'audit',
  'seeds',
  'attestation',
  'graph',
  'manifest',
  'fixed',
  'gokey',
  'derive',
  'age',
  'measured',
  'tpm2',
  'terminal',
  'system',
  '.',
];

const files = readdirSync('src', { recursive: true })
  .map(String)
  .filter((file) => file.endsWith('.ts'));
const folderOf = (file: string): string => dirname(file).split('/')[0] ?? '.';

/** The modules that a file imports, below src. */
function importsOf(file: string): string[] {
  const specifiers = readFileSync(join('src', file), 'utf8').matchAll(/(?:from|import\()\s*'(\.[^']+\.ts)'/g);
  return [...specifiers].map(([, specifier = '']) => normalize(join(dirname(file), specifier)));
}

describe('the folders of src', () => {
  test('are those of the list', () => {
    assert.deepEqual([...new Set(files.map(folderOf))].sort(), [...order].sort());
  });

  test('import only from below', () => {
    assert.ok(files.some((file) => importsOf(file).length > 0));
    const upward = files.flatMap((file) =>
      importsOf(file)
        .filter((imported) => {
          const [from, to] = [order.indexOf(folderOf(file)), order.indexOf(folderOf(imported))];
          return from > to;
        })
        .map((imported) => `src/${file} imports src/${imported}`),
    );
    assert.deepEqual(upward, []);
  });

  test('have one file per verb in commands, and nothing else there', () => {
    const verbs = Object.keys(manual).filter((verb) => verb !== 'cp');
    assert.deepEqual(readdirSync('src/commands').sort(), verbs.map((verb) => `${verb}.ts`).sort());
  });

  test('run nothing on import, except programs', () => {
    const starters = files.filter((file) => /^main\(/m.test(readFileSync(join('src', file), 'utf8')));
    assert.deepEqual(
      starters.filter((file) => folderOf(file) !== 'programs' && folderOf(file) !== 'package'),
      [],
    );
  });
});

describe('the lines', () => {
  const linesOf = (file: string): string[] => readFileSync(file, 'utf8').split('\n');
  const sources = ['src', 'test', 'bench'].flatMap((folder) =>
    readdirSync(folder, { recursive: true })
      .map((file) => join(folder, String(file)))
      .filter((file) => file.endsWith('.ts')),
  );

  test('are as the formatter and the linter want them: npm run format', () => {
    const args = ['check', 'src', 'test', 'bench', 'docs'];
    const { status, stdout, stderr } = spawnSync('node_modules/.bin/biome', args, { encoding: 'utf8' });
    assert.equal(status, 0, `${stdout}${stderr}`);
  });

  test('are longer than 120 columns in one of fifty at most', () => {
    const lines = sources.flatMap(linesOf);
    const long = lines.filter((line) => line.length > 120);
    assert.ok(long.length <= lines.length / 50, `${String(long.length)} of ${String(lines.length)}`);
  });

  test('are at most 400 in a file that is not a table', () => {
    const tables = ['src/cli/manual.ts', 'src/derive/words.ts'];
    const long = sources.filter((file) => linesOf(file).length > 401);
    assert.deepEqual(long, tables);
  });
});
