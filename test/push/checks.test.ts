import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { enrollCommand, sealCommand } from '../../src/vault/over-ssh.ts';
import {
  alsoHost,
  at,
  auxcred,
  failureOf,
  makeHost,
  operator,
  pushed,
  put,
  store,
  useOperator,
  withSettings,
  works,
} from './operator.ts';

useOperator();

describe('the names of fixed secrets', () => {
  /** Two secrets whose names differ only in case, as after a merge of two branches. */
  function twins(host: string): void {
    const file = at(`vault/fixed/host/${host}/Tok.sealed`);
    put(`host/${host}/Tok`, 'one');
    const one = readFileSync(file);
    rmSync(file);
    put(`host/${host}/tok`, 'two');
    writeFileSync(file, one);
  }

  test('are judged together before anything is sealed, and verify reports conflicts', () => {
    makeHost('merged');
    withSettings(alsoHost('merged'), () => {
      twins('merged');
      const { status, stderr } = auxcred(operator('verify', 'host/merged'));
      assert.equal(status, exitStatus.malformed);
      assert.match(stderr, /host\/merged\/tok differs from host\/merged\/Tok only in case/);
      for (const options of [[], ['--dry-run']]) {
        const [code, message] = failureOf(pushed('merged', ...options));
        assert.deepEqual(
          [code, message],
          [
            'refused',
            'host/merged/tok differs from host/merged/Tok only in case: they would be one file on other systems',
          ],
        );
      }
      assert.ok(!existsSync(join(store('merged'), 'seeds.age')));
      works(operator('rm', '--force', 'host/merged/Tok'));
      assert.equal(pushed('merged').rows[0]?.result, 'done');
      rmSync(at('vault/fixed/host/merged'), { recursive: true });
      put('host/merged/tOK/deep', 'three');
      assert.deepEqual(pushed('merged').rows[0]?.sent, {
        seeds: false,
        fixed: ['host/merged/tOK/deep'],
        manifest: [],
        removed: ['host/merged/tok'],
      });
      put('host/merged/TOK', 'a folder and a file of two cases');
      works(operator('rm', '--force', 'host/merged/tOK/deep'));
      assert.equal(pushed('merged').rows[0]?.result, 'done', "what goes is in nobody's way");
      assert.equal(works(['get', 'host/merged/TOK', `--root=${at('merged')}`]), 'a folder and a file of two cases');
      works(['put', 'host/merged/Own', `--root=${at('merged')}`], 'put there');
      put('host/merged/own', 'of the vault');
      assert.match(
        pushed('merged').rows[0]?.failure?.hint ?? '',
        /^auxcred mv or rm host\/merged\/Own on merged, or auxcred mv host\/merged\/own in the vault$/,
      );
    });
  });

  test("do not end in the files' extension, and what is in their way is named before anything is written", () => {
    for (const name of ['host/web1/web.sealed/x', 'host/web1/web.SEALED'])
      assert.match(auxcred(operator('put', name), 'x').stderr, /a part of it ends in \.sealed/);
    makeHost('blocked');
    withSettings(alsoHost('blocked'), () => {
      pushed('blocked');
      const seeds = readFileSync(join(store('blocked'), 'seeds.age'));
      put('host/blocked/web', 'x');
      mkdirSync(join(store('blocked'), 'fixed/host/blocked/web.sealed'), { recursive: true });
      assert.match(failureOf(pushed('blocked', '--reseal'))[1], /\/web\.sealed is in the way: it is not a file$/);
      rmSync(join(store('blocked'), 'fixed/host/blocked/web.sealed'), { recursive: true });
      works(operator('rm', '--force', 'host/blocked/web'));
      put('host/blocked/api/token', 'x');
      writeFileSync(join(store('blocked'), 'fixed/host/blocked/api'), 'x');
      assert.match(failureOf(pushed('blocked', '--reseal'))[1], /\/api is in the way: it is not a folder$/);
      assert.deepEqual(readFileSync(join(store('blocked'), 'seeds.age')), seeds);
      rmSync(join(store('blocked'), 'fixed/host/blocked/api'));
      mkdirSync(at('blocked/etc/auxcred/secrets.d/web.toml'), { recursive: true });
      assert.match(
        failureOf(pushed('blocked', '--manifest', '--replace'))[1],
        /\/web\.toml is in the way: it is not a file$/,
      );
    });
  });
});

