/** Declared units that run nothing are told from those that do, by their files. */
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync } from 'node:fs';
import { describe, test } from 'node:test';
import { idleUnitProblems } from '../../src/provision/idle-units.ts';
import { UnitFiles } from '../../src/system/unit-files.ts';
import { read, root, useRoot, write } from '../manifest/root.ts';

useRoot();

const units = '/usr/lib/systemd/system';
/** Debian's own, shortened. */
const shell = '[Service]\nType=oneshot\nExecStart=/bin/true\nExecReload=/bin/true\nRemainAfterExit=on\n';
const manifest = '[secret.db]\nunits = ["postgresql.service"]\n';
const problems = (): (readonly [string, string | undefined])[] =>
  idleUnitProblems(new UnitFiles(root), read(manifest).declarations).map(({ severity, key, message, hint }) => {
    assert.deepEqual([severity, key], ['warning', 'secret.db.units']);
    return [message, hint];
  });
const message = 'postgresql.service runs nothing that could read a secret';

describe('a declared unit', () => {
  test('that only groups others is told from them, which are named', () => {
    write(`${units}/postgresql.service`, shell);
    assert.deepEqual(problems(), [[message, undefined]]);
    write(`${units}/postgresql@.service`, '[Unit]\nPartOf=postgresql.service\n[Service]\nExecStart=/usr/bin/pg\n');
    assert.deepEqual(problems(), [[message, 'its parts run: name those of postgresql@.service']]);
    const wants = `${root}/run/systemd/generator/postgresql.service.wants`;
    mkdirSync(wants, { recursive: true });
    symlinkSync(`${units}/postgresql@.service`, `${wants}/postgresql@17-main.service`);
    assert.deepEqual(problems(), [[message, 'it starts others: units = ["postgresql@17-main.service"]']]);
  });

  test('that a drop-in gives a program is not idle, and one whose program it takes away is', () => {
    write(`${units}/postgresql.service`, shell);
    write('/etc/systemd/system/postgresql.service.d/run.conf', '[Service]\nExecStartPost=/usr/bin/reads-it\n');
    assert.deepEqual(problems(), []);
    write('/etc/systemd/system/postgresql.service.d/stop.conf', '[Service]\nExecStartPost=\n');
    assert.deepEqual(problems(), [[message, undefined]]);
    write('/run/systemd/generator/postgresql.service.d/50-auxcred.conf', '[Service]\nExecStartPre=/usr/bin/stage\n');
    assert.deepEqual(problems(), [[message, undefined]], "auxcred's own drop-in makes no program of it");
  });

  test('that runs a program, is masked, or is not there, is not idle', () => {
    assert.deepEqual(problems(), []);
    write(`${units}/postgresql.service`, '[Service]\nExecStart=-/usr/bin/true-enough\n');
    assert.deepEqual(problems(), []);
    write(`${units}/postgresql.service`, shell);
    mkdirSync(`${root}/etc/systemd/system`, { recursive: true });
    symlinkSync('/dev/null', `${root}/etc/systemd/system/postgresql.service`);
    assert.deepEqual(problems(), []);
  });
});
