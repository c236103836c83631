import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { beforeEach, describe, test } from 'node:test';
import * as cli from '../cli.ts';
import { at, fails, root, secret, seeds, useMachineRoot, works } from './machine-root.ts';

useMachineRoot();

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
          `this machine had another seed, .*: with a new seed it would lose ${cost}\\n` +
            '.*hint: mount .*backup.*--seed-file.*--scopes.*push.*--replace',
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