describe('a dry run', () => {
  const listing = (host: string): string[] => readdirSync(at(host), { recursive: true }).map(String).sort();

  test("makes the push's checks on the host, and changes nothing", () => {
    makeHost('dry');
    withSettings(alsoHost('dry'), () => {
      works(['enroll', 'dry', `--vault=${at('vault')}`, '--from=-'], works(['enroll', `--root=${at('dry')}`]));
      mkdirSync(at('vault/hosts/dry'), { recursive: true });
      const manifest = (text: string): void => {
        writeFileSync(at('vault/hosts/dry/web.toml'), text);
      };
      for (const [text, code, says] of [
        [
          '[secret.a]\nkind = "hexx"\nunits = ["a.service"]\n',
          'invalid-manifest',
          /the manifest would have 1 error; \/etc\/auxcred\/secrets\.d\/web\.toml:2/,
        ],
        [
          '[secret.a]\ndelivery = "file"\nowner = "nobody9"\nneeded-for = "users"\nunits = ["a.service"]\n',
          'invalid-manifest',
          /there is no user nobody9 on this machine/,
        ],
        ['[secret.a]\nkind = "fixed"\nunits = ["a.service"]\n', 'not-found', /there is no host\/dry\/a in/],
      ] as const) {
        manifest(text);
        const [dry, real] = [pushed('dry', '--manifest', '--dry-run'), pushed('dry', '--manifest')].map(failureOf);
        assert.deepEqual(dry, real);
        assert.equal(dry?.[0], code);
        assert.match(dry[1], says);
      }
      manifest('[secret.a]\nkind = "hex"\nunits = ["a.service"]\n');
      const before = listing('dry');
      const { rows, stderr, status } = pushed('dry', '--manifest', '--dry-run');
      assert.deepEqual([status, rows[0]?.result, rows[0]?.sent.seeds], [0, 'would change', true], stderr);
      assert.deepEqual(listing('dry'), before);
    });
    rmSync(at('vault/hosts'), { recursive: true });
  });

  test('sends no seeds to a host that is not enrolled, but still makes the checks', () => {
    makeHost('stranger');
    writeFileSync(
      at('bin/kept-ssh'),
      `#!/bin/sh\ntee '${at('kept')}' | TARGET=\${1#*@} PATH='${at('bin')}':$PATH sh -c "$2"\n`,
      { mode: 0o755 },
    );
    withSettings(
      (text) => alsoHost('stranger')(text.replace('near-ssh', 'kept-ssh')),
      () => {
        const { rows, stderr } = pushed('stranger', '--manifest', '--dry-run');
        assert.equal(rows[0]?.result, 'would change', stderr);
        assert.match(stderr, /stranger: it is not enrolled, so a dry run sends it no seeds/);
        assert.ok(!readFileSync(at('kept'), 'latin1').includes('age-encryption'));
        mkdirSync(at('vault/hosts/stranger'), { recursive: true });
        writeFileSync(at('vault/hosts/stranger/more.toml'), '[secret.a]\nkind = "fixed"\nunits = ["a.service"]\n');
        assert.match(failureOf(pushed('stranger', '--manifest', '--dry-run'))[1], /there is no host\/stranger\/a in/);
        writeFileSync(at('vault/hosts/stranger/more.toml'), '[secret.a]\nkind = "hexx"\nunits = ["a.service"]\n');
        assert.match(failureOf(pushed('stranger', '--manifest', '--dry-run'))[1], /the manifest would have 1 error/);
      },
    );
    rmSync(at('vault/hosts'), { recursive: true });
  });
});

test('a vault without its fixed folder removes no secret', () => {
  makeHost('entire');
  withSettings(alsoHost('entire', ''), () => {
    put('host/entire/one', '1');
    put('host/entire/two', '2');
    pushed('entire');
    works(operator('rm', '--force', 'host/entire/two'));
    assert.match(pushed('entire').stderr, /entire: removed host\/entire\/two\n/);
    renameSync(at('vault/fixed'), at('vault/away'));
    try {
      for (const options of [[], ['--dry-run']]) {
        const [code, message] = failureOf(pushed('entire', ...options));
        assert.equal(code, 'not-found');
        assert.match(
          message,
          /^entire has fixed secrets that a push brought \(host\/entire\/one\), and there is no folder .*\/vault\/fixed$/,
        );
      }
      assert.equal(works(['get', 'host/entire/one', `--root=${at('entire')}`]), '1');
      assert.deepEqual(pushed('entire', '--replace').rows[0]?.sent.removed, ['host/entire/one']);
    } finally {
      rmSync(at('vault/fixed'), { recursive: true, force: true });
      renameSync(at('vault/away'), at('vault/fixed'));
    }
  });
});

describe('a push without a manifest', () => {
  test('says so, and removes none if its folder is not where vault.toml says', () => {
    makeHost('bare');
    withSettings(alsoHost('bare'), () => {
      const { stderr } = pushed('bare');
      assert.match(stderr, /bare: its manifest is not sent: --manifest brings web\.toml\n/);
      assert.match(
        stderr,
        /as ssh found it; ssh root@bare auxcred enroll \| auxcred enroll bare --from=- adds its TPM\n/,
      );
      pushed('bare', '--manifest');
      assert.doesNotMatch(pushed('bare').stderr, /manifest/);
      mkdirSync(at('vault/hosts/bare'), { recursive: true });
      writeFileSync(at('vault/hosts/bare/more.toml'), '');
      pushed('bare', '--manifest');
      rmSync(at('vault/hosts/bare'), { recursive: true });
      assert.match(pushed('bare').stderr, /bare: its manifest is not sent: --manifest removes more\.toml\n/);
      pushed('bare', '--manifest');
    });
    withSettings(alsoHost('bare', 'groups = ["db"]\nmanifest = ["hots/bare"]\n'), () => {
      const [code, message] = failureOf(pushed('bare', '--manifest'));
      assert.equal(code, 'not-found');
      assert.match(
        message,
        /^bare has a manifest that a push brought \(web\.toml\), and there is no folder .*\/vault\/hots\/bare$/,
      );
      const { rows, stderr } = pushed('bare', '--manifest', '--replace');
      assert.deepEqual(rows[0]?.sent.removed, ['web.toml']);
      assert.match(stderr, /bare: there is no manifest for it in .*\/hots\/bare, so none is sent/);
      assert.match(
        pushed('bare').stderr,
        /bare: it has no manifest in \/etc\/auxcred\/secrets\.d, and there is none for it in /,
      );
    });
  });
});

