/** The folders of src/ form a list, and imports point down it (docs/architecture.md). */
import assert from 'node:assert/strict';
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
  'other-vaults',
  'vault',
  'seeds',
  'manifest',
  'fixed',
  'gokey',
  'derive',
  'age',
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
