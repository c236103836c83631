/**
 * A disk that gets full at any point, a read-only one, many commands at once, and a manifest full of mistakes: nothing
 * changes halfway.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { auxcred, works } from '../cli.ts';
import { contents, furnish, listing, manifestIn, stateOf } from './root.ts';

const older = '[secret.a]\nkind = "hex"\nunits = ["a.service"]\n[secret.wifi]\nkind = "fixed"\nunits = ["b.service"]\n';
const newer =
  `${older}[secret.b]\nkind = "uuid"\nunits = ["a.service", "b.service", "c.service"]\n` +
  '[secret.token]\nkind = "fixed"\nunits = ["c.service"]\n';

let folder = '';
let root = '';
const at = (path: string): string => join(root, path);

function provisioned(): void {
  furnish(root, older);
  works(['seal', '--no-recovery', `--root=${root}`]);
  works(['put', 'wifi', `--root=${root}`], { input: 'x'.repeat(5000) });
  works(['put', 'token', `--root=${root}`], { input: 'y'.repeat(9000) });
  works(['apply', `--root=${root}`]);
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'disk-'));
  root = join(folder, 'root');
  mkdirSync(root);
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

describe('a disk of its own', { skip: process.getuid?.() === 0 ? false : 'only root can mount one' }, () => {
  const mount = (...args: readonly string[]): void => {
    const { status, stderr } = spawnSync('mount', args, { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
  };
  beforeEach(() => {
    mount('-t', 'tmpfs', '-o', 'size=1m,mode=0755', 'small-disk', root);
  });
  afterEach(() => {
    spawnSync('umount', [root]);
  });

  /** The active state: all of it, and the part that does not depend on how often it was sealed. */
  const uncounted = ['recipients', 'record', 'fixed', 'dropIns', 'rendered'] as const;
  const parts = ['counter', 'releases', ...uncounted] as const;

  /** Leaves so many pages of 4 KiB free. */
  function leave(pages: number): void {
    rmSync(at('filler'), { force: true });
    writeFileSync(at('filler'), new Uint8Array(4096 * (Number(statfsSync(root).bfree) - pages)));
    assert.equal(statfsSync(root).bfree, pages);
  }

  for (const [verb, args, prepare] of [
    [
      'apply',
      ['apply'],
      () => {
        writeFileSync(manifestIn(root), newer);
      },
    ],
    [
      'provision',
      ['provision'],
      () => {
        writeFileSync(manifestIn(root), newer);
      },
    ],
    [
      'reseal',
      ['reseal', '--add-recipient=age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'],
      () => undefined,
    ],
    ['put', ['put', 'wifi', '--force'], () => undefined],
  ] as const)
    test(`that is full at any point of ${verb} keeps what is active, and the message names the disk`, async () => {
      provisioned();
      prepare();
      const old = await stateOf(root);
      leave(0);
      const before = contents(root);
      const whole = join(folder, 'whole');
      cpSync(root, whole, { recursive: true, verbatimSymlinks: true, filter: (path) => !path.endsWith('filler') });
      works([...args, `--root=${whole}`], { input: 'z'.repeat(20_000) });
      const meant = await stateOf(whole);
      let pages = 0;
      for (; ; pages++) {
        assert.ok(pages < 100, 'a disk of 400 KiB is enough');
        leave(pages);
        const { status, stderr } = auxcred([...args, `--root=${root}`], { input: 'z'.repeat(20_000) });
        if (status === 0) break;
        assert.equal(status, exitStatus.system, stderr);
        assert.match(
          stderr,
          /^auxcred: \/.* can't be written: the disk small-disk at \/.*root is full\nauxcred: hint: make room on it \(df -h \/.*root/m,
        );
        const state = await stateOf(root);
        // apply and reseal write two things, each atomically: the disk may have been full for the second one. Each
        // reseal counts.
        if (verb === 'put' || verb === 'provision')
          assert.deepEqual(contents(root), before, `with ${String(pages)} pages left`);
        else
          for (const part of verb === 'apply' ? parts : uncounted)
            assert.ok(
              [old, meant].some((one) => JSON.stringify(one[part]) === JSON.stringify(state[part])),
              `${part} with ${String(pages)} pages left`,
            );
      }
      assert.ok(pages > 0);
      rmSync(at('filler'));
      const state = await stateOf(root);
      for (const part of verb === 'reseal' ? uncounted : parts) assert.deepEqual(state[part], meant[part]);
      // A reseal that failed late has made a generation, and the settled one may be gone.
      const kept = (folder: string): string[] =>
        listing(folder)
          .filter((path) => verb !== 'reseal' || !path.endsWith('/settled.json'))
          .map((path) => path.replace(/\d+/g, 'N'));
      assert.deepEqual(kept(root), kept(whole));
    });

  test('that is read-only is named, with a hint', () => {
    provisioned();
    writeFileSync(manifestIn(root), newer);
    const before = contents(root);
    mount('-o', 'remount,ro', root);
    for (const args of [
      ['apply'],
      ['provision'],
      ['reseal'],
      ['seal', '--replace', '--no-recovery'],
      ['put', 'wifi', '--force'],
    ]) {
      const { status, stderr } = auxcred([...args, `--root=${root}`], { input: 'x' });
      assert.equal(status, exitStatus.system, stderr);
      assert.match(
        stderr,
        /can't be written: the disk small-disk at \/.*root is read-only\nauxcred: hint: mount -o remount,rw \/.*root/,
      );
    }
    for (const args of [['plan'], ['apply', '--dry-run'], ['provision', '--dry-run'], ['get', 'a'], ['unseal']])
      assert.equal(works([...args, `--root=${root}`]).status, 0);
    assert.deepEqual(contents(root), before);
  });
});

