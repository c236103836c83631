import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { at, auxcred, findings, fixes, only, recipient, recoveryKey, run, soundSystem, store } from './sound-system.ts';

soundSystem();

describe('doctor on the TPM', () => {
  let tpm: Swtpm;
  before(async () => {
    tpm = await startSwtpm({});
  });
  after(async () => {
    await tpm.stop();
  });
  beforeEach(() => {
    auxcred(
      'seal',
      '--replace',
      '--with-key=tpm2',
      `--tpm2-device=${tpm.device}`,
      `--installed-tpm2-device=${tpm.device}`,
      `--recipient=${recipient()}`,
    );
    auxcred('rm', '--force', 'wifi');
    auxcred('put', 'wifi');
    auxcred('apply');
  });

  test('pcrs: none is bound', () => {
    only('pcrs', 'note', /no PCR is bound/);
    assert.match(
      auxcred('status'),
      /^tpm +IBM SW TPM, firmware [0-9.]+, at swtpm:path=\S+, the one that the seed is sealed to$/m,
    );
  });

  test('unbound: PCRs that wait for the first boot', () => {
    auxcred('reseal', '--tpm2-pcrs=7');
    only('unbound', 'warning', /^the chosen PCRs are not bound yet$/);
    assert.match(
      run(['status']).stdout,
      /^seed +sealed to tpm2, PCRs 7 will be bound at the first boot, 1 recovery recipient$/m,
    );
  });

  test('tpm: locked out', async () => {
    const guessed = await startSwtpm({});
    try {
      guessed.tool(
        'tpm2_dictionarylockout',
        '--setup-parameters',
        '--max-tries=1',
        '--recovery-time=1000',
        '--lockout-recovery-time=1000',
      );
      guessed.tool(
        'tpm2_createprimary',
        '--hierarchy=o',
        '--key-auth=right',
        '--attributes=fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt',
        '--key-context=key',
        '-Q',
      );
      guessed.tool('tpm2_flushcontext', '--transient-object');
      assert.throws(() =>
        guessed.tool(
          'tpm2_create',
          '--parent-context=key',
          '--parent-auth=wrong',
          '--public=public',
          '--private=private',
        ),
      );
      guessed.tool('tpm2_flushcontext', '--transient-object');
      auxcred(
        'reseal',
        `--tpm2-device=${guessed.device}`,
        `--installed-tpm2-device=${guessed.device}`,
        `--identity=${recoveryKey()}`,
      );
      const all = findings();
      assert.deepEqual(
        all.map(({ check, level }) => `${level} ${check}`),
        ['warning tpm', 'note pcrs'],
      );
      assert.match(all[0]?.message ?? '', /^the TPM is in dictionary attack lockout$/);
      assert.match(run(['status']).stdout, /^tpm .*locked out, the one that the seed is sealed to$/m);
      const [program = '', ...args] = (all[0]?.mend[0] ?? '').split(' ');
      guessed.tool(program, ...args);
      only('pcrs', 'note', /no PCR is bound/);
    } finally {
      await guessed.stop();
    }
  });

  test('counter: none is pinned', () => {
    auxcred('reseal', '--tpm2-pcrs=23');
    const pins: { tpm2Counter?: unknown } = JSON.parse(readFileSync(at('etc/auxcred/scopes.json'), 'utf8'));
    assert.notEqual(pins.tpm2Counter, undefined);
    delete pins.tpm2Counter;
    writeFileSync(at('etc/auxcred/scopes.json'), JSON.stringify(pins));
    const found = findings().find(({ check }) => check === 'counter');
    assert.match(found?.message ?? '', /no TPM counter remembers/);
    auxcred('reseal');
    assert.ok(findings().every(({ check }) => check !== 'counter'));
  });

  test('broker-access: the drop-in of a version whose broker saw all of /run', () => {
    const dropIn = at('etc/systemd/system/auxcred.service.d/50-auxcred-seal.conf');
    mkdirSync(at('usr/lib/systemd/system'), { recursive: true });
    writeFileSync(at('usr/lib/systemd/system/auxcred.service'), '[Service]\nExecStart=/bin/true\n');
    const lines = readFileSync(dropIn, 'utf8').split('\n');
    const without = (what: RegExp): string => lines.filter((line) => !what.test(line)).join('\n');
    writeFileSync(dropIn, without(/pcr-signature/));
    only('pcrs', 'note', /no PCR is bound/);
    writeFileSync(dropIn, without(/^BindReadOnlyPaths=/));
    const found = findings().find(({ check }) => check === 'broker-access');
    assert.ok(found);
    assert.match(found.message, /it lacks BindReadOnlyPaths=-\S+\/tpm, BindReadOnlyPaths=-\S+\/tpm\.ctrl$/);
    fixes(found, 0, {}, ['pcrs']);
  });

  test('snapshot: the counter was removed', () => {
    const index = /"index": *"(0x[0-9a-f]+)"/.exec(readFileSync(at('etc/auxcred/scopes.json'), 'utf8'))?.[1] ?? '';
    tpm.tool('tpm2_nvundefine', '-C', 'o', index);
    const found = findings().find(({ check }) => check === 'snapshot');
    assert.ok(found);
    assert.match(found.message, /^the TPM's counter 0x\w+ can't be read/);
    fixes(found, 1, {}, ['pcrs']);
  });

  test('tpm: none, and another one', async () => {
    await tpm.stop();
    const gone = only('tpm', 'problem', /^the TPM at \S+ can't be opened: IO failure$/);
    const { stdout } = run(['status']);
    assert.match(stdout, /^tpm +the TPM at \S+ can't be opened: IO failure$/m);
    assert.match(stdout, /^active {4}unknown while the seed is closed; manifest and drop-ins as applied$/m);
    assert.ok(
      gone.mend.every((command) => !command.includes('reseal') || command.includes('--with-key=host')),
      gone.mend.join('\n'),
    );
    const copy = mkdtempSync(join(tmpdir(), 'sealed to a TPM-'));
    cpSync(at(''), copy, { recursive: true, verbatimSymlinks: true });
    try {
      fixes(gone, 0, { 'RECOVERY-KEY': recoveryKey() });
    } finally {
      rmSync(at(''), { recursive: true });
      cpSync(copy, at(''), { recursive: true, verbatimSymlinks: true });
      rmSync(copy, { recursive: true });
    }
    renameSync(store('seeds.age'), at('aside'));
    const lost = findings().find(({ check }) => check === 'seed');
    assert.ok(
      lost?.mend.every((command) => !command.includes('reseal') || command.includes('--with-key=host')),
      lost?.mend.join('\n'),
    );
    renameSync(at('aside'), store('seeds.age'));
    tpm = await startSwtpm({});
    const other = { environment: { AUXCRED_TCTI: tpm.device } };
    const all = findings(other);
    assert.deepEqual(
      all.map(({ check, level }) => `${level} ${check}`),
      ['problem tpm', 'note pcrs'],
    );
    assert.match(all[0]?.message ?? '', /this TPM is not the one that the seed was sealed to/);
    const { status } = run([
      'reseal',
      `--tpm2-device=${tpm.device}`,
      `--installed-tpm2-device=${tpm.device}`,
      `--identity=${recoveryKey()}`,
    ]);
    assert.equal(status, 0);
    only('pcrs', 'note', /no PCR is bound/);
  });
});
