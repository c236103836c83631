import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { groupId, userId } from '../../src/system/files.ts';

test('root has its id before there are users, and nobody else has', (context) => {
  const root = mkdtempSync(join(tmpdir(), 'auxcred-accounts-'));
  context.after(() => rmSync(root, { recursive: true }));
  assert.deepEqual([userId(root, 'root'), groupId(root, 'root')], [0, 0]);
  assert.deepEqual([userId(root, 'alice'), groupId(root, 'alice')], [undefined, undefined]);
  mkdirSync(join(root, 'etc'));
  writeFileSync(join(root, 'etc/passwd'), 'alice:x:1000:1001::/home/alice:/bin/sh\n');
  writeFileSync(join(root, 'etc/group'), 'alice:x:1001:\n');
  assert.deepEqual([userId(root, 'alice'), groupId(root, 'alice')], [1000, 1001]);
});
