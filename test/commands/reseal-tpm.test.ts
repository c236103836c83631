import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import * as cli from '../cli.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { startSwappingProxy } from '../tpm-proxy.ts';
import { commandCodes, leftIn } from '../tpm2/sealing.ts';
import {
  at,
  fails,
  hostKey,
  identity,
  opensWith,
  root,
  sealing,
  secret,
  seeds,
  useMachineRoot,
  works,
} from './machine-root.ts';
import { counts, device, index, pins, sealedTo, swtpm, useTpm } from './machine-tpm.ts';

useMachineRoot();

describe('with a TPM', () => {
  useTpm();

  test('an installer leaves nothing of its way to the TPM, nor does a reseal in its place', () => {
    const mentions = (): string =>
      spawnSync('grep', ['-rlE', 'swtpm|tpm2Device', at('etc')], { encoding: 'utf8' }).stdout;
    works('seal', ['--no-recovery', '--with-key=tpm2', device()]);
    works('apply', [device()]);
    assert.equal(mentions(), '');
    works('reseal', [device()]);
    assert.equal(mentions(), '');
    works('unseal', [device()]);
    fails('unseal', [], 'no-tpm', /there is no TPM at \/dev\/tpmrm0/);
    works('reseal', sealedTo());
    assert.match(mentions(), /scopes\.json/);
    // It stays what it is.
    works('reseal', [device()]);
    works('unseal');
    fails('reseal', [device(), '--installed-tpm2-device=tpm0'], 'usage', /tpm0 is not a TPM device/);
  });

  test('a reseal to another TPM that ends between the seeds and the pins leaves seeds that open', () => {
    works('seal', ['--no-recovery']);
    works('apply');
    const before = readFileSync(at(seeds));
    // Pins and drop-in that fit both, then the seeds; the link to the active snapshot would be next.
    const { signal, status } = spawnSync(
      'strace',
      [
        '-f',
        '-qq',
        '-e',
        'trace=rename',
        '-e',
        'inject=rename:signal=SIGKILL:when=4',
        '-o',
        '/dev/null',
        process.execPath,
        cli.program,
        'reseal',
        `--root=${root}`,
        '--with-key=tpm2',
        ...sealedTo(),
      ],
      { env: { PATH: process.env['PATH'] } },
    );
    assert.ok(signal === 'SIGKILL' || status === 137);
    assert.ok(!before.equals(readFileSync(at(seeds))));
    assert.match(works('unseal').stderr, /opens with tpm2$/m);
    works('provision');
  });

  test('from one key of the machine to another, and back', () => {
    works('seal', ['--no-recovery']);
    works('apply');
    const before = secret();
    const dropIn = (): string => readFileSync(at('etc/systemd/system/auxcred.service.d/50-auxcred-seal.conf'), 'utf8');
    let counter = '';
    for (const withKey of ['tpm2', 'tpm2+host', 'tpm2', 'tpm2+host', 'host', 'tpm2']) {
      const { stderr } = works('reseal', [`--with-key=${withKey}`, ...sealedTo()]);
      assert.match(
        works('unseal').stderr,
        new RegExp(`opens with ${withKey === 'host' ? 'ssh host key' : withKey.replace('+', '\\+')}$`, 'm'),
      );
      assert.equal(secret(), before);
      assert.equal(sealing().at('withKey').text(), withKey);
      assert.equal(opensWith(at(hostKey)), withKey === 'host');
      assert.deepEqual(
        [/^LoadCredential=ssh-host-key/m.test(dropIn()), /^DeviceAllow=char-tpm/m.test(dropIn())],
        [withKey !== 'tpm2', withKey !== 'host'],
        withKey,
      );
      if (withKey === 'host')
        assert.match(
          stderr,
          new RegExp(`the TPM's counter ${counter} is no longer used; tpm2_nvundefine -C o ${counter} removes it`),
        );
      else counter = index();
      assert.equal(
        pins()
          .at('tpm2Counter')
          .optional((item) => item.at('index').text()),
        withKey === 'host' ? undefined : counter,
      );
      assert.match(works('provision').stderr, /nothing to do/, withKey);
    }
  });

  test('from a TPM that no longer has the counter: there is none to remove', () => {
    works('seal', ['--no-recovery', '--with-key=tpm2', ...sealedTo()]);
    works('apply');
    swtpm.tool('tpm2_nvundefine', '-C', 'o', index());
    assert.doesNotMatch(works('reseal', ['--with-key=host', '--accept-older']).stderr, /no longer used/);
  });

  describe('another TPM that takes over in the middle', () => {
    let other: Swtpm;
    before(async () => {
      other = await startSwtpm();
    });
    after(async () => {
      await other.stop();
    });
    /**
     * Runs auxcred so that another TPM answers once it opens the TPM again after so many of these commands.
     */
    const swapped = async (
      code: number,
      times: number,
      verb: string,
      args: readonly string[],
      input = '',
    ): Promise<cli.Said> => {
      const proxy = await startSwappingProxy(swtpm.device, other.device, { code, times });
      try {
        const child = spawn(
          process.execPath,
          [cli.program, verb, `--root=${root}`, `--tpm2-device=${proxy.device}`, ...args],
          { env: { PATH: process.env['PATH'] } },
        );
        const said = { stdout: '', stderr: '' };
        for (const name of ['stdout', 'stderr'] as const)
          child[name].setEncoding('utf8').on('data', (text: string) => {
            said[name] += text;
          });
        child.stdin.end(input);
        const [status]: unknown[] = await once(child, 'close');
        assert.ok(proxy.hasSwapped());
        return { status: typeof status === 'number' ? status : null, ...said };
      } finally {
        await proxy.stop();
      }
    };
    const isRefused = ({ status, stderr }: cli.Said, message: RegExp): void => {
      assert.equal(status, exitStatus['other-tpm'], stderr);
      assert.match(stderr, message);
      assert.deepEqual([leftIn(other), other.tool('tpm2_getcap', 'handles-nv-index')], ['', '']);
    };

    for (const withKey of ['tpm2', 'tpm2+host'])
      test(`${withKey}: gets no seed from reseal, and the old ones stay`, async () => {
        works('seal', ['--no-recovery', `--with-key=${withKey}`, ...sealedTo()]);
        works('apply');
        const [sealed, pinned] = [readFileSync(at(seeds)), readFileSync(at('etc/auxcred/scopes.json'))];
        // Opened by one TPM, then sealed to the other. Sealed by one, then opened or counted with the other.
        isRefused(
          await swapped(commandCodes.unseal, 1, 'reseal', []),
          /the TPM that answers now is not the one that opened the seeds, so nothing is sealed to it\n.*--identity=FILE/,
        );
        isRefused(await swapped(commandCodes.create, 1, 'reseal', []), /sealed to another TPM/);
        isRefused(await swapped(commandCodes.unseal, 2, 'reseal', []), /sealed to another TPM/);
        assert.deepEqual([readFileSync(at(seeds)), readFileSync(at('etc/auxcred/scopes.json'))], [sealed, pinned]);
        works('unseal');
      });

    test('does not count for the first', async () => {
      works('seal', ['--no-recovery', '--with-key=tpm2', ...sealedTo()]);
      works('apply');
      const before = counts();
      const { status, stderr } = await swapped(commandCodes.nvRead, 2, 'reseal', []);
      assert.equal(status, 0, stderr);
      assert.match(stderr, /warning: the TPM's counter was not raised: .*another TPM/);
      assert.equal(counts(), before);
      assert.match(works('provision', [device()]).stderr, /nothing to do/);
      assert.equal(counts(), before + 1);
    });

    test('is not bound at the first boot', async () => {
      works('seal', ['--no-recovery', '--with-key=tpm2', '--tpm2-pcrs=7', ...sealedTo()]);
      const sealed = readFileSync(at(seeds));
      isRefused(await swapped(commandCodes.unseal, 1, 'reseal', ['--first-boot']), /not the one that opened the seeds/);
      assert.deepEqual([readFileSync(at(seeds)), existsSync(at('var/lib/auxcred/unbound'))], [sealed, true]);
    });

    test('is accepted if the words, scopes or a recovery key opened the seeds', async () => {
      const { file, recipient } = identity('one');
      const words = works('seal', [
        '--print-words',
        `--recipient=${recipient}`,
        '--with-key=tpm2',
        ...sealedTo(),
      ]).stdout;
      works('apply');
      const value = secret();
      for (const [to, args, input] of [
        [other, ['--seed-file=-'], words],
        [swtpm, [`--identity=${file}`], ''],
      ] as const) {
        fails('reseal', [`--tpm2-device=${to.device}`], 'other-tpm', /sealed to another TPM/);
        works('reseal', [...sealedTo(to), '--accept-older', ...args], input);
        assert.equal(secret(), value);
      }
      for (const [found] of other.tool('tpm2_getcap', 'handles-nv-index').matchAll(/0x1A0C[0-9A-Fa-f]+/gi))
        other.tool('tpm2_nvundefine', '-C', 'o', found);
    });
  });

  test("an installation is sealed without the installer's PCRs, and says so", () => {
    const { stderr } = works('seal', ['--no-recovery', '--with-key=tpm2', '--tpm2-pcrs=7+14', ...sealedTo()]);
    assert.match(stderr, /sealed the seed of host\/web1 to its TPM, without PCRs until the first boot binds 7\+14/);
    assert.deepEqual(
      [
        sealing().at('pcrs').list().length,
        sealing()
          .at('pcrsAtFirstBoot')
          .list()
          .map((pcr) => pcr.whole(0, 23)),
      ],
      [0, [7, 14]],
    );
    assert.ok(existsSync(at('var/lib/auxcred/unbound')));
    works('reseal', ['--no-tpm2-pcrs']);
    assert.equal(sealing().at('pcrsAtFirstBoot').list().length, 0);
    assert.ok(!existsSync(at('var/lib/auxcred/unbound')));
  });
});
