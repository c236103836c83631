/** Other vaults, by the real programs: pass, age, gokey, a shell script, and programs that speak the vault protocol. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import * as cli from '../cli.ts';

let folder = '';
const at = (path: string): string => join(folder, path);
const environment = (): NodeJS.ProcessEnv => ({
  PATH: `${at('bin')}:${process.env['PATH'] ?? ''}`,
  HOME: folder,
  AUXCRED_VAULT: at('vault'),
  AUXCRED_IDENTITY: at('identity'),
  GNUPGHOME: at('gnupg'),
  PASSWORD_STORE_DIR: at('store'),
});
const run = (command: string, args: readonly string[], input: string | Buffer = ''): cli.Said => {
  const { status, stdout, stderr } = spawnSync(command, args, { input, env: environment() });
  return { status, stdout: stdout.toString('latin1'), stderr: stderr.toString() };
};
const auxcred = (args: readonly string[], input: string | Buffer = ''): cli.Said =>
  cli.auxcred(args, { input, env: environment(), encoding: 'latin1' });
function works(args: readonly string[], input: string | Buffer = ''): string {
  const { status, stdout, stderr } = auxcred(args, input);
  assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
  return stdout;
}
function must(command: string, args: readonly string[], input = ''): string {
  const { status, stdout, stderr } = run(command, args, input);
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${stderr}`);
  return stdout;
}
const hosts = '[host.web1]\ngroups = ["db"]\n[host.web2]\ngroups = ["db"]\n';
const settings = (text: string): void => {
  writeFileSync(at('vault/vault.toml'), `${hosts}${text}`);
};
const script = (path: string, text: string): void => {
  writeFileSync(at(path), text);
  chmodSync(at(path), 0o755);
};
const vaultGet = (vault: string, name: string, ...more: string[]): cli.Said =>
  auxcred(['vault', 'get', vault, name, ...more]);

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'vaults-'));
  for (const name of ['bin', 'files']) mkdirSync(at(name));
  mkdirSync(at('gnupg'), { mode: 0o700 });
  must('gpg', ['--batch', '--quiet', '--passphrase', '', '--quick-gen-key', 'vault@example.org']);
  must('pass', ['init', 'vault@example.org']);
  must('pass', ['insert', '-e', 'web/api'], 'p4ss\n');
  must('pass', ['insert', '-m', 'My Bank/login'], 'first line\nuser: me\n');
  must('age-keygen', ['-o', at('identity')]);
  works(['init', `--recipient=${must('age-keygen', ['-y', at('identity')]).trim()}`]);
});
after(() => {
  run('gpgconf', ['--kill', 'all']);
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  settings('');
});

describe('pass', () => {
  test('needs no settings: get, list, fingerprint', () => {
    assert.equal(vaultGet('pass', 'web/api').stdout, 'p4ss');
    assert.equal(vaultGet('pass', 'My Bank/login').stdout, 'first line\nuser: me');
    assert.equal(works(['vault', 'list', 'pass']), 'My Bank/login\nweb/api\n');
    const fingerprint = works(['vault', 'fingerprint', 'pass', 'web/api']);
    assert.equal(works(['vault', 'fingerprint', 'pass', 'web/api']), fingerprint);
    must('pass', ['insert', '-e', '-f', 'web/api'], 'other\n');
    assert.notEqual(works(['vault', 'fingerprint', 'pass', 'web/api']), fingerprint);
    must('pass', ['insert', '-e', '-f', 'web/api'], 'p4ss\n');
  });

  test("gets names that can't be options, and its own message is shown if it fails", () => {
    const { status, stderr } = vaultGet('pass', 'web/none');
    assert.equal(status, exitStatus.vault);
    assert.match(
      stderr,
      /web\/none is not in the password store\.\nauxcred: the vault pass failed with status 1 \(asked for web\/none\)/,
    );
    assert.match(vaultGet('pass', '--', '--clip').stderr, /--clip is not in the password store\./);
  });

  test('is imported, all of it or by name, and once', () => {
    works(['import', 'pass', 'host/web2/from-pass']);
    assert.equal(works(['get', 'host/web2/from-pass/My Bank/login']), 'first line\nuser: me');
    const again = auxcred(['import', 'pass', 'host/web2/from-pass']);
    assert.equal(again.status, exitStatus.vault);
    assert.match(again.stderr, /web\/api: host\/web2\/from-pass\/web\/api exists \(--force replaces it\)/);
    works(['import', 'pass', 'group/db', 'web/api']);
    assert.equal(works(['get', 'group/db/web/api']), 'p4ss');
    assert.match(auxcred(['import', 'pass', 'host/web1', '--dry-run']).stderr, /would import host\/web1\/web\/api/);
    assert.equal(auxcred(['get', 'host/web1/web/api']).status, exitStatus['not-found']);
  });

  test("in lollypops' form: a command, and the name after it", () => {
    settings('[vault.lollypops]\ncmd = "pass show"\n');
    assert.equal(vaultGet('lollypops', 'web/api').stdout, 'p4ss');
  });
});

describe('a command', () => {
  test('age: a folder of files, with list and fingerprint from their names', () => {
    const recipient = must('age-keygen', ['-y', at('identity')]).trim();
    mkdirSync(at('files/deep'));
    for (const [name, value] of [
      ['token', 'abc\n'],
      ['deep/binary', '\0\n\n'],
    ] as const)
      writeFileSync(at(`files/${name}.age`), spawnSync('age', ['-r', recipient], { input: value }).stdout);
    settings(
      `[vault.files]\nget = ["age", "-d", "-i", "~/identity", "${at('files')}/{name}.age"]\n` +
        `file = "${at('files')}/{name}.age"\ntrim = false\n`,
    );
    assert.equal(vaultGet('files', 'token').stdout, 'abc\n');
    assert.equal(vaultGet('files', 'deep/binary').stdout, '\0\n\n');
    assert.equal(works(['vault', 'list', 'files']), 'deep/binary\ntoken\n');
    assert.match(works(['vault', 'fingerprint', 'files', 'token']), /^[0-9a-f]{64}\n$/);
    works(['import', 'files', 'host/web1/aged']);
    assert.equal(works(['get', 'host/web1/aged/deep/binary']), '\0\n\n');
  });

  test('gokey the program, for RSA keys', () => {
    writeFileSync(at('master'), 'pw');
    settings(
      `[vault.rsa]\nget = ["gokey", "-P", "${at('master')}", "-u", "-r", "{name}", "-t", "{options.type}"]\n` +
        'trim = false\n',
    );
    const { stdout } = vaultGet('rsa', 'example.com', '--option=type=rsa2048');
    assert.match(must('openssl', ['rsa', '-noout', '-text'], stdout), /2048 bit/);
  });

  test("gokey's own secrets without the program", () => {
    settings(`[vault.gokey]\ntype = "gokey"\npassword-file = "${at('master')}"\n`);
    writeFileSync(at('master'), ' pw \n');
    assert.equal(
      vaultGet('gokey', 'example.com', '--option=length=20').stdout,
      must('gokey', ['-P', at('master'), '-r', 'example.com', '-l', '20']),
    );
    assert.match(
      vaultGet('gokey', 'x', '--option=type=rsa2048').stderr,
      /the vault gokey makes no rsa2048 keys itself\nauxcred: hint: get = \["gokey"/,
    );
    assert.match(vaultGet('gokey', 'x', '--option=kind=raw').stderr, /has no option kind/);
    assert.match(auxcred(['vault', 'list', 'gokey']).stderr, /can't list/);
  });

  test('never goes through a shell unless one is asked for', () => {
    settings(
      '[vault.plain]\nget = ["printf", "%s", "{name}"]\n' +
        '[vault.shell]\nget = ["sh", "-c", "printf %s \\"$1\\" | tr a-z A-Z", "sh", "{name}"]\n',
    );
    for (const name of ['$(touch ran)', '`id`', '; id', '"', '{host}', 'a b', '%s', '../../etc/passwd']) {
      assert.equal(vaultGet('plain', name).stdout, name);
      assert.equal(vaultGet('shell', name).stdout, name.toUpperCase());
    }
    assert.ok(!existsSync(at('vault/ran')));
  });

  test('has limits, and a failure names the vault and what was asked for', () => {
    settings(
      '[vault.slow]\nget = ["sleep", "100"]\ntimeout = 1\n' +
        '[vault.big]\nget = ["head", "-c", "131075", "/dev/zero"]\n' +
        '[vault.full]\nget = ["head", "-c", "131072", "/dev/zero"]\n' +
        '[vault.bad]\nget = ["sh", "-c", "echo why >&2; exit 7"]\n' +
        '[vault.killed]\nget = ["sh", "-c", "kill -9 $$"]\n[vault.gone]\nget = ["no-such-program"]\n' +
        '[vault.empty]\nget = ["echo"]\n',
    );
    const says = (vault: string, status: number, message: RegExp): void => {
      const said = vaultGet(vault, 'web/api');
      assert.equal(said.status, status, said.stderr);
      assert.match(said.stderr, message);
      assert.equal(said.stdout, '');
    };
    const started = Date.now();
    says(
      'slow',
      exitStatus.timeout,
      /the vault slow did not answer within 1 s \(asked for web\/api\)\nauxcred: hint: timeout = 4 in \[vault\.slow\]/,
    );
    assert.ok(Date.now() - started < 20_000);
    says('big', exitStatus.vault, /the vault big gave more than 131074 bytes/);
    assert.equal(vaultGet('full', 'x').stdout.length, 131072);
    says('bad', exitStatus.vault, /^why\nauxcred: the vault bad failed with status 7 \(asked for web\/api\)/);
    says('killed', exitStatus.vault, /the vault killed was ended by SIGKILL/);
    says('gone', exitStatus.vault, /the vault gone has no program no-such-program/);
    says('empty', exitStatus.vault, /the vault empty gave nothing for web\/api/);
    says(
      'unknown',
      exitStatus['not-found'],
      /there is no vault unknown\nauxcred: hint: \[vault\.unknown\] in vault\.toml/,
    );
  });

  test('with settings that make no sense is refused by its place in the file', () => {
    for (const [text, message] of [
      ['[vault.x]\nget = "pass"\n', /vault\.x\.get is not a list/],
      ['[vault.x]\nget = []\n', /vault\.x\.get is not a command/],
      ['[vault.x]\ngot = ["a"]\n', /vault\.x\.got is not a key there: it has get, cmd/],
      ['[vault.x]\ntype = "gpg"\n', /vault\.x\.type is not one of gokey/],
      ['[vault."X Y"]\nget = ["a"]\n', /"X Y" is not the name of a vault/],
    ] as const) {
      settings(text);
      const said = auxcred(['ls']);
      assert.equal(said.status, exitStatus.malformed, said.stderr);
      assert.match(said.stderr, message);
    }
  });
});

describe('the vault protocol', () => {
  /** docs/vaults.md has this very program. */
  const example = `#!/bin/sh
# auxcred-vault-folder: the files of ~/secrets as a vault
cd ~/secrets || exit 20                      # locked: the folder is not mounted
request=$(cat)
name=$(printf %s "$request" | sed -n 's/.*"name":"\\([^"]*\\)".*/\\1/p')
case $1 in
  get)         [ -f "$name" ] || exit 4      # not found
               cat -- "$name" ;;
  list)        find . -type f | sed 's|^./||' | sort ;;
  fingerprint) [ -f "$name" ] && sha256sum < "$name" ;;
  copy)        echo '{"pairs":[{"source":"'"$PWD"'","destination":"/root/secrets"}]}' ;;
esac
`;

  before(() => {
    script('bin/auxcred-vault-folder', example);
  });

  test('is documented with a working program', () => {
    assert.ok(
      readFileSync('docs/vaults.md', 'utf8').includes(
        example
          .trimEnd()
          .split('\n')
          .map((line) => `    ${line}`.trimEnd())
          .join('\n'),
      ),
    );
  });
  afterEach(() => {
    rmSync(at('secrets'), { recursive: true, force: true });
  });

  test('is spoken by a program of ten lines, found by its name', () => {
    assert.equal(vaultGet('folder', 'web/api').status, exitStatus.locked);
    mkdirSync(at('secrets/web'), { recursive: true });
    writeFileSync(at('secrets/web/api'), 'exact bytes\n\0');
    assert.equal(vaultGet('folder', 'web/api').stdout, 'exact bytes\n\0');
    assert.equal(works(['vault', 'list', 'folder']), 'web/api\n');
    assert.match(works(['vault', 'fingerprint', 'folder', 'web/api']), /^[0-9a-f]{64} {2}-\n$/);
    const missing = vaultGet('folder', 'web/none');
    assert.equal(missing.status, exitStatus['not-found']);
    assert.match(missing.stderr, /the vault folder has no such secret \(asked for web\/none\)/);
    assert.deepEqual(JSON.parse(works(['vault', 'copy', 'folder', '--host=web1'])), {
      pairs: [{ source: at('secrets'), destination: '/root/secrets' }],
    });
  });

  test('gets the request on standard input, and the exit status says what to do', () => {
    script('bin/echo-vault', '#!/bin/sh\nprintf %s "$1 "; cat\n');
    settings(`[vault.echo]\nprogram = "${at('bin/echo-vault')}"\n`);
    const { stdout } = vaultGet('echo', 'a"b', '--host=web1', '--option=x=1=2');
    assert.equal(stdout.slice(0, 4), 'get ');
    assert.deepEqual(JSON.parse(stdout.slice(4)), {
      version: 1,
      verb: 'get',
      name: 'a"b',
      host: 'web1',
      options: { x: '1=2' },
    });
    for (const [status, expected, words] of [
      [4, exitStatus['not-found'], /has no such secret/],
      [5, exitStatus.refused, /refused/],
      [20, exitStatus.locked, /is locked/],
      [1, exitStatus.vault, /failed with status 1/],
      [77, exitStatus.vault, /failed with status 77/],
    ] as const) {
      script('bin/exit-vault', `#!/bin/sh\nexit ${String(status)}\n`);
      settings(`[vault.exit]\nprogram = "${at('bin/exit-vault')}"\n`);
      const said = vaultGet('exit', 'x');
      assert.equal(said.status, expected);
      assert.match(said.stderr, words);
    }
  });

  test('a copy with an empty answer has done everything itself, and nonsense is refused', () => {
    script(
      'bin/copy-vault',
      '#!/bin/sh\n[ -n "$ANSWER" ] && cat "$ANSWER"\ncat > "$(dirname "$0")/../asked"\nexit 0\n',
    );
    settings(`[vault.copying]\nprogram = "${at('bin/copy-vault')}"\n`);
    assert.deepEqual(JSON.parse(works(['vault', 'copy', 'copying', '--host=web1', '--target=root@10.0.0.1'])), {
      pairs: [],
    });
    assert.deepEqual(JSON.parse(readFileSync(at('asked'), 'utf8')), {
      version: 1,
      verb: 'copy',
      host: 'web1',
      target: 'root@10.0.0.1',
    });
    for (const answer of ['{', '{}', '{"pairs":[{}]}', '[]']) {
      script('bin/copy-vault', `#!/bin/sh\necho '${answer}'\n`);
      assert.equal(auxcred(['vault', 'copy', 'copying', '--host=web1']).status, exitStatus.vault);
    }
  });
});

