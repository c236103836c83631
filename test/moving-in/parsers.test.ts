import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { namePattern } from '../../src/derive/realm.ts';
import { Failure } from '../../src/failure.ts';
import { variablesIn } from '../../src/moving-in/env-lines.ts';
import { manifestName } from '../../src/moving-in/findings.ts';
import { jsonLeaves } from '../../src/moving-in/json-leaves.ts';

/** systemd's own library, which has load_env_file(). */
function sharedLibrary(): string {
  const folders = ['/usr/lib/systemd', '/usr/lib/x86_64-linux-gnu/systemd', '/usr/lib/aarch64-linux-gnu/systemd'];
  const [found] = folders
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
    .filter((path) => /libsystemd-shared-[\d.]+\.so$/.test(path));
  assert.ok(found !== undefined, 'systemd is not installed');
  return found;
}

/** Reads files of a folder, by number, with load_env_file(); prints one list of `KEY=value` a file. */
const judge = `
import ctypes, json, sys
load = ctypes.CDLL(sys.argv[1]).load_env_file
for number in range(int(sys.argv[3])):
    listed = ctypes.POINTER(ctypes.c_char_p)()
    status = load(None, f"{sys.argv[2]}/{number}".encode(), ctypes.byref(listed))
    lines = []
    while status >= 0 and listed and listed[len(lines)] is not None:
        lines.append(listed[len(lines)].decode("latin1"))
    print(json.dumps(lines))
`;

describe('an environment file', () => {
  test("has the variables that systemd's own parser finds", () => {
    const part = fc.constantFrom(
      'A',
      'B',
      '=',
      ' ',
      '\t',
      '\n',
      '\r',
      '"',
      "'",
      '\\',
      '$',
      '`',
      'x',
      '\nA=',
      '\nB="',
      'é',
    );
    const texts = fc.sample(
      fc.array(part, { maxLength: 24 }).map((parts) => `K=${parts.join('')}`),
      { numRuns: 2000, seed: 7 },
    );
    const all = ['# c\n;d\nA=1\n', 'A=1', 'A="1', "A='", 'A=\\', 'A="\\', 'no\nA = b c \n', ...texts];
    const folder = mkdtempSync(join(tmpdir(), 'env-'));
    try {
      all.forEach((text, i) => {
        writeFileSync(join(folder, String(i)), text);
      });
      const { status, stdout, stderr } = spawnSync(
        'python3',
        ['-c', judge, sharedLibrary(), folder, String(all.length)],
        { encoding: 'utf8', maxBuffer: 64 << 20 },
      );
      assert.equal(status, 0, stderr);
      const theirs = stdout.trimEnd().split('\n');
      assert.equal(theirs.length, all.length);
      all.forEach((text, i) => {
        const ours = variablesIn(Buffer.from(text)).map(
          ({ key, value }) => `${Buffer.from(key).toString('latin1')}=${Buffer.from(value).toString('latin1')}`,
        );
        assert.equal(JSON.stringify(ours), JSON.stringify(JSON.parse(theirs[i] ?? '')), JSON.stringify(text));
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('may be a shell script of assignments', () => {
    const variables = variablesIn(Buffer.from('export A=1\nexport  B="2"\n'));
    assert.deepEqual(
      variables.map(({ key }) => key),
      ['A', 'B'],
    );
  });
});

describe('the leaves of JSON', () => {
  const leavesOf = (value: unknown, path: readonly string[] = []): [string, string][] => {
    if (value === null || value === undefined) return [];
    if (Array.isArray(value)) return value.flatMap((item: unknown, i) => leavesOf(item, [...path, String(i)]));
    if (typeof value === 'object')
      return Object.entries(value).flatMap(([key, item]: [string, unknown]) => leavesOf(item, [...path, key]));
    return [[JSON.stringify(path), typeof value === 'string' ? value.toWellFormed() : JSON.stringify(value)]];
  };

  test('are what JSON.parse finds', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), fc.constantFrom(undefined, 1), (text, indent) => {
        const value: unknown = JSON.parse(text);
        const json = JSON.stringify(value, undefined, indent);
        const ascii = json.replaceAll(/[^ -~\n]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
        for (const written of [json, ascii])
          assert.deepEqual(
            jsonLeaves(Buffer.from(written), 'x').map((leaf) => [
              JSON.stringify(leaf.path),
              Buffer.from(leaf.value).toString(),
            ]),
            leavesOf(value),
          );
      }),
    );
  });

  test('are refused in anything else', () => {
    for (const text of [
      '',
      '{',
      '{"a"}',
      '{"a":1',
      '["a",]',
      '"a',
      '"\n"',
      '"\\x"',
      '"\\u12"',
      '1 2',
      `${'['.repeat(70)}`,
    ])
      assert.throws(() => jsonLeaves(Buffer.from(text), 'x'), Failure, text);
  });
});

test("any name becomes a manifest's, or none", () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (name) => {
      const made = manifestName(name);
      if (made !== undefined) {
        assert.match(made, namePattern);
        assert.doesNotMatch(made, /^(host|group)\//);
        assert.equal(manifestName(made), made);
      }
    }),
    { examples: [['host/x'], ['Ünï/.x/-a-'], ['//'], ['a/host/b']] },
  );
});
