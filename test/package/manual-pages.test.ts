import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { manual, type VerbEntry, verbNames } from '../../src/cli/manual.ts';
import { manPageFiles } from '../../src/package/man-pages.ts';
import { filesIn, program, run, scratch, succeed } from './built.ts';

/** The page as text, without bold and underlined letters. */
const shown = (file: string): string => run('sh', '-c', 'MANWIDTH=100 man -l -Tutf8 "$1" | col -bx', 'sh', file).stdout;

/** All that `properties` name, however deep in a schema. */
function propertiesIn(schema: unknown): string[] {
  if (typeof schema !== 'object' || schema === null) return [];
  const below = Object.entries(schema).flatMap(([key, value]) => [
    ...(key === 'properties' ? Object.keys(value) : []),
    ...propertiesIn(value),
  ]);
  return [...new Set(below)];
}

describe('the manual pages', () => {
  const built = scratch();
  const dist = join(built.path, 'dist');
  const pageOf = (name: string): string => join(dist, 'man', name);
  before(() => {
    succeed(process.execPath, program('bundle'), `--dist=${dist}`);
  });
  after(() => {
    built.remove();
  });

  test('exist for every verb, the manifest and the units', () => {
    assert.deepEqual(filesIn(join(dist, 'man')), [...manPageFiles].sort());
    assert.equal(manPageFiles.length, verbNames.length + 3);
  });

  test('pass mandoc and groff without warnings', () => {
    for (const name of manPageFiles) {
      const { stdout, stderr } = run('mandoc', '-T', 'lint', '-W', 'warning', pageOf(name));
      assert.equal(`${stdout}${stderr}`, '', name);
      assert.equal(run('man', '--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', pageOf(name)).stderr, '', name);
    }
  });

  test('these checks can fail', () => {
    assert.notEqual(run('mandoc', '-T', 'lint', '-W', 'warning', 'docs/formats.md').status, 0);
  });

  test('have every option and example', () => {
    for (const verb of ['seal', 'generate', 'gokey'] as const) {
      const text = shown(pageOf(`auxcred-${verb}.1`));
      const { options, examples = [] }: VerbEntry = manual[verb];
      for (const { name, value } of options)
        assert.match(
          text,
          verb === 'gokey'
            ? new RegExp(`^ +-${name}\\b`, 'm')
            : new RegExp(`^ +--${name}${value === undefined ? '' : `=${value}`}( |$)`, 'm'),
        );
      for (const { command } of examples) assert.ok(text.includes(command), command);
    }
    assert.match(shown(pageOf('auxcred-audit.1')), /^ +-n N +Only the last/m);
    const overview = shown(pageOf('auxcred.1'));
    for (const verb of verbNames) assert.ok(overview.includes(`auxcred-${verb}(1)`), verb);
    assert.match(overview, /^ +12 \(pcr-mismatch\)/m);
  });

  test("have every key of the manifest's schema", () => {
    const text = shown(pageOf('auxcred-secrets.5'));
    const schema: unknown = JSON.parse(readFileSync('src/manifest/schema.json', 'utf8'));
    const keys = propertiesIn(schema).filter((key) => key !== 'secret');
    for (const key of ['kind', 'period', 'owner', 'link', 'rounds']) assert.ok(keys.includes(key), key);
    const missing = keys.filter((key) => !new RegExp(`^ {7}${key}(?: |$)`, 'm').test(text));
    assert.deepEqual(missing, []);
    assert.doesNotMatch(text, /\]\(|\*\*|`[a-z]+`/, 'no Markdown is left');
  });
});