describe('fetch', () => {
  const manifest = (text: string, place = 'all'): void => {
    mkdirSync(at(`vault/${place}`), { recursive: true });
    writeFileSync(at(`vault/${place}/m.toml`), text);
  };
  const count = (): number => (existsSync(at('asked')) ? readFileSync(at('asked'), 'utf8').split('\n').length - 1 : 0);
  const counting = '[vault.counting]\nget = ["sh", "-c", "echo >> ~/asked; cat ~/answer-$1", "sh", "{name}"]\n';

  beforeEach(() => {
    for (const name of ['vault/fixed', 'vault/all', 'vault/hosts', 'asked', 'vault/fetched.json'])
      rmSync(at(name), { recursive: true, force: true });
  });

  test('stores secrets of several vaults under the scopes of the hosts that declare them', () => {
    settings(
      '[vault.sh]\nget = ["sh", "-c", "printf %s-%s-%s \\"$@\\"", "sh", "{name}", "{host}", "{options.port}"]\n',
    );
    manifest(
      '[secret.api]\nkind = "vault"\nvault = "pass"\npath = "web/api"\nunits = ["web.service"]\n' +
        '[secret.shared]\nkind = "vault"\nvault = "pass"\npath = "My Bank/login"\nshare = "db"\n' +
        '[secret.each]\nkind = "vault"\nvault = "sh"\noptions = { port = 80 }\n' +
        '[secret.env]\nkind = "template"\nunits = ["web.service"]\nenv = { A = "{{api}}", E = "{{each}}" }\n',
    );
    assert.match(auxcred(['fetch', '--dry-run']).stderr, /would fetch host\/web1\/api from pass/);
    assert.equal(works(['ls', '--flat']), '');
    works(['fetch']);
    assert.equal(
      works(['ls', '--flat']),
      'group/db/shared\nhost/web1/api\nhost/web1/each\nhost/web2/api\nhost/web2/each\n',
    );
    assert.equal(works(['get', 'host/web2/each']), 'each-web2-80');
    assert.equal(works(['get', 'env', '--host=web1']), 'A="p4ss"\nE="each-web1-80"\n');
    assert.equal(statSync(at('vault/fetched.json')).mode & 0o777, 0o600);
  });

  test('writes changed values, and asks no vault whose fingerprint is the same', () => {
    settings(`${counting}file = "~/answer-{name}"\n`);
    writeFileSync(at('answer-x'), 'one\n');
    manifest('[secret.x]\nkind = "vault"\nvault = "counting"\n', 'hosts/web1');
    manifest('[secret.other]\n', 'hosts/web2');
    works(['fetch']);
    const file = readFileSync(at('vault/fixed/host/web1/x.sealed'));
    assert.equal(count(), 1);
    assert.match(auxcred(['fetch']).stderr, /0 of 1 secrets from other vaults changed/);
    assert.equal(count(), 1);
    works(['fetch', '--all']);
    assert.equal(count(), 2);
    assert.deepEqual(readFileSync(at('vault/fixed/host/web1/x.sealed')), file);
    writeFileSync(at('answer-x'), 'two\n');
    works(['fetch']);
    assert.equal(works(['get', 'host/web1/x']), 'two');
    works(['put', 'host/web1/x', '--force'], 'by hand');
    works(['fetch']);
    assert.equal(works(['get', 'host/web1/x']), 'two');
    writeFileSync(at('vault/fetched.json'), 'damaged');
    works(['fetch']);
    assert.equal(count(), 5);
  });

  test('if a vault fails, its old values stay, and the others go on', () => {
    settings(counting);
    for (const name of ['a', 'b', 'c']) writeFileSync(at(`answer-${name}`), name);
    manifest(
      ['a', 'b', 'c'].map((name) => `[secret.${name}]\nkind = "vault"\nvault = "counting"\n`).join(''),
      'hosts/web1',
    );
    manifest('[secret.d]\n', 'hosts/web2');
    works(['fetch']);
    rmSync(at('answer-b'));
    writeFileSync(at('answer-c'), 'new');
    const said = auxcred(['fetch']);
    assert.equal(said.status, exitStatus.vault);
    assert.match(said.stderr, /host\/web1\/b is unchanged: the vault counting failed with status 1 \(asked for b\)/);
    assert.match(
      said.stderr,
      /fetched host\/web1\/c from counting\nauxcred: 1 of 3 secrets from other vaults changed, 1 failed/,
    );
    assert.equal(works(['get', 'host/web1/b']), 'b');
    assert.equal(works(['get', 'host/web1/c']), 'new');
    assert.equal(auxcred(['fetch', 'b', '--host=web1']).status, exitStatus.vault);
    works(['fetch', 'c', '--host=web1']);
    assert.equal(auxcred(['fetch', 'zzz']).status, exitStatus['not-found']);
    manifest('[secret.d]\n', 'hosts/web1');
    assert.match(auxcred(['fetch', 'a']).stderr, /hint: kind = "vault" in a manifest declares one/);
  });
});
