/**
 * Sealing the same seeds again, and refusing what was rolled back, on a machine's root folder as an installer sees it.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { givenOpeners, openServedSecrets } from '../../src/broker/served-secrets.ts';
import { exitStatus, type FailureCode } from '../../src/failure.ts';
import { wipeScopes } from '../../src/seeds/scope.ts';
import { Json } from '../../src/system/json.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import * as cli from '../cli.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { startSwappingProxy, startTpmProxy } from '../tpm-proxy.ts';
import { commandCodes, createPrimary, leftIn, makePersistent, removePersistent } from '../tpm2/sealing.ts';

let root = '';
const at = (path: string): string => join(root, path);
const seeds = 'var/lib/auxcred/seeds.age';
const hostKey = 'etc/ssh/ssh_host_ed25519_key';

const auxcred = (verb: string, args: readonly string[], input = ''): cli.Said =>
  cli.auxcred([verb, `--root=${root}`, ...args], { input });
function works(verb: string, args: readonly string[] = [], input = ''): cli.Said {
  const said = auxcred(verb, args, input);
  assert.equal(said.status, 0, `${verb} ${args.join(' ')}: ${said.stderr}`);
  return said;
}
function fails(verb: string, args: readonly string[], code: FailureCode, message: RegExp, input = ''): void {
  const said = auxcred(verb, args, input);
  assert.equal(said.status, exitStatus[code], `${verb} ${args.join(' ')}: ${said.stderr}`);
  assert.match(said.stderr, message);
}
const secret = (): string => works('get', ['key']).stdout;
const sealing = (): Json => Json.parse(Buffer.from(works('unseal', ['--json']).stdout), 'unseal', '').at('sealing');
const recovery = (): string[] =>
  sealing()
    .at('recovery')
    .list()
    .map((item) => item.text());

function identity(name: string): { readonly file: string; readonly recipient: string } {
  const file = at(name);
  assert.equal(spawnSync('age-keygen', ['-o', file]).status, 0);
  return { file, recipient: spawnSync('age-keygen', ['-y', file], { encoding: 'utf8' }).stdout.trim() };
}
const opensWith = (file: string): boolean => spawnSync('age', ['-d', '-i', file, at(seeds)]).status === 0;
function newHostKey(): void {
  rmSync(at(hostKey), { force: true });
  assert.equal(spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(hostKey)]).status, 0);
}
const declare = (more = ''): void => {
  writeFileSync(at('etc/auxcred/secrets.d/web.toml'), `[secret.key]\nkind = "hex"\nunits = ["web.service"]\n${more}`);
};
/** A backup of some of the machine's files. */
function copyOf(...paths: readonly string[]): () => void {
  const folder = mkdtempSync(join(root, 'copy-'));
  for (const path of paths) cpSync(at(path), join(folder, path), { recursive: true, verbatimSymlinks: true });
  return () => {
    for (const path of paths) {
      rmSync(at(path), { recursive: true });
      cpSync(join(folder, path), at(path), { recursive: true, verbatimSymlinks: true });
    }
  };
}

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'root-'));
  for (const folder of ['etc/ssh', 'etc/auxcred/secrets.d']) mkdirSync(at(folder), { recursive: true });
  writeFileSync(at('etc/hostname'), 'web1\n');
  writeFileSync(at('etc/group'), 'root:x:0:\n');
  declare();
  newHostKey();
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

