import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { commandLine } from '../../src/system/shell.ts';
import {
  at,
  auxcred,
  auxcredAt,
  findings,
  fixes,
  isRoot,
  manifest,
  only,
  rootOption,
  run,
  soundSystem,
  store,
} from './sound-system.ts';

soundSystem();

describe('doctor on secrets', () => {
  test('manifest: with errors, changed, never applied', () => {
    rmSync(at('etc/auxcred/rendered'));
    fixes(only('manifest', 'warning', /^the manifest was never applied$/), 0);
    writeFileSync(at('etc/auxcred/secrets.d/bad.toml'), '[secret.x]\nkind = "hexx"\n');
    assert.equal(only('manifest', 'problem', /has 1 error$/).mend[0], commandLine('auxcred', 'check', rootOption()));
    writeFileSync(at('etc/auxcred/secrets.d/bad.toml'), '[secret.x]\nkind = "hex"\nunits = ["x.service"]\n');
    fixes(only('manifest', 'warning', /has changed since it was applied: x.service added/), 0);
  });

  test('manifest: refused for what this machine lacks, so that nothing rotates any more', { skip: !isRoot }, () => {
    const missing = ['a', 'b'].map(
      (name) => `[secret.${name}]\ndelivery = "file"\nowner = "gone"\nneeded-for = "users"\n`,
    );
    writeFileSync(at('etc/auxcred/secrets.d/file.toml'), missing.join(''));
    assert.equal(run(['provision']).status, exitStatus['invalid-manifest']);
    const { why, mend } = only(
      'manifest',
      'problem',
      /^the manifest is refused: there is no user gone on this machine$/,
    );
    assert.equal(why, 'nothing of it becomes active, and no secret rotates');
    assert.match(run(['check']).stdout, /there is no user gone/);
    assert.deepEqual(mend, [commandLine('auxcred', 'check', rootOption())]);
    assert.match(run(['status']).stdout, /the manifest has errors: auxcred check/);
  });

  test('snapshot: written by somebody else, of an older store', () => {
    writeFileSync(
      store('provisioned/releases.json'),
      readFileSync(store('provisioned/releases.json'), 'utf8').replace('web.service', 'bad.service'),
    );
    fixes(only('snapshot', 'problem', /was not made with this machine's seed/), 0);
    copyFileSync(store('seeds.age'), at('old'));
    auxcred('reseal');
    copyFileSync(at('old'), store('seeds.age'));
    fixes(only('snapshot', 'problem', /seeds.age has counter 1; counter 2 was active/), 1);
  });

  test('stale: a period that is over, and a hook that has not run', () => {
    mkdirSync(at('bin'));
    copyFileSync('/bin/false', at('bin/false'));
    for (const hook of ['', 'hook = ["/bin/false"]\n']) {
      writeFileSync(at(manifest), `[secret.key]\nkind = "hex"\nrotate = "yearly"\n${hook}units = ["web.service"]\n`);
      rmSync(store('provisioned'));
      auxcredAt('2020-05-05 12:00:00', 'apply');
      const finding = only('stale', 'warning', /^key is out of date: period 2020 -> 20\d\d$/);
      assert.equal(finding.why?.includes('hook'), hook !== '');
      // Below another root no hook runs, so that one stays.
      fixes(finding, 0, {}, hook === '' ? [] : ['stale']);
    }
  });

  test('stale: a file that is newer than the active value', () => {
    run(['put', '--force', 'wifi'], { input: 'another' });
    fixes(only('stale', 'warning', /^wifi is out of date: value$/), 0);
  });

  test('clock', () => {
    writeFileSync(at(manifest), '[secret.key]\nkind = "hex"\nrotate = "yearly"\nunits = ["web.service"]\n');
    auxcredAt('2094-05-05 12:00:00', 'apply');
    fixes(only('clock', 'problem', /key is already in its period 2094$/), 1);
  });

  test('wanted: a fixed secret that is missing', () => {
    rmSync(store('fixed/host/web1/wifi.sealed'));
    const finding = only('wanted', 'problem', /there is no host\/web1\/wifi/);
    assert.equal(finding.mend[0], commandLine('auxcred', 'put', rootOption(), 'host/web1/wifi'));
    fixes(finding, 0);
  });

  test('older', () => {
    copyFileSync(store('fixed/host/web1/wifi.sealed'), at('old'));
    run(['put', '--force', 'wifi'], { input: 'another' });
    auxcred('provision');
    copyFileSync(at('old'), store('fixed/host/web1/wifi.sealed'));
    fixes(only('older', 'problem', /the file of host\/web1\/wifi is older than the active one/), 0);
  });

  test('fixed: one that does not open, one that is none', () => {
    const bytes = readFileSync(store('fixed/host/web1/wifi.sealed'));
    bytes[70] = (bytes[70] ?? 0) ^ 1;
    writeFileSync(store('fixed/host/web1/wifi.sealed'), bytes);
    fixes(only('fixed', 'problem', /host\/web1\/wifi does not open/), 0, {}, []);
    writeFileSync(store('fixed/host/web1/notes.txt'), '');
    fixes(only('fixed', 'warning', /notes.txt is no fixed secret/), 0);
  });

  test('wanted: one whose name has spaces and quotes', () => {
    writeFileSync(
      at(manifest),
      `${readFileSync(at(manifest), 'utf8')}[secret.odd]\nkind = "fixed"\npath = "Bob's $HOME"\n` +
        'units = ["odd.service"]\n',
    );
    const finding = findings().find(({ check }) => check === 'wanted');
    assert.ok(finding);
    fixes(finding, 0, {}, ['manifest']);
  });

  test('fixed: many that do not open are one finding, with the way to have all of them again', () => {
    const names = Array.from({ length: 8 }, (_, i) => `token-${String(i)}`);
    for (const name of names) auxcred('put', name);
    cpSync(store('fixed'), at('backup'), { recursive: true });
    for (const name of names) writeFileSync(store(`fixed/host/web1/${name}.sealed`), 'x');
    const finding = only('fixed', 'problem', /^8 fixed secrets do not open: host\/web1\/token-0, .* and 2 more$/);
    assert.equal(run(['doctor']).stdout.split('\n').length, 5);
    fixes(finding, 0, { BACKUP: at('backup') });
  });

  test('unread: a manifest file with another ending', () => {
    writeFileSync(at('etc/auxcred/secrets.d/db.conf'), '[secret.db]\nunits = ["db.service"]\n');
    only('unread', 'note', /not read for their names: \/etc\/auxcred\/secrets\.d\/db\.conf$/);
    const warning =
      /^\/etc\/auxcred\/secrets\.d\/db\.conf: warning: it is not read: its name does not end in \.toml or/m;
    for (const call of [['check'], ['apply'], ['check', `--manifest=${at('etc/auxcred/secrets.d')}`]]) {
      const { status, stdout } = run(call);
      assert.equal(status, 0);
      assert.match(stdout.replaceAll(at('etc'), '/etc'), warning);
    }
  });

  test('hooks: one that is missing, and one that is no program', () => {
    const declared = (name: string): string =>
      `[secret.${name}]\nhook = ["/opt/${name}"]\nunits = ["${name}.service"]\n`;
    writeFileSync(at(manifest), declared('gone') + declared('plain'));
    mkdirSync(at('opt'));
    writeFileSync(at('opt/plain'), '');
    auxcred('apply');
    only(
      'hooks',
      'warning',
      /^the hook of gone can't run: there is no \/opt\/gone, the hook of plain can't run: \/opt\/plain is not executable$/,
    );
    const { status, stdout } = run(['check']);
    assert.equal(status, 0);
    assert.match(
      stdout,
      /web\.toml: warning: secret\.gone\.hook: there is no \/opt\/gone\n {4}the secret is unchanged until its hook can run\n/,
    );
    chmodSync(at('opt/plain'), 0o755);
    writeFileSync(at('opt/gone'), '', { mode: 0o755 });
    assert.deepEqual(findings(), []);
  });
});