describe('nothing changes', () => {
  test('if anything is wrong with the request', () => {
    provisioned();
    const group = '[secret.g]\nshare = "db"\nunits = ["g.service"]\n';
    const wrong: readonly (readonly [string, string, keyof typeof exitStatus, RegExp])[] = [
      [
        'many mistakes',
        `${newer}[secret.x]\nlenght = 3\n[secret.y]\nkind = "hexx"\nunits = ["y"]\n` +
          '[secret.z]\nrotate = "monthly"\nperiod = "2026"\n',
        'invalid-manifest',
        /the manifest has errors, so nothing was changed/,
      ],
      [
        'a fixed file that is missing',
        `${newer}[secret.gone]\nkind = "fixed"\nunits = ["a.service"]\n`,
        'not-found',
        /there is no host\/web1\/gone/,
      ],
      ['a scope that is not at hand', newer + group, 'not-found', /g is shared by group\/db/],
      [
        'a text that is too long',
        `${newer}[secret.t]\nkind = "template"\ncontent = "${'{{token}}'.repeat(15)}"\nunits = ["a.service"]\n`,
        'invalid-manifest',
        /t of a\.service has 135000 bytes/,
      ],
      [
        'a hash of what has two lines',
        `${newer}[secret.h]\nkind = "crypt"\nof = "lines"\nunits = ["a.service"]\n[secret.lines]\nkind = "fixed"\n`,
        'malformed',
        /lines has more than one line/,
      ],
    ];
    works(['put', 'lines', `--root=${root}`], { input: 'one\ntwo' });
    // Its hook would leave a trace: all is looked at before any runs.
    const hooked = (text: string): string =>
      text.replace('[secret.a]\n', `[secret.a]\nhook = ["/bin/touch", "${at('var/told')}"]\ngeneration = 2\n`);
    for (const [name, manifest, code, message] of wrong) {
      writeFileSync(manifestIn(root), hooked(manifest));
      const before = contents(root);
      for (const verb of ['apply', 'provision']) {
        const { status, stdout, stderr } = auxcred([verb, `--root=${root}`]);
        assert.equal(status, exitStatus[code], `${name}: ${stdout}${stderr}`);
        assert.match(stderr, message);
        assert.equal(auxcred([verb, '--dry-run', `--root=${root}`]).status, status, name);
        assert.deepEqual(contents(root), before, name);
      }
    }
    writeFileSync(manifestIn(root), newer);
    const file = at('var/lib/auxcred/fixed/host/web1/token.sealed');
    truncateSync(file, 200);
    const before = contents(root);
    for (const verb of ['apply', 'provision', 'plan'])
      assert.match(auxcred([verb, `--root=${root}`]).stderr, /host\/web1\/token is cut off/);
    assert.deepEqual(contents(root), before);
  });

  test('in a dry run', () => {
    provisioned();
    writeFileSync(manifestIn(root), newer);
    const before = contents(root);
    const [plan, apply, provision] = [['plan'], ['apply', '--dry-run'], ['provision', '--dry-run']].map((args) =>
      works([...args, `--root=${root}`]),
    );
    assert.deepEqual(apply, plan);
    assert.match(plan?.stdout ?? '', /^a\.service +b +new +restart$/m);
    assert.match(
      plan?.stderr ?? '',
      /4 credentials and 3 drop-ins would change; at most 3 units would be restarted or reloaded, if running/,
    );
    assert.equal(provision?.stdout, plan?.stdout);
    assert.match(provision?.stderr ?? '', /^auxcred: 4 credentials would change; at most 3 units/m);
    assert.doesNotMatch(works(['apply', '--dry-run', '--no-restart', `--root=${root}`]).stdout, /restart/);
    assert.deepEqual(contents(root), before);
  });

  test('the second time', () => {
    provisioned();
    writeFileSync(manifestIn(root), newer);
    works(['apply', `--root=${root}`]);
    const before = contents(root);
    for (const verb of ['apply', 'provision', 'apply']) works([verb, `--root=${root}`]);
    assert.deepEqual(contents(root), before);
  });
});

test('many at once wait for each other, and the last manifest is active', async () => {
  provisioned();
  const run = async (...args: readonly string[]): Promise<[number | null, string]> =>
    await new Promise((resolve) => {
      const child = spawn(process.execPath, ['dist/auxcred.cjs', ...args, `--root=${root}`], {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: { PATH: process.env['PATH'] },
      });
      let said = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
      child.on('close', (status) => {
        resolve([status, said]);
      });
    });
  const runs = ['apply', 'provision', 'reseal', 'apply', 'provision', 'apply', 'reseal', 'apply'].map(
    async (verb, i) => {
      writeFileSync(
        manifestIn(root),
        `${newer}[secret.n]\nkind = "hex"\nbytes = ${String(20 + i)}\nunits = ["n.service"]\n`,
      );
      return await run(verb);
    },
  );
  const results = await Promise.all(runs);
  for (const [status, said] of results) assert.equal(status, 0, said);
  assert.ok(results.some(([, said]) => said.includes('another auxcred is running, waiting for it')));
  assert.equal(works(['get', 'n', `--root=${root}`]).stdout.length, 2 * 27);
  const state = await stateOf(root);
  assert.equal(state.counter, 3);
  assert.deepEqual(Object.keys(state.dropIns), ['a.service', 'b.service', 'c.service', 'n.service']);
  assert.deepEqual(
    listing(root).filter((path) => path.includes('.new')),
    [],
  );
  assert.equal(works(['plan', `--root=${root}`]).stderr, 'auxcred: nothing would change\n');
});