describe('reseal', () => {
  test('seals even if an active fixed file is damaged, and the next provision repairs it', () => {
    declare('[secret.wifi]\nkind = "fixed"\nunits = ["web.service"]\n');
    works('seal', ['--no-recovery']);
    works('put', ['wifi'], 'a value');
    works('apply');
    const folder = at('var/lib/auxcred/provisioned/fixed');
    const [name = ''] = readdirSync(folder);
    const whole = readFileSync(join(folder, name));
    writeFileSync(join(folder, name), whole.subarray(0, 100));
    assert.match(works('reseal').stderr, /the file of host\/web1\/wifi is gone or damaged.*\n.*auxcred provision/);
    works('unseal');
    works('provision');
    assert.ok(whole.equals(readFileSync(join(folder, name))));
    assert.match(works('provision').stderr, /nothing to do/);
  });

  test('adds and removes recovery recipients; the secrets stay', () => {
    const [one, two] = [identity('one'), identity('two')];
    works('seal', [`--recipient=${one.recipient}`]);
    works('apply');
    const before = secret();
    const { stderr } = works('reseal', [`--add-recipient=${two.recipient}`, `--remove-recipient=${one.recipient}`]);
    assert.match(stderr, new RegExp(`^auxcred: recovery: ${two.recipient.slice(0, 24)}$`, 'm'));
    assert.deepEqual([opensWith(one.file), opensWith(two.file), opensWith(at(hostKey))], [false, true, true]);
    assert.deepEqual(recovery(), [two.recipient]);
    assert.equal(secret(), before);
    assert.match(works('provision').stderr, /nothing to do/);
    assert.match(
      works('reseal', [`--remove-recipient=${two.recipient}`]).stderr,
      /only this machine can open it: --add-recipient=/,
    );
    assert.equal(secret(), before);
  });

  test('refuses what makes no sense, and leaves the file as it was', () => {
    const { recipient } = identity('one');
    works('seal', ['--no-recovery']);
    const before = readFileSync(at(seeds));
    fails(
      'reseal',
      [`--remove-recipient=${recipient}`],
      'not-found',
      /is not a recovery recipient\nauxcred: hint: there is none/,
    );
    fails('reseal', ['--add-recipient=me@example.org'], 'usage', /is not an age recipient/);
    fails('reseal', ['--no-tpm2-pcrs', '--tpm2-pcrs=7'], 'usage', /exclude each other/);
    fails('reseal', ['--identity=x', '--seed-file=y'], 'usage', /--identity and --seed-file exclude each other/);
    fails('reseal', ['--tpm2-pcrs=7'], 'usage', /--tpm2-pcrs needs a TPM/);
    fails(
      'reseal',
      ['--with-key=tpm2', '--tpm2-device=/dev/tpm-not-here'],
      'no-tpm',
      /there is no TPM at \/dev\/tpm-not-here/,
    );
    assert.ok(before.equals(readFileSync(at(seeds))));
    assert.match(works('reseal', ['--first-boot']).stderr, /nothing waits for the first boot/);
    assert.ok(before.equals(readFileSync(at(seeds))));
  });

  test("a credential that can't be re-encrypted is a failure", () => {
    works('seal', ['--no-recovery']);
    declare('delivery = "credstore"\n');
    fails('apply', [], 'system', /systemd-creds encrypt failed/);
    fails('reseal', [], 'system', /systemd-creds encrypt failed/);
  });

  test('a seeds.age that was replaced is refused when it is restored, and named', () => {
    works('seal', ['--no-recovery']);
    works('apply');
    const bringBack = copyOf(seeds);
    works('reseal', [`--add-recipient=${identity('one').recipient}`]);
    bringBack();
    for (const verb of ['provision', 'apply', 'reseal'])
      fails(verb, [], 'older', /seeds\.age has counter 1; counter 2 was active\nauxcred: hint: .*--accept-older/);
    works('provision', ['--accept-older']);
    assert.match(works('provision').stderr, /nothing to do/);
    works('reseal');
  });

  test('after the ssh host key changed, by a recovery key', () => {
    const { file, recipient } = identity('one');
    works('seal', [`--recipient=${recipient}`]);
    works('apply');
    const before = secret();
    newHostKey();
    fails('reseal', [], 'no-recipient', /none of this machine's keys opens the file/);
    fails('reseal', [`--identity=${identity('stranger').file}`], 'no-recipient', /no key opens/);
    works('reseal', [`--identity=${file}`]);
    assert.equal(secret(), before);
    assert.match(works('provision').stderr, /nothing to do/);
  });

  test('from the 24 words alone: the active snapshot knows recipients and keys', () => {
    const { file, recipient } = identity('one');
    const words = works('seal', ['--print-words', `--recipient=${recipient}`]).stdout;
    newHostKey();
    fails(
      'reseal',
      ['--seed-file=-'],
      'usage',
      /it is not known how these seeds were sealed\nauxcred: hint: --with-key=host/,
      words,
    );
    works('reseal', ['--seed-file=-', '--with-key=host', `--add-recipient=${recipient}`], words);
    works('apply');
    const before = secret();
    rmSync(at(seeds));
    newHostKey();
    fails(
      'reseal',
      ['--seed-file=-'],
      'not-pinned',
      /the seed of host\/web1 is not the one that this machine expects/,
      `${'abandon '.repeat(23)}art`,
    );
    assert.ok(!existsSync(at(seeds)));
    works('reseal', ['--seed-file=-'], words);
    assert.equal(secret(), before);
    assert.deepEqual(recovery(), [recipient]);
    assert.ok(opensWith(file));
    rmSync(at('etc/auxcred/scopes.json'));
    fails(
      'reseal',
      ['--seed-file=-'],
      'not-pinned',
      /auxcred seal --replace --seed-file=- with the 24 words does too/,
      words,
    );
    works('seal', ['--seed-file=-', '--replace'], words);
  });

  test('from the scopes of the operator, which have to be all that the machine had', () => {
    const scope = (kind: string, name: string, byte: number): unknown => ({
      kind,
      name,
      epoch: 1,
      seed: Buffer.alloc(32, byte).toString('base64'),
    });
    const scopes = (...list: readonly unknown[]): string => JSON.stringify({ scopes: list, version: 1 });
    const both = scopes(scope('host', 'web1', 1), scope('group', 'db', 2));
    works('seal', ['--scopes=-'], both);
    works('apply');
    const before = secret();
    newHostKey();
    fails(
      'reseal',
      ['--seed-file=-'],
      'usage',
      /has the seeds of group\/db, host\/web1, so one seed is not enough/,
      '',
    );
    fails('reseal', ['--scopes=-'], 'not-pinned', /no seed for group\/db/, scopes(scope('host', 'web1', 1)));
    works('reseal', ['--scopes=-'], both);
    assert.equal(secret(), before);
  });

  test('an older fixed file is refused and named', () => {
    works('seal', ['--no-recovery']);
    declare('[secret.wifi]\nkind = "fixed"\nunits = ["web.service"]\n');
    works('put', ['wifi'], 'one');
    works('apply');
    const bringBack = copyOf('var/lib/auxcred/fixed');
    works('put', ['wifi', '--force'], 'two');
    works('apply');
    bringBack();
    fails('provision', [], 'older', /wifi.*(older|number)[^]*--accept-older/);
    works('provision', ['--accept-older']);
    assert.equal(works('get', ['wifi']).stdout, 'one');
  });
});

describe('seal on a machine that lost its seed', () => {
  const words = (): string => works('unseal', ['--reveal']).stdout;
  const lose = (path: string): void => {
    rmSync(at(path), { recursive: true });
  };
  const pins = 'etc/auxcred/scopes.json';
  beforeEach(() => {
    works('seal', ['--no-recovery']);
    for (const name of ['wifi', 'token']) works('put', [name], 'a value');
    works('apply');
  });

  for (const [what, gone, cost] of [
    ['its file', [seeds], 'every secret of host/web1, what is active and 2 fixed secrets'],
    ['its file system', ['var/lib/auxcred'], 'every secret of host/web1'],
    ['its file and the pins', [seeds, pins], 'what is active and 2 fixed secrets'],
    ['all but the fixed secrets', [seeds, pins, 'var/lib/auxcred/provisioned'], '2 fixed secrets'],
  ] as const)
    test(`${what}: says what a new one would lose, and accepts the old one`, () => {
      const paper = words();
      const value = secret();
      for (const path of gone) lose(path);
      fails(
        'seal',
        ['--no-recovery'],
        'refused',
        new RegExp(
          `this machine had another seed, .*: with a new seed it would lose ${cost}\\n.*hint: mount .*backup.*--seed-file.*--scopes.*push.*--replace`,
        ),
      );
      fails('seal', ['--seed-file=-'], 'refused', /with a new seed it would lose/, `${'abandon '.repeat(23)}art`);
      assert.ok(!existsSync(at(seeds)));
      works('seal', ['--seed-file=-'], paper);
      assert.equal(secret(), value);
      if (what !== 'its file system') assert.equal(works('get', ['wifi']).stdout, 'a value');
    });

  test('with damaged pins, an unknown seed is not replaced', () => {
    lose('var/lib/auxcred');
    writeFileSync(at(pins), '{}');
    fails('seal', ['--no-recovery'], 'refused', /every secret of the scopes in the damaged scopes\.json/);
  });

  test('is told so by the verbs that need the seed, and gives it up only when told to', () => {
    lose(seeds);
    for (const verb of ['unseal', 'provision'])
      fails(verb, [], 'not-found', /this machine's seed is lost: .*\n.*backup/);
    assert.match(works('apply').stderr, /warning: this machine's seed is lost.*\n.*--seed-file=-/);
    assert.match(
      works('seal', ['--no-recovery', '--replace']).stderr,
      /every secret of host\/web1 is new.*\n.*warning: 2 fixed secrets can no longer be opened/,
    );
    works('unseal');
  });

  test('counts no fixed secret as lost that the given scopes open', () => {
    const scopes = (...list: readonly (readonly [string, string, number])[]): string =>
      JSON.stringify({
        version: 1,
        scopes: list.map(([kind, name, byte]) => ({
          kind,
          name,
          epoch: 1,
          seed: Buffer.alloc(32, byte).toString('base64'),
        })),
      });
    works('seal', ['--replace', '--scopes=-'], scopes(['host', 'web1', 1], ['group', 'db', 2]));
    works('put', ['--group=db', 'shared'], 'a value');
    lose('var/lib/auxcred/fixed/host');
    lose(seeds);
    fails(
      'seal',
      ['--scopes=-'],
      'refused',
      /would lose every secret of host\/web1 and what is active\n/,
      scopes(['host', 'web1', 3], ['group', 'db', 2]),
    );
    fails(
      'seal',
      ['--scopes=-'],
      'refused',
      /would lose every secret of group\/db and 1 fixed secret\n/,
      scopes(['host', 'web1', 1]),
    );
    works('seal', ['--scopes=-'], scopes(['host', 'web1', 1], ['group', 'db', 2]));
  });
});

test('a first seal that was killed before it wrote its seed has lost no seed', () => {
  const killedAt = (rename: number): void => {
    const { signal, status } = spawnSync(
      'strace',
      [
        '-f',
        '-qq',
        '-e',
        'trace=rename',
        '-e',
        `inject=rename:signal=SIGKILL:when=${String(rename)}`,
        '-o',
        '/dev/null',
        process.execPath,
        cli.program,
        'seal',
        '--no-recovery',
        `--root=${root}`,
      ],
      { env: { PATH: process.env['PATH'] } },
    );
    assert.ok(signal === 'SIGKILL' || status === 137);
  };
  // The pins, the drop-in, then the seeds.
  killedAt(3);
  assert.ok(existsSync(at('etc/auxcred/scopes.json')) && !existsSync(at(seeds)));
  fails('unseal', [], 'not-found', /no seed is sealed on this machine.*\n.*run auxcred seal/);
  // The drop-in is the same: the pins, the seeds, then the pins once more.
  killedAt(3);
  assert.ok(existsSync(at(seeds)));
  works('apply');
  // From now on there were seeds.
  rmSync(at('var/lib/auxcred'), { recursive: true });
  fails('seal', ['--no-recovery'], 'refused', /would lose every secret of host\/web1/);
});

describe('with a TPM', () => {
  let swtpm: Swtpm;
  before(async () => {
    swtpm = await startSwtpm();
  });
  after(async () => {
    await swtpm.stop();
  });
  const device = (): string => `--tpm2-device=${swtpm.device}`;
  const pins = (): Json => Json.parse(readFileSync(at('etc/auxcred/scopes.json')), 'scopes.json', '');
  const index = (): string => pins().at('tpm2Counter').at('index').text();
  const counts = (of = index()): number =>
    Number(`0x${Buffer.from(swtpm.tool('tpm2_nvread', '-C', of, '-s', '8', of), 'latin1').toString('hex')}`);
  afterEach(() => {
    for (const [found] of swtpm.tool('tpm2_getcap', 'handles-nv-index').matchAll(/0x1A0C[0-9A-Fa-f]+/gi))
      swtpm.tool('tpm2_nvundefine', '-C', 'o', found);
    assert.equal(leftIn(swtpm), '');
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
        device(),
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
      const { stderr } = works('reseal', [`--with-key=${withKey}`, device()]);
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
        works('seal', ['--no-recovery', `--with-key=${withKey}`, device()]);
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
      works('seal', ['--no-recovery', '--with-key=tpm2', device()]);
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
      works('seal', ['--no-recovery', '--with-key=tpm2', '--tpm2-pcrs=7', device()]);
      const sealed = readFileSync(at(seeds));
      isRefused(await swapped(commandCodes.unseal, 1, 'reseal', ['--first-boot']), /not the one that opened the seeds/);
      assert.deepEqual([readFileSync(at(seeds)), existsSync(at('var/lib/auxcred/unbound'))], [sealed, true]);
    });

    test('is accepted if the words, scopes or a recovery key opened the seeds', async () => {
      const { file, recipient } = identity('one');
      const words = works('seal', ['--print-words', `--recipient=${recipient}`, '--with-key=tpm2', device()]).stdout;
      works('apply');
      const value = secret();
      for (const [to, args, input] of [
        [other, ['--seed-file=-'], words],
        [swtpm, [`--identity=${file}`], ''],
      ] as const) {
        fails('reseal', [`--tpm2-device=${to.device}`], 'other-tpm', /sealed to another TPM/);
        works('reseal', [`--tpm2-device=${to.device}`, '--accept-older', ...args], input);
        assert.equal(secret(), value);
      }
      for (const [found] of other.tool('tpm2_getcap', 'handles-nv-index').matchAll(/0x1A0C[0-9A-Fa-f]+/gi))
        other.tool('tpm2_nvundefine', '-C', 'o', found);
    });
  });

  test("an installation is sealed without the installer's PCRs, and says so", () => {
    const { stderr } = works('seal', ['--no-recovery', '--with-key=tpm2', '--tpm2-pcrs=7+14', device()]);
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

  test('the counter counts activations, and nothing else', () => {
    works('seal', ['--no-recovery', '--with-key=tpm2', device()]);
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
    works('seal', ['--replace', '--no-recovery', '--with-key=tpm2', device()]);
    assert.deepEqual([index(), counts()], [kept, start + 3]);
    works('apply');
    assert.equal(counts(), start + 4);
  });

  test('an older store as a whole is refused, and named; without a TPM it is accepted', () => {
    works('seal', ['--no-recovery', '--with-key=tpm2', device()]);
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
          `the store on this disk is older than the TPM remembers: it is number ${String(first)}, and number ${String(first + 2)} was active\\nauxcred: hint: .*--accept-older`,
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
    works('reseal', ['--with-key=tpm2', device()]);
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
    works('seal', ['--no-recovery', '--with-key=tpm2', device()]);
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
    works('seal', ['--no-recovery', '--with-key=tpm2', device()]);
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
    works('seal', ['--no-recovery', '--with-key=tpm2', device()]);
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
    const words = works('seal', ['--print-words', '--with-key=tpm2', device()]).stdout;
    works('apply');
    const old = copyOf('var/lib/auxcred');
    declare('[secret.more]\nunits = ["web.service"]\n');
    works('apply');
    old();
    fails('reseal', ['--seed-file=-'], 'older', /older than the TPM remembers/, words);
    fails(
      'seal',
      ['--replace', '--seed-file=-', '--with-key=tpm2', device()],
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
        works('seal', ['--no-recovery', '--with-key=tpm2', device()]).stderr,
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
      works('seal', ['--no-recovery', '--with-key=tpm2', `--tpm2-device=${virtual.device}`]);
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
