/**
 * The fixed folder on a disk that others write to as well: what is not a file, what was forged, and what was left
 * behind.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { keyId } from '../../src/derive/tree.ts';
import { Failure } from '../../src/failure.ts';
import { readHeader } from '../../src/fixed/file.ts';
import { FixedFolder, type FolderKeys } from '../../src/fixed/folder.ts';
import { type FixedName, nameText } from '../../src/fixed/name.ts';

const seed = (epoch: number): Uint8Array => new Uint8Array(32).fill(epoch);
const keys: FolderKeys = {
  seedOf: () => ({ seed: seed(3), epoch: 3 }),
  former: (_, id) =>
    [2, 1].map((epoch) => ({ seed: seed(epoch), epoch })).find((one) => Buffer.compare(keyId(one.seed), id) === 0),
};
const named = (path: string): FixedName => ({ scope: 'host/web1', path });
const value = Buffer.from('value');

let path = '';
let folder: FixedFolder;
beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), 'folder-'));
  folder = new FixedFolder(path);
});
afterEach(() => {
  rmSync(path, { recursive: true });
});

const isMalformed =
  (message: RegExp) =>
  (error: unknown): boolean =>
    error instanceof Failure && error.code === 'malformed' && message.test(error.message);

/** A file with another sequence in its header, which no longer authenticates. */
function forge(name: FixedName, sequence: bigint): void {
  const bytes = readFileSync(folder.fileOf(name));
  bytes.writeBigUInt64BE(sequence, 'auxfixed'.length + 1 + 16);
  writeFileSync(folder.fileOf(name), bytes);
}

describe("what is not a secret's file", () => {
  test('is refused without being read, and may be replaced', () => {
    const a = named('a');
    folder.write(a, value, keys);
    const file = folder.fileOf(a);
    const kinds: [string, () => void, RegExp][] = [
      [
        'a FIFO',
        () => {
          assert.equal(spawnSync('mkfifo', [file]).status, 0);
        },
        /is not a regular file/,
      ],
      [
        'an endless device',
        () => {
          symlinkSync('/dev/zero', file);
        },
        /is not a regular file/,
      ],
      [
        'a loop of links',
        () => {
          symlinkSync(file, file);
        },
        /is a loop of symbolic links/,
      ],
      [
        'a file too long',
        () => {
          writeFileSync(file, Buffer.alloc(140_000));
        },
        /has 140000 bytes, and \d+ is the limit/,
      ],
      [
        'a link to a folder',
        () => {
          symlinkSync(path, file);
        },
        /is not a regular file/,
      ],
    ];
    for (const [kind, make, message] of kinds) {
      rmSync(file);
      make();
      assert.throws(() => folder.read(a), isMalformed(message), kind);
      assert.throws(() => folder.open(a, keys.seedOf, keys.former), isMalformed(message), kind);
      assert.deepEqual(folder.list().names, [a], kind);
      assert.ok(folder.has(a), kind);
      folder.write(a, value, keys);
      assert.deepEqual(Buffer.from(folder.open(a, keys.seedOf).value), value, kind);
    }
  });

  test('in place of a folder is refused, and one of a folder is removed alone', () => {
    mkdirSync(join(path, 'host'));
    symlinkSync('web1', join(path, 'host/web1'));
    assert.throws(() => folder.list('host/web1'), isMalformed(/host\/web1 is a loop of symbolic links/));
    rmSync(join(path, 'host/web1'));
    folder.write(named('a'), value, keys);
    const outside = join(path, 'outside');
    writeFileSync(outside, 'kept');
    rmSync(folder.fileOf(named('a')));
    symlinkSync(outside, folder.fileOf(named('a')));
    folder.remove(named('a'));
    assert.equal(readFileSync(outside, 'utf8'), 'kept');
    assert.ok(!existsSync(join(path, 'host')));
  });
});

describe('the sequence of a file that replaces another one', () => {
  test('continues that of a file that opens, even one of an earlier epoch', () => {
    const later = Date.now() + 1e9;
    const clock = Date.now;
    try {
      Date.now = () => later;
      folder.write(named('a'), value, keys);
      folder.write(named('old'), value, { seedOf: () => ({ seed: seed(1), epoch: 1 }), former: keys.former });
    } finally {
      Date.now = clock;
    }
    for (const name of [named('a'), named('old')]) assert.equal(folder.write(name, value, keys), later + 1);
  });

  test('does not continue that of a header that anybody can have written', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        fc.constantFrom(0n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 64n - 1n),
        fc.boolean(),
        (any, edge, isEdge) => {
          const name = named('a');
          folder.write(name, value, keys);
          forge(name, isEdge ? edge : any);
          const sequence = folder.write(name, value, keys);
          assert.ok(Math.abs(sequence - Date.now()) < 60_000);
          assert.equal(readHeader(name, folder.bytes(name)).sequence, sequence);
          assert.deepEqual(Buffer.from(folder.open(name, keys.seedOf).value), value);
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe('names that differ only in case', () => {
  const isRefused = (look: () => void): boolean => {
    try {
      look();
      return false;
    } catch (error) {
      assert.ok(error instanceof Failure && error.code === 'refused');
      return true;
    }
  };

  test('are told from one listing of each folder', () => {
    folder.write(named('dir/Token'), value, keys);
    folder.refuseLookalike(named('dir/other'));
    rmSync(join(path, 'host'), { recursive: true });
    assert.ok(
      isRefused(() => {
        folder.refuseLookalike(named('dir/token'));
      }),
    );
    assert.ok(
      isRefused(() => {
        folder.refuseLookalike(named('DIR/x'));
      }),
    );
  });

  test('are the same to a folder that was written to and to one that lists the disk', () => {
    const segment = fc.constantFrom('a', 'A', 'b', 'B', 'ab', 'aB');
    const name = fc.array(segment, { minLength: 1, maxLength: 3 }).map((segments) => named(segments.join('/')));
    fc.assert(
      fc.property(fc.array(fc.record({ name, remove: fc.boolean() }), { maxLength: 30 }), (steps) => {
        rmSync(join(path, 'host'), { recursive: true, force: true });
        folder = new FixedFolder(path);
        for (const { name: one, remove } of steps) {
          const refused = isRefused(() => {
            new FixedFolder(path).refuseLookalike(one);
          });
          assert.equal(
            isRefused(() => {
              folder.refuseLookalike(one);
            }),
            refused,
            nameText(one),
          );
          if (remove && folder.has(one)) folder.remove(one);
          else if (!remove && !refused) folder.place(one, value);
        }
      }),
      { numRuns: 150 },
    );
  });
});

test('what killed processes left is swept, and nothing else', () => {
  folder.write(named('dir/a'), value, keys);
  const gone = spawnSync('true').pid;
  const leftovers = [`.a.sealed.${String(gone)}.new`, `.b.sealed.${String(process.pid)}.new`];
  const kept = ['.a.sealed.1.new', '.git', 'notes.txt', '.a.new', 'b.1.new'];
  const inside = dirname(folder.fileOf(named('dir/a')));
  for (const name of [...leftovers, ...kept]) writeFileSync(join(inside, name), '');
  folder.sweep();
  assert.deepEqual(readdirSync(inside).sort(), [...kept, 'a.sealed'].sort());
});
