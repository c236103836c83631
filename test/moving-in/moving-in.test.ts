/**
 * Moving in from other programs, by the programs themselves: age, nix-instantiate, ansible-vault, pass. sops, gopass
 * and passage are stand-ins: Debian does not have them, or only one that is too old.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { FailureCode } from '../../src/failure.ts';
import { exitStatus } from '../../src/failure.ts';
import * as cli from '../cli.ts';
import { transcripts } from './transcripts.ts';

let folder = '';
let recipient = '';
const at = (path: string): string => join(folder, path);
const environment = (): NodeJS.ProcessEnv => ({
  PATH: `${at('bin')}:${process.env['PATH'] ?? ''}`,
  HOME: folder,
  AUXCRED_VAULT: at('vault'),
  AUXCRED_IDENTITY: at('identity'),
  GNUPGHOME: at('gnupg'),
  PASSWORD_STORE_DIR: at('store'),
  SOPS_AGE_KEY_FILE: at('identity'),
  ANSIBLE_LOCAL_TEMP: at('ansible'),
});

function must(command: string, args: readonly string[], input: string | Buffer = ''): Buffer {
  const { status, stdout, stderr } = spawnSync(command, args, { input, env: environment(), cwd: folder });
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${stderr.toString()}`);
  return stdout;
}

function write(path: string, content: string | Uint8Array): void {
  mkdirSync(dirname(at(path)), { recursive: true });
  writeFileSync(at(path), content);
}

const migrate = (...args: string[]): cli.Said => cli.works(['migrate', ...args], { env: environment() });
const migrateFails = (code: FailureCode, message: RegExp, ...args: string[]): cli.Said =>
  cli.fails(['migrate', ...args], code, message, { env: environment() });
const get = (name: string): string => cli.works(['get', name], { env: environment(), encoding: 'latin1' }).stdout;

/** What `check` says of the printed manifest: it has to be a sound one. */
function checked(toml: string): string {
  write('root/etc/auxcred/secrets.d/moved.toml', toml);
  const { stdout, stderr } = cli.works(['check', `--root=${at('root')}`], { env: environment() });
  return stdout + stderr;
}

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'moving-in-'));
  mkdirSync(at('bin'));
  mkdirSync(at('gnupg'), { mode: 0o700 });
  must('age-keygen', ['-o', at('identity')]);
  recipient = must('age-keygen', ['-y', at('identity')])
    .toString()
    .trim();
  const standIn = join(import.meta.dirname, 'sops-stand-in.js');
  write('bin/sops', `#!/bin/sh\nexec ${process.execPath} ${standIn} "$@"\n`);
  chmodSync(at('bin/sops'), 0o755);
});
after(() => {
  spawnSync('gpgconf', ['--kill', 'all'], { env: environment() });
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(() => {
  rmSync(at('vault'), { recursive: true, force: true });
  cli.works(['init', `--recipient=${recipient}`], { env: environment() });
  writeFileSync(at('vault/vault.toml'), '[host.web1]\ngroups = ["db"]\n[host.web2]\n');
});

function sops(path: string, type: string, plain: unknown): void {
  write('plain.json', JSON.stringify(plain));
  const args = ['-e', '--age', recipient, '--input-type', 'json', '--output-type', type, at('plain.json')];
  write(path, must('sops', args));
}

describe('sops-nix', () => {
  before(() => {
    sops('sops/web.yaml', 'yaml', { db: { password: 'p<4>é\n"\\', port: 5432, on: true }, list: ['a', '\u{1f511}'] });
    sops('sops/deep/app.env', 'dotenv', { API_KEY: 'k=1' });
    sops('sops/mail.ini', 'ini', { smtp: { password: 'x' } });
    sops('sops/cert.pem', 'binary', { data: 'line\nline\n' });
    write('sops/readme.md', 'nothing here\n');
  });

  test('every key of every file, and options of NixOS', () => {
    const { stdout, stderr } = migrate('sops-nix', at('sops'), '--host=web1');
    assert.equal(get('host/web1/web/db/password'), Buffer.from('p<4>é\n"\\').toString('latin1'));
    assert.equal(get('host/web1/web/db/port'), '5432');
    assert.equal(get('host/web1/web/db/on'), 'true');
    assert.equal(get('host/web1/web/list/1'), Buffer.from('\u{1f511}').toString('latin1'));
    assert.equal(get('host/web1/deep/app/api_key'), 'k=1');
    assert.equal(get('host/web1/mail/smtp/password'), 'x');
    assert.equal(get('host/web1/cert'), 'line\nline\n');
    assert.match(stderr, /putting host\/web1\/deep\/app\/api_key \(3 bytes\) from .*app\.env: API_KEY/);
    assert.match(
      stdout,
      /^auxcred\.secrets\."web\/db\/password" = \{\n {2}kind = "fixed";\n {2}delivery = "file";\n\};$/m,
    );
    assert.doesNotMatch(stdout + stderr, /p<4>|k=1/);
    const nix = must('nix-instantiate', ['--eval', '--strict', '--json', '--expr', `{ ${stdout} }`]).toString();
    assert.match(nix, /"web\/list\/1":\{"delivery":"file","kind":"fixed"\}/);
  });

  test('as a configuration declares them', () => {
    const declared = {
      'db-password': {
        sopsFile: at('sops/web.yaml'),
        key: 'db/password',
        format: 'yaml',
        path: '/run/secrets/db-password',
        mode: '0440',
        owner: 'postgres',
        group: 'root',
        restartUnits: ['postgresql.service', 'web.timer'],
        reloadUnits: [],
        neededForUsers: false,
      },
      cert: {
        sopsFile: at('sops/cert.pem'),
        key: 'cert',
        format: 'binary',
        path: '/etc/web/cert.pem',
        mode: '0400',
        owner: null,
        restartUnits: [],
        reloadUnits: ['web.service'],
        neededForUsers: true,
      },
      env: { sopsFile: at('sops/web.yaml'), key: '', format: 'yaml', path: '/run/secrets/env' },
    };
    write('declared.json', JSON.stringify(declared));
    const args = [
      'sops-nix',
      `--key=${at('identity')}`,
      `--declared=${at('declared.json')}`,
      '--host=web1',
      '--format=toml',
    ];
    const { stdout } = migrate(...args);
    assert.equal(get('host/web1/cert'), 'line\nline\n');
    assert.match(get('host/web1/env'), /"port": 5432/);
    assert.match(
      stdout,
      /\[secret\.db-password\]\nkind = "fixed"\nunits = \["postgresql\.service"\]\ndelivery = "file"\nowner = "postgres"\nmode = "0440"\n/,
    );
    assert.match(stdout, /\nlink = "\/etc\/web\/cert\.pem"\nneeded-for = "users"\nchange = "reload"\n/);
    assert.match(checked(stdout), /3 secrets/);
  });

  test('a file that was changed is left alone, and the rest goes on', () => {
    const text = readFileSync(at('sops/web.yaml'), 'latin1');
    write('broken/web.yaml', text.replace(/data:[^,]*/, 'data:AAAA'));
    write('broken/good.ini', readFileSync(at('sops/mail.ini')));
    const { stderr } = migrateFails(
      'vault',
      /left alone: .*broken\/web\.yaml can't be read/,
      'sops-nix',
      at('broken'),
      '--host=web1',
    );
    assert.match(stderr, /migrated 1 secret from sops-nix/);
  });

  test('a missing program stops it', () => {
    const env = { ...environment(), PATH: '/nonexistent' };
    cli.fails(['migrate', 'sops-nix', at('sops/web.yaml'), '--host=web1'], 'system', /there is no program sops/, {
      env,
    });
  });
});

describe('agenix', () => {
  const age = (path: string, value: string, to = recipient): void => {
    write(path, must('age', ['-r', to], value));
  };
  const args = (): string[] => ['agenix', at('agenix'), `--key=${at('identity')}`, '--host=web1'];
  before(() => {
    age('agenix/db/Pass Word.age', 'a\0b\n\n');
    age('agenix/token.age', 'tok\n');
    age('agenix/unlisted.age', 'x');
    write('agenix/secrets.nix', '{ "token.age".publicKeys = []; "db/Pass Word.age".publicKeys = []; }\n');
  });

  test('the secrets of secrets.nix; a dry run changes nothing; a second run has nothing to do', () => {
    const dry = migrate(...args(), '--dry-run');
    assert.match(dry.stderr, /would put host\/web1\/db\/pass-word \(5 bytes\)/);
    assert.match(dry.stderr, /would migrate 2 secrets from agenix to host\/web1; nothing was changed\n/);
    assert.deepEqual(readdirSync(at('vault')).includes('fixed'), false);
    const done = migrate(...args());
    assert.equal(done.stdout, dry.stdout);
    assert.equal(get('host/web1/db/pass-word'), 'a\0b\n\n');
    assert.equal(get('host/web1/token'), 'tok\n');
    assert.match(done.stderr, /one line that ends with a newline, which was kept: token\n/);
    assert.doesNotMatch(done.stderr, /unlisted/);
    assert.match(migrate(...args()).stderr, /already there: host\/web1\/token.*\n.*\n.*\nauxcred: migrated 0 secrets/);
  });

  test('another value by the name stops all of it', () => {
    cli.works(['put', 'host/web1/token'], { env: environment(), input: 'mine' });
    migrateFails('refused', /host\/web1\/token exists and is not .*token\.age, so nothing was changed/, ...args());
    assert.equal(get('host/web1/token'), 'mine');
    cli.fails(['get', 'host/web1/db/pass-word'], 'not-found', /pass-word/, { env: environment() });
    migrate(...args(), '--below=from/agenix');
    assert.equal(get('host/web1/from/agenix/token'), 'tok\n');
  });

  test('a file that no key opens says how to name one', () => {
    age('sealed/one.age', 'x', recipient);
    migrateFails('vault', /hint: the reasons are above; --key=FILE opens them/, 'agenix', at('sealed'), '--host=web1');
  });

  test('a file for other machines is left alone, and the files stay as they are', () => {
    must('age-keygen', ['-o', at('other')]);
    age('foreign/mine.age', 'm');
    age(
      'foreign/theirs.age',
      't',
      must('age-keygen', ['-y', at('other')])
        .toString()
        .trim(),
    );
    const theirs = readFileSync(at('foreign/theirs.age'));
    const said = cli.auxcred(['migrate', 'agenix', at('foreign'), `--key=${at('identity')}`, '--group=db'], {
      env: environment(),
    });
    assert.equal(said.status, exitStatus.vault);
    assert.match(said.stderr, /left alone: .*theirs\.age can't be read/);
    assert.match(said.stdout, /share = "db"/);
    assert.equal(get('group/db/mine'), 'm');
    assert.deepEqual(readFileSync(at('foreign/theirs.age')), theirs);
  });
});

describe('ansible-vault', () => {
  const encrypt = (args: readonly string[], input: string): string =>
    must('ansible-vault', [...args, `--vault-password-file=${at('password')}`], input).toString();

  test('whole files and values in them', () => {
    write('password', 'pw\n');
    write('ansible/cert.pem', encrypt(['encrypt', '--output=-', '-'], 'bin\0\n'));
    write('ansible/vault.yml', encrypt(['encrypt', '--output=-', '-'], 'db_password: "p4ss \\u00f6"\nl: [1, two]\n'));
    const inline = encrypt(['encrypt_string', '--stdin-name', 'pw'], 's3cret').trimEnd();
    const indented = inline.replaceAll(/^/gm, '  ');
    write(
      'ansible/main.yml',
      `plain: 1\nouter:\n${indented}\nlist:\n- name: a\n  n: 1\n- name: b\n${indented}\n${inline}\n`,
    );
    const { stdout } = migrate('ansible-vault', at('ansible'), `--key=${at('password')}`, '--host=web2');
    assert.equal(get('host/web2/cert'), 'bin\0\n');
    assert.equal(get('host/web2/vault/db_password'), 'p4ss \u00c3\u00b6');
    assert.equal(get('host/web2/vault/l/1'), 'two');
    for (const name of ['outer/pw', 'list/1/pw', 'pw']) assert.equal(get(`host/web2/main/${name}`), 's3cret');
    assert.match(checked(stdout), /7 secrets/);
  });
});

describe('password stores', () => {
  before(() => {
    must('gpg', ['--batch', '--quiet', '--passphrase', '', '--quick-gen-key', 'moving@example.org']);
    must('pass', ['init', 'moving@example.org']);
    must('pass', ['insert', '-e', 'web/api'], 'p4ss\n');
    must('pass', ['insert', '-m', 'My Bank/login'], 'first line\nuser: me\n');
    write('.passage/store/web/token.age', must('age', ['-r', recipient], 'tok\n'));
    const programs = {
      // What gopass does with a store of gpg files, which is pass's own.
      gopass:
        'if [ "$1" = show ]; then exec pass show -- "$4"; fi\n' +
        '[ "$*" = "ls --flat" ] && cd "$PASSWORD_STORE_DIR" && find * -name "*.gpg" | sed "s/.gpg$//"',
      passage: 'exec age -d -i "$HOME/identity" "$HOME/.passage/store/$3.age"',
    };
    for (const [name, text] of Object.entries(programs)) {
      write(`bin/${name}`, `#!/bin/sh\n# A stand-in for ${name}.\n${text}\n`);
      chmodSync(at(`bin/${name}`), 0o755);
    }
  });

  test('pass: all of it, or a folder; names become those of a manifest', () => {
    assert.match(checked(migrate('pass', '--host=web1').stdout), /2 secrets/);
    assert.equal(get('host/web1/my-bank/login'), 'first line\nuser: me');
    assert.match(
      migrate('pass', 'web', '--group=db').stdout,
      /^\[secret\."web\/api"\]\nkind = "fixed"\nshare = "db"\n$/,
    );
    migrateFails('not-found', /pass has no web\/none/, 'pass', 'web/none', '--host=web1');
  });

  test('passage: migrate and import', () => {
    migrate('passage', '--host=web1');
    assert.equal(get('host/web1/web/token'), 'tok');
    cli.works(['import', 'passage', 'host/web2'], { env: environment() });
    assert.equal(get('host/web2/web/token'), 'tok');
  });

  test('gopass: migrate and import', () => {
    assert.match(
      migrate('gopass', 'My Bank', '--host=web1').stderr,
      /my-bank\/login \(19 bytes\) from gopass: My Bank/,
    );
    cli.works(['import', 'gopass', 'host/web2'], { env: environment() });
    assert.equal(get('host/web2/web/api'), 'p4ss');
  });

  test('two names that become one are refused', () => {
    write('twins/A.age', must('age', ['-r', recipient], '1'));
    write('twins/a.age', must('age', ['-r', recipient], '2'));
    migrateFails(
      'refused',
      /would both be host\/web1\/a/,
      'agenix',
      at('twins'),
      `--key=${at('identity')}`,
      '--host=web1',
    );
  });
});

describe('a call', () => {
  test('names a source, files and a host', () => {
    migrateFails('usage', /there is no source vault/, 'vault', 'x', '--host=web1');
    migrateFails('usage', /needs a file or a folder/, 'agenix', '--host=web1');
    migrateFails('usage', /needs the host or group/, 'pass');
    migrateFails('usage', /--format=yaml/, 'pass', '--host=web1', '--format=yaml');
    migrateFails('not-found', /there is no \/key/, 'agenix', folder, '--key=/key', '--host=web1');
    write('unreadable/x.age', 'not age');
    migrateFails(
      'vault',
      /no secret of agenix could be read/,
      'agenix',
      at('unreadable'),
      '--host=web1',
      `--key=${at('identity')}`,
    );
    migrateFails('not-found', /there is no \/nonexistent/, 'env-file', '/nonexistent', '--host=web1');
  });
});

describe('docs/moving-in.md', () => {
  before(() => {
    write('bin/auxcred', `#!/bin/sh\nexec ${process.execPath} ${cli.program} "$@"\n`);
    chmodSync(at('bin/auxcred'), 0o755);
    sops('secrets/web1.yaml', 'yaml', { db: { password: 'hunter' }, 'api-token': 'tok-1' });
    const db = { sopsFile: 'secrets/web1.yaml', key: 'db/password', format: 'yaml', path: '/run/secrets/db' };
    const more = { mode: '0440', owner: 'postgres', group: 'root', restartUnits: ['postgresql.service'] };
    write('declared.json', JSON.stringify({ db: { ...db, ...more } }));
    write('secrets/wifi.age', must('age', ['-r', recipient], 'hunter2'));
    write('password-file', 'pw\n');
    const args = ['encrypt', '--vault-password-file=password-file', '--output=-', '-'];
    write('group_vars/web.yml', must('ansible-vault', args, 'smtp:\n  password: hunter\n'));
    write('app.env', 'DATABASE_URL="postgres://db/a"\nAPI_KEY=k-1\n');
  });

  // boot/moving-in.test.ts follows that of systemd-creds.
  for (const { command, output } of transcripts().filter(({ command }) => !command.includes('systemd-creds')))
    test(command, () => {
      const said = spawnSync('sh', ['-c', `${command} 2>&1`], { cwd: folder, env: environment(), encoding: 'utf8' });
      assert.equal(said.stdout, output);
    });
});
