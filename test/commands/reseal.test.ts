import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  at,
  copyOf,
  declare,
  fails,
  hostKey,
  identity,
  newHostKey,
  opensWith,
  recovery,
  secret,
  seeds,
  useMachineRoot,
  works,
} from './machine-root.ts';

useMachineRoot();

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
    for (const option of ['tpm2-pcrs=7', 'tpm2-pcrlock=/x', 'tpm2-public-key=/x', 'lock-after-unseal'])
      fails(
        'reseal',
        ['--with-key=tpm2', `--no-${option.replace(/=.*/, '')}`, `--${option}`],
        'usage',
        /exclude each other/,
      );
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

  test('an older seeds.age that only a recovery key opens is accepted as the message says', () => {
    const { file, recipient } = identity('one');
    works('seal', [`--recipient=${recipient}`]);
    works('apply');
    const bringBack = copyOf(seeds);
    works('reseal');
    bringBack();
    newHostKey();
    const args = [`--identity=${file}`];
    fails('reseal', args, 'older', /if this one is meant, auxcred reseal --accept-older --identity=FILE$/m);
    works('reseal', ['--accept-older', ...args]);
    assert.match(works('provision').stderr, /nothing to do/);
  });

  test('after the ssh host key changed, by a recovery key', () => {
    const { file, recipient } = identity('one');
    works('seal', [`--recipient=${recipient}`]);
    works('apply');
    const before = secret();
    newHostKey();
    fails('reseal', [], 'no-recipient', /none of this machine's keys opens the file/);
    const says = /no key opens .*stranger: it matches none of the file's recipients/;
    fails('reseal', [`--identity=${identity('stranger').file}`], 'no-recipient', says);
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
    fails(
      'reseal',
      ['--scopes=-'],
      'not-pinned',
      /what was given holds no seed for group\/db.*\n.*hint: reseal takes the seeds that this machine has.* auxcred push /,
      scopes(scope('host', 'web1', 1)),
    );
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
