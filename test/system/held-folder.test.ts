/** Folders of a malicious user: every attack is run by a real process of that user. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { Failure } from '../../src/failure.ts';
import { HeldFolder, objectionTo } from '../../src/system/held-folder.ts';

const bob = 65534;
const carol = 65533;
const target = '/run/auxcred/files/secret';

/** What bob does until told to stop: his folder alternates between his own and a link to one of root's. */
const swapper = `
  const { renameSync, symlinkSync, unlinkSync } = require('node:fs');
  process.chdir(process.argv[1]);
  process.stdout.write('ready');
  const quietly = (work) => { try { work(); } catch {} };
  for (let i = 0; ; i++) {
    quietly(() => { renameSync('app', 'old' + i); });
    quietly(() => { symlinkSync('../../etc/apt.conf.d', 'app'); });
    quietly(() => { unlinkSync('app'); });
    quietly(() => { renameSync('old' + i, 'app'); });
  }`;

describe('folders of other users', {
  skip: process.getuid?.() === 0 ? false : "only root can take a user's rights",
}, () => {
  let root = '';
  const at = (path: string): string => join(root, path);
  const folder = (path: string, owner: number, mode = 0o755): void => {
    mkdirSync(at(path));
    chmodSync(at(path), mode);
    chownSync(at(path), owner, owner);
  };
  const makeLink = (path: string, owner: number | undefined = bob): void => {
    HeldFolder.within(root, path, { owner, missing: 'make' }, (held) => {
      held.replaceLink('secret.conf', target);
    });
  };
  /** Both agree: the check, and the action. */
  const refuses = (path: string, message: RegExp, owner: number | undefined = bob): void => {
    assert.match(objectionTo(root, path, { owner })?.message ?? '', message);
    assert.throws(
      () => {
        makeLink(path, owner);
      },
      (error) =>
        error instanceof Failure && error.code === 'refused' && message.test(error.message) && error.hint !== undefined,
    );
  };

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'held-'));
    chmodSync(root, 0o755);
    for (const path of ['etc', 'etc/apt.conf.d', 'home']) folder(path, 0);
    for (const path of ['home/bob', 'home/bob/app']) folder(path, bob);
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });

  test("a link in a folder of root's is root's, one in a user's is that user's", () => {
    makeLink('/etc/db/conf.d');
    makeLink('/home/bob/app/new/er');
    for (const [path, owner] of [
      ['etc/db', 0],
      ['etc/db/conf.d', 0],
      ['etc/db/conf.d/secret.conf', 0],
      ['home/bob/app/new', bob],
      ['home/bob/app/new/er', bob],
      ['home/bob/app/new/er/secret.conf', bob],
    ] as const) {
      const { uid, gid, mode } = lstatSync(at(path));
      assert.deepEqual([uid, gid], [owner, owner], path);
      if (!path.endsWith('.conf')) assert.equal(mode & 0o7777, 0o755, path);
    }
    assert.equal(readlinkSync(at('home/bob/app/new/er/secret.conf')), target);
    assert.deepEqual(readdirSync(at('home/bob/app/new/er')), ['secret.conf']);
    assert.equal(objectionTo(root, '/home/bob/app/new/er', { owner: bob }), undefined);
  });

  test('a folder that is a link is refused, whatever its target', () => {
    symlinkSync(at('etc/apt.conf.d'), at('home/bob/conf'));
    refuses('/home/bob/conf', /bob\/conf is a symbolic link to .*apt\.conf\.d/);
    refuses('/home/bob/conf/deeper', /bob\/conf is a symbolic link/);
    symlinkSync('apt.conf.d', at('etc/conf'));
    refuses('/etc/conf', /etc\/conf is a symbolic link to apt\.conf\.d/);
    assert.equal(
      objectionTo(root, '/etc/conf', { links: 'followed' }),
      undefined,
      "root's own link in a folder of root's",
    );
    assert.match(objectionTo(root, '/home/bob/conf', { links: 'followed' })?.message ?? '', /is a symbolic link/);
    writeFileSync(at('etc/file'), '');
    refuses('/etc/file', /etc\/file is not a folder/);
    assert.deepEqual(readdirSync(at('etc/apt.conf.d')), []);
  });

  test('folders that others can write, or own, are refused', () => {
    chmodSync(at('home/bob/app'), 0o775);
    refuses('/home/bob/app', /app can be written by more users than its owner/);
    chmodSync(at('home/bob/app'), 0o755);
    folder('tmp', 0, 0o1777);
    refuses('/tmp', /tmp can be written by more users/);
    refuses('/tmp/app', /tmp can be written by more users/);
    refuses('/home/bob/app', /bob belongs to user 65534, who could lead the path elsewhere/, carol);
    refuses('/home/bob/app', /bob belongs to user 65534/, 0);
    folder('home/bob/app/carol', carol);
    refuses('/home/bob/app/carol', /carol belongs to user 65533/);
    folder('home/bob/app/root', 0);
    refuses('/home/bob/app/root', /root lies in a folder of user 65534, but belongs to another user/);
  });

  test("paths that only root controls may contain root's links, and shared folders in which nobody can move root's files", () => {
    const roots = (path: string, end?: 'file'): string =>
      objectionTo(root, path, { owner: 0, links: 'followed', end })?.message.replaceAll(root, '') ?? 'none';
    folder('store', 0, 0o1775);
    folder('store/bin', 0);
    writeFileSync(at('store/bin/hook'), '', { mode: 0o755 });
    symlinkSync('../store/bin', at('etc/bin'));
    symlinkSync('bin/hook', at('etc/hook'));
    assert.deepEqual(
      [roots('/etc/bin/hook', 'file'), roots('/etc/hook', 'file'), roots('/store/bin/new'), roots('/etc/hook')],
      ['none', 'none', 'none', '/store/bin/hook is not a folder'],
    );
    assert.match(roots('/store'), /^\/store can be written by more users/);
    assert.match(roots('/store/new'), /^\/store can be written by more users/);
    folder('store/carols', carol);
    assert.match(roots('/store/carols/hook', 'file'), /^\/store can be written by more users/);
    chmodSync(at('store/bin/hook'), 0o775);
    assert.match(roots('/etc/hook', 'file'), /^\/store\/bin\/hook can be written by more users/);
    chmodSync(at('store'), 0o775);
    assert.match(roots('/etc/bin'), /^\/store can be written by more users/);
    assert.match(roots('/home/bob/app'), /^\/home\/bob belongs to user 65534/);
    for (const [name, target] of [
      ['a', '/etc'],
      ['b', '../../etc'],
      ['c', 'x/../../..'],
      ['d', 'e'],
      ['e', 'd'],
    ] as const)
      symlinkSync(target, at(`etc/${name}`));
    assert.match(roots('/etc/a/x'), /^\/etc\/a leads to \/etc, which is outside of/);
    assert.match(roots('/etc/b/x'), /^\/etc\/b leads to .*, which is outside of/);
    assert.match(roots('/etc/c/x'), /^\/etc\/c leads to .*, which is outside of/);
    assert.match(roots('/etc/d/x'), /is a symbolic link/);
  });

  test("in a user's folder nothing happens that the user could not do themselves", () => {
    chmodSync(at('home/bob/app'), 0o555);
    assert.throws(() => {
      makeLink('/home/bob/app');
    }, /EACCES/);
    assert.throws(() => {
      makeLink('/home/bob/app/new');
    }, /EACCES/);
    makeLink('/etc/again');
    assert.equal(lstatSync(at('etc/again/secret.conf')).uid, 0, 'root has its own rights back');
  });

  test('a folder that is swapped in meanwhile is not touched', () => {
    HeldFolder.within(root, '/home/bob/app', { owner: bob, missing: 'leave' }, (held) => {
      renameSync(at('home/bob/app'), at('home/bob/hidden'));
      symlinkSync('../../etc/apt.conf.d', at('home/bob/app'));
      held.replaceLink('secret.conf', target);
      assert.equal(held.link('secret.conf')?.target, target);
    });
    assert.deepEqual([readdirSync(at('etc/apt.conf.d')), readdirSync(at('home/bob/hidden'))], [[], ['secret.conf']]);
  });

  test('what is missing is left, or found', () => {
    assert.equal(
      HeldFolder.within(root, '/home/bob/none', { missing: 'leave' }, () => 1),
      undefined,
    );
    HeldFolder.within(root, '/home/bob/app', { missing: 'leave' }, (held) => {
      assert.equal(held.link('secret.conf'), undefined);
      held.remove('secret.conf');
      writeFileSync(at('home/bob/app/secret.conf'), '');
      assert.deepEqual(held.link('secret.conf'), { target: undefined });
      held.remove('secret.conf');
    });
    assert.deepEqual(readdirSync(at('home/bob/app')), []);
  });

  test('a user who keeps swapping the folder gets nothing but their own files', async () => {
    folder('etc/apt.conf.d/sub', 0);
    const attacker = spawn(process.execPath, ['-e', swapper, at('home/bob')], {
      uid: bob,
      gid: bob,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      await once(attacker.stdout, 'data');
      const outcomes = new Map<string, number>();
      // Until each outcome was seen, however slow the other process is.
      for (let i = 0; i < 1000 || outcomes.size < 2; i++) {
        try {
          makeLink('/home/bob/app');
          HeldFolder.within(root, '/home/bob/app', { missing: 'leave' }, (held) => {
            held.remove('secret.conf');
          });
          HeldFolder.within(root, '/home/bob/app/sub', { owner: bob, missing: 'make' }, (held) => {
            held.replaceLink('secret.conf', target);
          });
          outcomes.set('made', (outcomes.get('made') ?? 0) + 1);
        } catch (error) {
          // Or what was held is gone by then.
          assert.ok(error instanceof Failure && (error.code === 'refused' || error.code === 'system'), String(error));
          outcomes.set('refused', (outcomes.get('refused') ?? 0) + 1);
        }
      }
      assert.deepEqual([...outcomes.keys()].sort(), ['made', 'refused']);
    } finally {
      attacker.kill('SIGKILL');
      await once(attacker, 'exit');
    }
    assert.deepEqual([readdirSync(at('etc/apt.conf.d')), readdirSync(at('etc/apt.conf.d/sub'))], [['sub'], []]);
  });
});
