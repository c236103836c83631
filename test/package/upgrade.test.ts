import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { auxcred, works } from '../cli.ts';
import { furnishOldMachine, oldValues } from './version-01.ts';

describe('what version 0.1.0 left on a machine', () => {
  const root = mkdtempSync(join(tmpdir(), 'auxcred-upgrade-'));
  before(() => {
    furnishOldMachine(root);
    writeFileSync(join(root, 'etc/group'), 'root:x:0:\nauxcred:x:0:\n');
  });
  after(() => {
    rmSync(root, { recursive: true });
  });

  const get = (...args: string[]): Buffer => {
    const { status, stdout, stderr } = auxcred(['get', `--root=${root}`, ...args], { encoding: 'latin1' });
    assert.equal(status, 0, stderr);
    return Buffer.from(stdout, 'latin1');
  };
  const say = (...args: string[]): string => works([...args, `--root=${root}`]).stdout;
  const everySecretIsWhatItWas = (): void => {
    assert.ok(oldValues.size > 15);
    for (const [label, value] of oldValues) {
      const [name = '', period] = label.split('@');
      const at = period ?? (name === 'session-key' ? '2025-01' : undefined);
      assert.deepEqual(get(name, ...(at === undefined ? [] : [`--at=${at}`])), value, label);
    }
  };

  test('opens, and every secret is what it was', () => {
    assert.deepEqual(get('session-key'), oldValues.get('session-key'), 'the active period, before anything is applied');
    everySecretIsWhatItWas();
    say('verify');
  });

  test('is applied with no other change than that of the calendar', () => {
    const plan = say('plan');
    const changed = plan.split('\n').flatMap((line) => /^web\.service {2}(\S+)/.exec(line)?.[1] ?? []);
    assert.deepEqual(changed, ['session-key', 'session-key.previous']);
    say('apply');
    everySecretIsWhatItWas();
    assert.match(say('history', 'session-key'), /^2025-01-15T\S+ .* 2025-01 .* new$/m);
  });

  test('is sealed again under another recovery key, and still the same', () => {
    const recipient = 'age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj';
    say('reseal', `--add-recipient=${recipient}`);
    everySecretIsWhatItWas();
  });
});
