import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { commandLine } from '../../src/system/shell.ts';
import { at, auxcred, auxcredAt, manifest, rootOption, run, soundSystem } from './sound-system.ts';

soundSystem();

describe('status', () => {
  test('shows it at a glance', () => {
    const { status, stdout } = run(['status']);
    assert.equal(status, 0);
    assert.match(
      stdout,
      /^seed {6}sealed to host, 1 recovery recipient\n {10}opens with ssh host key in \d+ ms: host\/web1\nactive {4}since \d{4}-\d\d-\d\d \d\d:\d\dZ: 2 credentials for 2 units; manifest and drop-ins as applied\nunits {5}2 units declared\nrotation {2}no secret rotates\nall is well\n$/,
    );
  });

  test('does not open the seed with --no-open', () => {
    assert.match(auxcred('status', '--no-open'), /^seed +sealed to host, 1 recovery recipient; not opened$/m);
  });

  test('says what is stale and what comes next', () => {
    writeFileSync(at(manifest), '[secret.key]\nkind = "hex"\nrotate = "yearly"\nunits = ["web.service"]\n');
    auxcredAt('2020-05-05 12:00:00', 'apply');
    const { status, stdout } = run(['status']);
    assert.equal(status, exitStatus.unwell);
    assert.match(
      stdout,
      /^rotation {2}next \d{4}-01-01 00:00Z: key\n {10}stale: key \(period 2020 -> \d{4}\)\n1 warning: auxcred doctor says what to do\n/m,
    );
  });

  test('a secret held in its period does not change by itself', () => {
    writeFileSync(
      at(manifest),
      '[secret.key]\nkind = "hex"\nrotate = "yearly"\nperiod = "2020"\nunits = ["web.service"]\n',
    );
    auxcred('apply');
    assert.match(auxcred('status'), /^rotation {2}no secret rotates$/m);
  });

  test('as JSON has what formats.md says', () => {
    const report: unknown = JSON.parse(auxcred('status', '--json'));
    assert.ok(typeof report === 'object' && report !== null);
    const documentation = readFileSync('docs/formats.md', 'utf8');
    for (const key of Object.keys(report)) assert.ok(documentation.includes(`| \`${key}\` |`), key);
  });

  test('has colors only at a terminal, and none if none are wanted', () => {
    const inTerminal = (environment: Record<string, string>): string =>
      spawnSync(
        'script',
        ['-qec', commandLine(process.execPath, 'dist/auxcred.cjs', 'status', rootOption()), '/dev/null'],
        { encoding: 'utf8', env: { PATH: process.env['PATH'], TERM: 'xterm', ...environment } },
      ).stdout;
    assert.ok(inTerminal({}).includes('\x1b[32mall is well\x1b[0m'));
    for (const environment of [{ NO_COLOR: '1' }, { TERM: 'dumb' }])
      assert.ok(!inTerminal(environment).includes('\x1b['));
    assert.ok(!auxcred('status').includes('\x1b['));
  });
});