test('a renamed host gets the seeds of its new name by the command that the refusal names', () => {
  makeHost('before');
  withSettings(alsoHost('before'), () => pushed('before', '--manifest'));
  renameSync(at('before'), at('after'));
  writeFileSync(at('after/etc/hostname'), 'after\n');
  withSettings(alsoHost('after'), () => {
    const { rows } = pushed('after', '--manifest');
    assert.equal(rows[0]?.failure?.message, 'after is sealed as host/before');
    const { hint = '' } = rows[0].failure;
    assert.match(hint, /auxcred scopes after \| ssh root@after auxcred seal --replace --scopes=-, then push again$/);
    works(['seal', '--replace', '--scopes=-', `--root=${at('after')}`], works(operator('scopes', 'after')));
    assert.equal(pushed('after', '--manifest').status, 0);
    assert.equal(works(['get', 'session', `--root=${at('after')}`]), works(operator('get', 'session', '--host=after')));
  });
});

test('a push that was told to attest names the option, not a setting that would not help', () => {
  const hint = (...args: string[]): string | undefined => pushed('web1', ...args).rows[0]?.failure?.hint;
  assert.match(hint('--require-attestation') ?? '', /or push to it without --require-attestation$/);
  withSettings(
    (text) => `require-attestation = true\n${text}`,
    () => {
      assert.match(hint() ?? '', /or require-attestation = false there$/);
    },
  );
});

test('a command for a host goes through sudo if its login is not root, and has what seals it', () => {
  const host = { name: 'web1', withKey: 'tpm2', pcrs: [4, 7] } as const;
  assert.equal(
    enrollCommand({ ...host, target: 'admin@web1' }, '--replace'),
    'ssh admin@web1 sudo -n auxcred enroll | auxcred enroll web1 --replace --from=-',
  );
  assert.equal(
    sealCommand({ ...host, target: 'ssh://root@[2001:db8::1]:22' }),
    "auxcred scopes web1 | ssh 'ssh://root@[2001:db8::1]:22' auxcred seal --scopes=- --with-key=tpm2 --tpm2-pcrs=4+7",
  );
  assert.match(enrollCommand({ ...host, target: 'web1' }), /^ssh web1 auxcred enroll /);
});

test("a host is told from the vault that can't enroll it", () => {
  makeHost('web4');
  const fails = withSettings(alsoHost('web4'), () => {
    renameSync(at('vault/enrolled'), at('enrolled'));
    // No file can be made there, as on a read-only disk.
    assert.equal(spawnSync('ln', ['-s', '/nonexistent/enrolled', at('vault/enrolled')]).status, 0);
    try {
      return pushed('web4');
    } finally {
      rmSync(at('vault/enrolled'));
      renameSync(at('enrolled'), at('vault/enrolled'));
    }
  });
  assert.match(failureOf(fails)[1], /^it has everything now, but is not enrolled here: /);
  works(['unseal', `--root=${at('web4')}`]);
});

test('a host with another ssh host key gets its seeds again as the push says', () => {
  makeHost('rekeyed');
  const enroll = (...options: string[]): string =>
    works(
      ['enroll', 'rekeyed', `--vault=${at('vault')}`, ...options, '--from=-'],
      works(['enroll', `--root=${at('rekeyed')}`]),
    );
  withSettings(alsoHost('rekeyed'), () => {
    assert.equal(pushed('rekeyed').rows[0]?.result, 'done');
    rmSync(at('rekeyed/etc/ssh'), { recursive: true });
    makeHost('rekeyed');
    enroll('--replace');
    const { status, rows } = pushed('rekeyed');
    assert.deepEqual(
      [status, rows[0]?.failure?.hint],
      [
        exitStatus['no-recipient'],
        'find out why; then auxcred scopes rekeyed | ssh root@rekeyed auxcred reseal --scopes=-',
      ],
    );
    works(['reseal', `--root=${at('rekeyed')}`, '--scopes=-'], works(operator('scopes', 'rekeyed', '--reveal')));
    assert.equal(pushed('rekeyed').rows[0]?.result, 'nothing to do');
  });
});
