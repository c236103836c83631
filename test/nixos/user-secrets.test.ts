/** nixos/user-secrets.nix: what it renders is a manifest, and no declaration of a user reaches another's secrets. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { works } from '../cli.ts';

type Secrets = Readonly<Record<string, Readonly<Record<string, unknown>>>>;
interface Rendered {
  readonly declarations: Secrets;
  readonly paths: Readonly<Record<string, string>>;
  readonly credentials: Readonly<Record<string, readonly { readonly line: string }[]>>;
}

let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'user-secrets-'));
});
after(() => {
  rmSync(folder, { recursive: true });
});

function nix(user: string, secrets: Secrets): { status: number | null; stdout: string; stderr: string } {
  // Read from a file, so that no text has to be quoted for Nix.
  writeFileSync(join(folder, 'secrets.json'), JSON.stringify(secrets));
  const expression = `import ${resolve('nixos/user-secrets.nix')} { user = ${JSON.stringify(user)}; secrets = builtins.fromJSON (builtins.readFile ${folder}/secrets.json); }`;
  return spawnSync('nix-instantiate', ['--store', 'dummy://', '--eval', '--strict', '--json', '--expr', expression], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], NIX_CONFIG: 'build-users-group =' },
  });
}
function rendered(user: string, secrets: Secrets): Rendered {
  const { status, stdout, stderr } = nix(user, secrets);
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}
function refused(secrets: Secrets, message: RegExp, user = 'alice'): void {
  const { status, stderr } = nix(user, secrets);
  assert.notEqual(status, 0);
  assert.match(stderr, message);
}

describe("a user's secrets", () => {
  const secrets: Secrets = {
    db: { units: ['web'], rotate: 'monthly' },
    'mail/key': { kind: 'ssh-ed25519' },
    login: { kind: 'crypt', of: 'db' },
    token: { kind: 'fixed', units: ['web.service'] },
    conf: { kind: 'template', content: 'a={{db}} {{ mail/key.public | base64 }}\n{{token|url}}' },
    vars: { kind: 'template', env: { A: '{{db}}', N: 1 } },
    doc: { kind: 'template', json: { list: ['{{token}}', 1], inner: { x: '{{ db}}' } } },
  };

  test('are a manifest of files that only the user owns, which auxcred check takes', () => {
    const documents = ['alice', 'bob'].map((user) => rendered(user, secrets));
    const declarations = Object.assign({}, ...documents.map((document) => document.declarations));
    writeFileSync(join(folder, 'users.json'), JSON.stringify({ secret: declarations }));
    rmSync(join(folder, 'secrets.json'));
    works(['check', `--manifest=${folder}`]);
    assert.equal(Object.keys(declarations).length, 14);
    for (const [name, { owner, mode, delivery, credential }] of Object.entries<Record<string, unknown>>(declarations)) {
      const [, user = ''] = name.split('/');
      assert.deepEqual([owner, mode, delivery], [user, '0400', 'file']);
      assert.ok(String(credential).startsWith(`user.${user}.`));
    }
    assert.equal(documents[0]?.paths['mail/key'], '/run/auxcred/files/user.alice.mail_key');
  });

  test('mean secrets of that user wherever they name one', () => {
    const { declarations } = rendered('alice', secrets);
    assert.equal(declarations['user/alice/login']?.['of'], 'user/alice/db');
    assert.equal(declarations['user/alice/token']?.['path'], 'user/alice/token');
    assert.equal(
      declarations['user/alice/conf']?.['content'],
      'a={{user/alice/db}} {{user/alice/mail/key.public | base64 }}\n{{user/alice/token|url}}',
    );
    assert.deepEqual(declarations['user/alice/doc']?.['json'], {
      list: ['{{user/alice/token}}', 1],
      inner: { x: '{{user/alice/db}}' },
    });
  });

  test('can reach no other: names that the program would read and the rendering would not are refused', () => {
    for (const content of ['{{\tdb}}', '{{{{db}}', '{{{db}}}', '{{"{{"}}db', '{{}}', 'x {{'])
      refused({ t: { kind: 'template', content } }, /has \{\{ in its text without a name after it/);
    // Still below the user's own names.
    const { declarations } = rendered('alice', {
      t: { kind: 'template', content: '{{ db}}{{user/bob/db}}{{\n root}}' },
      f: { kind: 'fixed', path: 'user/bob/db' },
    });
    assert.equal(
      declarations['user/alice/t']?.['content'],
      '{{user/alice/db}}{{user/alice/user/bob/db}}{{user/alice/root}}',
    );
    assert.equal(declarations['user/alice/f']?.['path'], 'user/alice/user/bob/db');
  });

  test('reach a service with what belongs to them: public halves, and the secret before', () => {
    const { credentials } = rendered('alice', {
      'mail/key': { kind: 'ssh-ed25519', units: ['mail'] },
      shared: { share: 'db', rotate: 'monthly', units: ['mail'] },
      token: { rotate: 'monthly', previous: true, units: ['mail'] },
      plain: { units: ['mail'] },
    });
    const ids = ['mail_key', 'mail_key.pub', 'plain', 'shared', 'shared.previous', 'token', 'token.previous'];
    assert.deepEqual(
      credentials['mail.service']?.map(({ line }) => line),
      ids.map((id) => `${id}:/run/auxcred/files/user.alice.${id}`),
    );
  });

  test('have no key and no kind that acts with the rights of the machine', () => {
    for (const key of ['owner', 'group', 'mode', 'link', 'hook', 'needed-for', 'credential', 'delivery', 'vault'])
      refused({ s: { [key]: 'x' } }, new RegExp(`has no key ${key}`));
    refused({ s: { kind: 'vault' } }, /is of the kind vault/);
    for (const name of ['../bob', 'A', 'a//b', '/a', 'a b', "a'"]) refused({ [name]: {} }, /has a name that is not/);
    refused({ s: { units: ["x'; id; '"] } }, /is not the name of a user's service/);
    refused({ s: {} }, /is not the name of a user/, 'a/b');
  });
});
