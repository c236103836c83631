import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  alsoHost,
  at,
  failureOf,
  makeHost,
  operator,
  pushed,
  put,
  store,
  useOperator,
  withSettings,
  works,
} from './operator.ts';

useOperator();

describe('what a host has of its own', () => {
  let count = 0;
  /** A host with a seed and a secret of its own, and its files. */
  function ownHost(): { name: string; kept: () => unknown } {
    const name = `own${String(++count)}`;
    makeHost(name);
    works(['seal', '--no-recovery', `--root=${at(name)}`]);
    works(['put', `host/${name}/mine`, `--root=${at(name)}`], 'by hand');
    writeFileSync(
      at(`${name}/etc/auxcred/secrets.d/mine.toml`),
      '[secret.mine]\nkind = "fixed"\nunits = ["mine.service"]\n',
    );
    works(['apply', `--root=${at(name)}`]);
    return {
      name,
      kept: () =>
        ['seeds.age', `fixed/host/${name}/mine.sealed`].map((file) =>
          existsSync(join(store(name), file)) ? readFileSync(join(store(name), file)) : undefined,
        ),
    };
  }
  const pinsOf = (name: string): string => at(`${name}/etc/auxcred/scopes.json`);
  function refused(name: string, kept: () => unknown, says: RegExp, ...options: string[]): void {
    const before = kept();
    withSettings(alsoHost(name, 'groups = ["db"]\nwith-key = "host"\n'), () => {
      const [code, message] = failureOf(pushed(name, ...options));
      assert.match(message, says);
      assert.ok(code === 'refused' || code === 'not-pinned', code);
    });
    assert.deepEqual(kept(), before);
  }

  test('a seed is not replaced just because scopes.json is missing, damaged or of another seed', () => {
    const { name, kept } = ownHost();
    const pins = readFileSync(pinsOf(name));
    refused(name, kept, /has a seed for host\/own1 that is not from this vault/);
    rmSync(pinsOf(name));
    refused(
      name,
      kept,
      /the seed of host\/own1 here is unknown to the operator, and every secret derived from it would be lost/,
    );
    writeFileSync(pinsOf(name), '{"version":1,"scopes":');
    refused(name, kept, /the seed of host\/own1 here is unknown to the operator/);
    writeFileSync(pinsOf(name), pins.toString().replace(/"keyId": "[0-9a-f]+"/, `"keyId": "${'0'.repeat(32)}"`));
    refused(name, kept, /has a seed for host\/own1 that is not from this vault/);
    rmSync(pinsOf(name));
    withSettings(alsoHost(name, 'groups = ["db"]\nwith-key = "host"\n'), () => {
      assert.match(
        failureOf(pushed(name, '--replace'))[1],
        /own1\/mine was encrypted for another scope, or for another epoch/,
        'a unit would be left without',
      );
      rmSync(at(`${name}/etc/auxcred/secrets.d/mine.toml`));
      assert.equal(pushed(name, '--replace').rows[0]?.result, 'done');
    });
    works(['unseal', `--root=${at(name)}`]);
  });

  test('a seed that no longer opens, or of which only a snapshot or a fixed file is left, is not given up either', () => {
    const { name, kept } = ownHost();
    rmSync(pinsOf(name));
    const seeds = readFileSync(join(store(name), 'seeds.age'));
    writeFileSync(join(store(name), 'seeds.age'), 'damaged');
    refused(
      name,
      kept,
      /scopes\.json is missing or damaged and seeds\.age does not open \(.*\), so it is not known whose seed would be lost/,
    );
    rmSync(join(store(name), 'seeds.age'));
    refused(
      name,
      kept,
      /scopes\.json and seeds\.age are gone or damaged, and what is active here comes from another seed than the pushed one/,
    );
    for (const path of ['provisioned', 'generations']) rmSync(join(store(name), path), { recursive: true });
    refused(name, kept, /host\/own2\/mine could no longer be opened/);
    writeFileSync(join(store(name), 'seeds.age'), seeds);
    refused(name, kept, /the seed of host\/own2 here is unknown to the operator/);
  });

  test("another host's seeds are never accepted, whatever is missing", () => {
    const { name, kept } = ownHost();
    writeFileSync(at(`${name}/etc/hostname`), 'other\n');
    works(['seal', '--replace', '--no-recovery', `--root=${at(name)}`]);
    rmSync(pinsOf(name));
    refused(name, kept, /this machine is host\/other, and does not accept seeds of host\/own3/);
    refused(name, kept, /this machine is host\/other, and does not accept seeds of host\/own3/, '--replace');
  });

  test('its own seeds are sealed again if scopes.json is gone, with the same sealing', () => {
    const recipient = spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim();
    makeHost('lost');
    withSettings(alsoHost('lost'), () => {
      pushed('lost');
      works(['reseal', `--root=${at('lost')}`, `--add-recipient=${recipient}`]);
      const pins = readFileSync(pinsOf('lost'), 'utf8');
      rmSync(pinsOf('lost'));
      const { rows, stderr } = pushed('lost');
      assert.equal(rows[0]?.result, 'done', stderr);
      assert.equal(readFileSync(pinsOf('lost'), 'utf8'), pins);
      assert.equal(spawnSync('age', ['-d', '-i', at('identity'), join(store('lost'), 'seeds.age')]).status, 0);
    });
  });

  test('a fixed secret that was put or changed there is overwritten only with --replace', () => {
    makeHost('putter');
    withSettings(alsoHost('putter'), () => {
      const value = (name: string): string => works(['get', `host/putter/${name}`, `--root=${at('putter')}`]);
      put('host/putter/wifi', 'of the vault');
      pushed('putter');
      works(['put', 'host/putter/mine', `--root=${at('putter')}`], 'mine');
      put('host/putter/mine', 'theirs');
      for (const options of [[], ['--dry-run']])
        assert.deepEqual(failureOf(pushed('putter', ...options)), [
          'refused',
          'host/putter/mine was put or edited on putter, not by a push',
        ]);
      assert.equal(value('mine'), 'mine');
      assert.equal(pushed('putter', '--replace').rows[0]?.result, 'done');
      assert.equal(value('mine'), 'theirs');
      works(['put', '--force', 'host/putter/wifi', `--root=${at('putter')}`], 'changed there');
      put('host/putter/wifi', 'changed here');
      assert.deepEqual(failureOf(pushed('putter')), [
        'refused',
        'host/putter/wifi was put or edited on putter, not by a push',
      ]);
      works(operator('rm', '--force', 'host/putter/wifi'));
      assert.equal(pushed('putter').rows[0]?.result, 'nothing to do');
      assert.equal(value('wifi'), 'changed there', 'nor is it taken away');
    });
  });

  test('one that a new epoch would make unreadable is named', () => {
    makeHost('epoch');
    withSettings(alsoHost('epoch'), () => {
      pushed('epoch');
      works(['put', 'host/epoch/mine', `--root=${at('epoch')}`], 'mine');
      works(operator('rekey', '--next', 'host/epoch'));
      for (const options of [[], ['--dry-run']])
        assert.match(
          failureOf(pushed('epoch', ...options))[1],
          /^host\/epoch\/mine could no longer be opened, since this push replaces the seed under which it was put on/,
        );
      assert.equal(works(['get', 'host/epoch/mine', `--root=${at('epoch')}`]), 'mine');
      assert.equal(pushed('epoch', '--replace').rows[0]?.result, 'done');
    });
  });

  test('a push that was cut short does not forget what it brought', () => {
    makeHost('cut');
    withSettings(alsoHost('cut'), () => {
      const file = at('vault/fixed/host/cut/a.sealed');
      put('host/cut/a', 'one');
      pushed('cut');
      const one = readFileSync(file);
      put('host/cut/a', 'two');
      const record = join(store('cut'), 'pushed.json');
      const { fixed, ...rest }: { fixed: Record<string, string[]> } = JSON.parse(readFileSync(record, 'utf8'));
      const digest = createHash('sha256').update(readFileSync(file)).digest('hex');
      writeFileSync(
        record,
        JSON.stringify({
          ...rest,
          unfinished: true,
          fixed: { 'host/cut/a': [...(fixed['host/cut/a'] ?? []), digest] },
        }),
      );
      writeFileSync(file, one);
      assert.equal(pushed('cut').rows[0]?.result, 'done', 'the vault took it back before the push could write it');
      rmSync(file);
      assert.deepEqual(pushed('cut').rows[0]?.sent.removed, ['host/cut/a']);
    });
  });
});
