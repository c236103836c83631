import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { expositionOf } from '../../src/health/exposition.ts';
import { valuesIn } from './metrics.ts';
import { at, auxcred, auxcredAt, manifest, run, soundSystem, store } from './sound-system.ts';

soundSystem();

/** Prometheus' own parser and linter. */
const judge = (text: string): void => {
  const { status, stdout, stderr, error } = spawnSync('promtool', ['check', 'metrics'], {
    input: text,
    encoding: 'utf8',
  });
  assert.equal(error, undefined);
  assert.deepEqual([status, stdout + stderr], [0, ''], text);
};

describe('status --prometheus', () => {
  test('says that all is well', () => {
    const text = auxcred('status', '--prometheus');
    judge(text);
    const values = valuesIn(text);
    for (const [name, value] of [
      ['auxcred_seed_sealed', 1],
      ['auxcred_seed_opens', 1],
      ['auxcred_stale_units', 0],
      ['auxcred_credentials', 2],
      ['auxcred_findings{level="problem"}', 0],
    ] as const)
      assert.equal(values.get(name), value, name);
    const ago = Date.now() / 1000 - (values.get('auxcred_last_provision_timestamp_seconds') ?? 0);
    assert.ok(ago >= 0 && ago < 3600, String(ago));
    assert.ok(!values.has('auxcred_next_rotation_seconds'), 'nothing rotates');
    assert.ok(!values.has('auxcred_last_push_timestamp_seconds'), 'nothing was pushed');
    assert.ok(!values.has('auxcred_releases_total'), "the journal is another system's");
  });

  test('says what is not, and still succeeds', () => {
    writeFileSync(
      at(manifest),
      '[secret.key]\nkind = "hex"\nrotate = "yearly"\nunits = ["web.service", "app.service"]\n',
    );
    auxcredAt('2020-05-05 12:00:00', 'apply');
    writeFileSync(store('pushed.json'), '{}');
    utimesSync(store('pushed.json'), 1_700_000_000, 1_700_000_000);
    const text = auxcred('status', '--prometheus');
    judge(text);
    const values = valuesIn(text);
    const next = Date.UTC(new Date().getUTCFullYear() + 1, 0) / 1000;
    assert.equal(values.get('auxcred_next_rotation_timestamp_seconds'), next);
    assert.ok(Math.abs((values.get('auxcred_next_rotation_seconds') ?? 0) - (next - Date.now() / 1000)) < 600);
    assert.equal(values.get('auxcred_stale_secrets'), 1);
    assert.equal(values.get('auxcred_stale_units'), 2);
    assert.equal(values.get('auxcred_findings{level="warning"}'), 1);
    assert.equal(values.get('auxcred_last_push_timestamp_seconds'), 1_700_000_000);
  });

  test('of a seed that does not open, or was not tried', () => {
    const closed = valuesIn(auxcred('status', '--prometheus', '--no-open'));
    assert.deepEqual([closed.get('auxcred_seed_opens'), closed.get('auxcred_seed_sealed')], [undefined, 1]);
    writeFileSync(at('etc/ssh/ssh_host_ed25519_key'), 'no key');
    const text = auxcred('status', '--prometheus');
    judge(text);
    const values = valuesIn(text);
    assert.equal(values.get('auxcred_seed_opens'), 0);
    assert.ok(!values.has('auxcred_stale_units'));
    assert.ok((values.get('auxcred_findings{level="problem"}') ?? 0) > 0);
  });

  test('replaces a file that anybody can read, and leaves nothing beside it', () => {
    mkdirSync(at('textfile'));
    const file = at('textfile/auxcred.prom');
    writeFileSync(file, 'old');
    const { ino } = statSync(file);
    assert.equal(auxcred('status', '--prometheus', `--output=${file}`), '');
    judge(readFileSync(file, 'utf8'));
    assert.notEqual(statSync(file).ino, ino, 'renamed over the old one');
    assert.equal(statSync(file).mode & 0o777, 0o644);
    assert.deepEqual(readdirSync(at('textfile')), ['auxcred.prom']);
  });

  test('a wrong call writes nothing', () => {
    for (const [args, message] of [
      [['--output=/tmp/x.prom'], /--output needs --prometheus/],
      [['--prometheus', '--json'], /exclude each other/],
      [['--prometheus', `--output=${at('missing/x.prom')}`], /there is no folder .*textfile\.directory/s],
    ] as const) {
      const { status, stdout, stderr } = run(['status', ...args]);
      assert.notEqual(status, 0);
      assert.equal(stdout, '');
      assert.match(stderr, message);
    }
    assert.ok(!existsSync('/tmp/x.prom'));
  });

  test('every metric is in formats.md', () => {
    const page = readFileSync('docs/formats.md', 'utf8');
    const source = readFileSync('src/health/metrics.ts', 'utf8');
    const names = new Set([...source.matchAll(/'(auxcred_[a-z_]+)'/g)].map(([, name = '']) => name));
    assert.ok(names.size > 15);
    for (const name of names) assert.match(page, new RegExp(`^\\| [^|]*\`${name}\`[^|]* \\|`, 'm'));
  });
});

test('any text in a label or a help is one line that Prometheus reads', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      const lines = expositionOf([
        { name: 'auxcred_x', help: text, type: 'gauge', samples: [{ labels: { text }, value: 1.5 }] },
      ]).split('\n');
      assert.equal(lines.length, 4);
      const [, label = ''] = /^auxcred_x\{text="(.*)"\} 1\.5$/s.exec(lines[2] ?? '') ?? [];
      assert.equal(
        label.replaceAll(/\\(.)/g, (_, character: string) => (character === 'n' ? '\n' : character)),
        text,
      );
    }),
  );
  judge(
    expositionOf([
      { name: 'auxcred_x', help: 'a\\b\n"c"', type: 'gauge', samples: [{ labels: { t: '\\"\n' }, value: 1 }] },
    ]),
  );
});
