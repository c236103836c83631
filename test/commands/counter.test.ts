import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { givenOpeners, openServedSecrets } from '../../src/broker/served-secrets.ts';
import { wipeScopes } from '../../src/seeds/scope.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import * as cli from '../cli.ts';
import { startSwtpm } from '../swtpm.ts';
import { startTpmProxy } from '../tpm-proxy.ts';
import { commandCodes, createPrimary, makePersistent, removePersistent } from '../tpm2/sealing.ts';
import { at, copyOf, declare, fails, root, seeds, useMachineRoot, works } from './machine-root.ts';
import { counts, index, pins, sealedTo, swtpm, useTpm } from './machine-tpm.ts';

useMachineRoot();

describe('with a TPM', () => {
  useTpm();

  test('the counter counts activations, and nothing else', () => {
    works('seal', ['--no-recovery', '--with-key=tpm2', ...sealedTo()]);
    const start = counts();
    assert.equal(pins().at('tpm2Counter').at('start').whole(1, 99), start);
    works('apply');
    assert.equal(counts(), start + 1);
    assert.match(works('apply').stderr, /already active/);
    works('provision');
    works('unseal');
    assert.equal(counts(), start + 1);
    declare('[secret.more]\nunits = ["web.service"]\n');
    works('provision');
    assert.equal(counts(), start + 2);
    const kept = index();
    works('reseal');
    assert.deepEqual([index(), counts()], [kept, start + 3]);
    works('seal', ['--replace', '--no-recovery', '--with-key=tpm2', ...sealedTo()]);
    assert.deepEqual([index(), counts()], [kept, start + 3]);
    works('apply');
    assert.equal(counts(), start + 4);
  });

  test('an older store as a whole is refused, and named; without a TPM it is accepted', () => {
    works('seal', ['--no-recovery', '--with-key=tpm2', ...sealedTo()]);
    declare('[secret.wifi]\nkind = "fixed"\nunits = ["web.service"]\n');
    works('put', ['wifi'], 'one');
    works('apply');
    const first = counts();
    const bringBack = copyOf('var/lib/auxcred');
    works('put', ['wifi', '--force'], 'two');
    works('apply');
    works('reseal');
    bringBack();
    for (const verb of ['provision', 'apply', 'reseal'])
      fails(
        verb,
        [],
        'older',
        new RegExp(
          `the store on this disk is older than the TPM remembers: it is number ${String(first)}, ` +
            `and number ${String(first + 2)} was active\\nauxcred: hint: .*--accept-older`,
        ),
      );
    works('provision', ['--accept-older']);
    assert.equal(counts(), first + 3);
    assert.match(works('provision').stderr, /nothing to do/);
    assert.equal(works('get', ['wifi']).stdout, 'one');

    works('reseal', ['--with-key=host']);
    const unnoticed = copyOf('var/lib/auxcred');
    works('put', ['wifi', '--force'], 'two');
    works('apply');
    unnoticed();
    assert.match(works('provision').stderr, /nothing to do/, 'without a TPM nothing outside of the folder remembers');
  });

  test('a missing snapshot, one that never had a number, and a store for another key do not get around it', () => {
    works('seal', ['--no-recovery']);
    works('apply');
    const withHostKey = copyOf('var/lib/auxcred');
    works('reseal', ['--with-key=tpm2', ...sealedTo()]);
    declare('[secret.more]\nunits = ["web.service"]\n');
    works('apply');
    const now = copyOf('var/lib/auxcred');
    withHostKey();
    fails('provision', [], 'older', /counter 0x1a0c4ed can't be read/);
    now();
    rmSync(at('var/lib/auxcred/provisioned'));
    fails('provision', [], 'older', /number \d+ was active, and nothing here has a number/);
    works('provision', ['--accept-older']);
    works('provision');
  });

  test('a power cut between the snapshot and the counter is repaired by the next provision', async () => {
    works('seal', ['--no-recovery', '--with-key=tpm2', ...sealedTo()]);
    works('apply');
    const before = counts();
    const old = copyOf('var/lib/auxcred');
    declare('[secret.more]\nunits = ["web.service"]\n');
    let kill = (): void => undefined;
    const proxy = await startTpmProxy(swtpm.device, (code) => {
      if (code !== commandCodes.nvIncrement) return undefined;
      kill();
      return 'lost';
    });
    try {
      const child = spawn(
        process.execPath,
        [cli.program, 'provision', `--root=${root}`, `--tpm2-device=${proxy.device}`],
        {
          stdio: 'ignore',
        },
      );
      kill = () => {
        child.kill('SIGKILL');
      };
      assert.deepEqual(await once(child, 'exit'), [null, 'SIGKILL']);
    } finally {
      await proxy.stop();
    }
    for (const kind of ['-t', '-l', '-s']) swtpm.tool('tpm2_flushcontext', kind);
    assert.equal(counts(), before);
    assert.match(works('provision').stderr, /nothing to do/);
    assert.equal(counts(), before + 1);
    works('provision');
    assert.equal(counts(), before + 1);
    old();
    fails('provision', [], 'older', /older than the TPM remembers/);
  });

  test('a broker that reads old seeds and a new snapshot reads again', async () => {
    works('seal', ['--no-recovery', '--with-key=tpm2', ...sealedTo()]);
    works('apply');
    const before = copyOf(seeds);
    works('reseal');
    const afterwards = copyOf(seeds);
    before();
    let readings = 0;
    const proxy = await startTpmProxy(swtpm.device, (code) => {
      if (code === commandCodes.unseal && readings++ === 0) afterwards();
      return undefined;
    });
    try {
      const { releases, scopes } = await openServedSecrets(
        pathsUnder(root),
        givenOpeners({ AUXCRED_TCTI: proxy.device }),
      );
      wipeScopes(scopes);
      assert.deepEqual([releases.length, readings], [1, 2]);
      before();
      await assert.rejects(
        openServedSecrets(pathsUnder(root), givenOpeners({ AUXCRED_TCTI: proxy.device })),
        /seeds\.age has counter 1; counter 2 was active/,
      );
      assert.equal(readings, 5);
    } finally {
      await proxy.stop();
    }
  });

  test('a removed counter is noticed, and reseal creates another one', () => {
    works('seal', ['--no-recovery', '--with-key=tpm2', ...sealedTo()]);
    works('apply');
    const before = counts();
    swtpm.tool('tpm2_nvundefine', '-C', 'o', index());
    for (const args of [['provision'], ['provision', '--accept-older'], ['reseal']] as const)
      fails(args[0], args.slice(1), 'older', /counter 0x1a0c4ed can't be read[^]*auxcred reseal --accept-older/);
    works('reseal', ['--accept-older']);
    assert.ok(counts() > before);
    works('provision');
  });

  test('sealing the same seeds from words does not make an older snapshot acceptable either', () => {
    const words = works('seal', ['--print-words', '--with-key=tpm2', ...sealedTo()]).stdout;
    works('apply');
    const old = copyOf('var/lib/auxcred');
    declare('[secret.more]\nunits = ["web.service"]\n');
    works('apply');
    old();
    fails('reseal', ['--seed-file=-'], 'older', /older than the TPM remembers/, words);
    fails(
      'seal',
      ['--replace', '--seed-file=-', '--with-key=tpm2', ...sealedTo()],
      'older',
      /older than the TPM remembers/,
      words,
    );
    works('reseal', ['--seed-file=-', '--accept-older'], words);
    works('apply');
  });

  test("a TPM that can't create a counter causes only a warning", () => {
    createPrimary(swtpm);
    makePersistent(swtpm);
    swtpm.tool('tpm2_changeauth', '-c', 'o', 'password');
    try {
      assert.match(
        works('seal', ['--no-recovery', '--with-key=tpm2', ...sealedTo()]).stderr,
        /warning: the TPM has no counter for this machine, so if an older store is restored as a whole, that goes unnoticed: the owner hierarchy .* has a password/,
      );
      works('apply');
      assert.equal(
        pins()
          .at('tpm2Counter')
          .optional(() => 'there'),
        undefined,
      );
    } finally {
      swtpm.tool('tpm2_changeauth', '-c', 'o', '-p', 'password');
      removePersistent(swtpm);
    }
    works('reseal');
    assert.equal(counts(), pins().at('tpm2Counter').at('start').whole(0, 99) + 1);
  });

  test('a virtual TPM that is rolled back alone is noticed; together with the disk it is not', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vtpm-'));
    let virtual = await startSwtpm({ folder });
    try {
      works('seal', ['--no-recovery', '--with-key=tpm2', ...sealedTo(virtual)]);
      works('apply');
      const disk = copyOf('var/lib/auxcred', 'etc/auxcred/secrets.d');
      await virtual.stop();
      cpSync(join(folder, 'state'), join(folder, 'then'), { recursive: true });
      virtual = await startSwtpm({ folder });
      for (const more of ['[secret.two]\n', '[secret.two]\n[secret.three]\n']) {
        declare(more.replaceAll('\n', '\nunits = ["web.service"]\n'));
        works('apply');
      }
      await virtual.stop();
      rmSync(join(folder, 'state'), { recursive: true });
      cpSync(join(folder, 'then'), join(folder, 'state'), { recursive: true });
      virtual = await startSwtpm({ folder });
      fails(
        'provision',
        [],
        'older',
        /the TPM remembers less than the store on this disk[^]*reset to an earlier state/,
      );
      disk();
      assert.match(works('provision').stderr, /nothing to do/);
    } finally {
      await virtual.stop();
      rmSync(folder, { recursive: true });
    }
  });
});
