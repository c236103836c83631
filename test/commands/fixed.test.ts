/** The fixed folder through the commands: in the operator's vault, and on a machine without one. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { encodeBech32 } from '../../src/age/bech32.ts';
import { exitStatus } from '../../src/failure.ts';
import * as cli from '../cli.ts';

/** An age plugin that turns every bit of the file key over: the protocol of C2SP's age-plugin, without a device. */
const agePlugin = `#!${process.execPath}
const { readSync, writeSync } = require('node:fs');
let left = '';
const line = () => {
  for (;;) {
    const end = left.indexOf('\\n');
    if (end !== -1) { const found = left.slice(0, end); left = left.slice(end + 1); return found; }
    const chunk = Buffer.alloc(4096);
    left += chunk.toString('latin1', 0, readSync(0, chunk));
  }
};
const stanza = () => {
  const [, type, ...args] = line().split(' ');
  let body = '', more;
  do { more = line(); body += more; } while (more.length === 64);
  return { type, args, body: Buffer.from(body, 'base64') };
};
const send = (head, body = Buffer.alloc(0)) => writeSync(1, '-> ' + head + '\\n' + body.toString('base64').replace(/=+$/, '') + '\\n');
const turned = (key) => key.map((byte) => byte ^ 255);
const received = [];
for (let next = stanza(); next.type !== 'done'; next = stanza()) received.push(next);
const mine = received.filter(({ type, args }) => type === 'wrap-file-key' || (type === 'recipient-stanza' && args[1] === 'auxtest'));
for (const { type, body } of mine) {
  if (type === 'wrap-file-key') send('recipient-stanza 0 auxtest', turned(body));
  else send('file-key 0', turned(body));
  stanza();
}
send('done');
`;

const recipientOf = (identity: string): string =>
  spawnSync('age-keygen', ['-y', at(identity)], { encoding: 'utf8' }).stdout.trim();

let folder = '';
const at = (path: string): string => join(folder, path);
const environment = (): NodeJS.ProcessEnv => ({
  PATH: process.env['PATH'],
  HOME: folder,
  AUXCRED_VAULT: at('vault'),
  AUXCRED_IDENTITY: at('identity'),
  GIT_AUTHOR_NAME: 'a',
  GIT_AUTHOR_EMAIL: 'a@example.org',
  GIT_COMMITTER_NAME: 'a',
  GIT_COMMITTER_EMAIL: 'a@example.org',
});
const { program } = cli;
const auxcred = (args: readonly string[], input: string | Buffer = '', more: NodeJS.ProcessEnv = {}): cli.Said =>
  cli.auxcred(args, { input, env: { ...environment(), ...more }, encoding: 'latin1' });
function works(args: readonly string[], input: string | Buffer = ''): string {
  const { status, stdout, stderr } = auxcred(args, input);
  assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
  return stdout;
}
function fails(args: readonly string[], status: number, message: RegExp, input: string | Buffer = ''): void {
  const said = auxcred(args, input);
  assert.equal(said.status, status, `${args.join(' ')}: ${said.stderr}`);
  assert.match(said.stderr, message);
}
/** At a terminal, with these keys typed. */
function typed(args: readonly string[], keys: string): cli.Said {
  const command = [process.execPath, program, ...args].map((word) => `'${word}'`).join(' ');
  const { status, stdout } = spawnSync('script', ['-qec', command, '/dev/null'], {
    input: keys,
    env: environment(),
    encoding: 'utf8',
  });
  return { status, stdout, stderr: stdout };
}
/** With a pipe for standard input that does not block, as another program may have left it, filled a part at a time. */
async function piped(args: readonly string[], parts: readonly string[], end: 'ended' | 'open'): Promise<void> {
  assert.equal(spawnSync('mkfifo', [at('pipe')]).status, 0);
  const from = openSync(at('pipe'), constants.O_RDONLY | constants.O_NONBLOCK);
  const to = await open(at('pipe'), 'w');
  try {
    const child = spawn(process.execPath, [program, ...args], { stdio: [from, 'ignore', 'pipe'], env: environment() });
    assert.ok(child.stderr);
    const [ended, said] = [once(child, 'exit'), text(child.stderr)];
    closeSync(from);
    for (const part of parts) await to.write(part);
    if (end === 'ended') await to.close();
    const [status] = await ended;
    assert.equal(status, 0, await said);
  } finally {
    await to.close().catch(() => undefined);
    rmSync(at('pipe'));
  }
}
const file = (name: string): string => at(`vault/fixed/${name}.sealed`);
const names = (): string[] =>
  works(['ls', '--flat'])
    .split('\n')
    .filter((line) => line !== '');

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fixed-'));
  assert.equal(spawnSync('age-keygen', ['-o', at('identity')]).status, 0);
  works(['init', `--recipient=${spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim()}`]);
  writeFileSync(at('vault/vault.toml'), '# our hosts\n[host.web1]\ngroups = ["db"]\n[host.web2]\ngroups = ["db"]\n');
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

describe('put and get', () => {
  test('keep any bytes as they are, in a file that only its owner may read', () => {
    const binary = Buffer.from(Array.from({ length: 512 }, (_, i) => i & 255));
    works(['put', 'host/web1/key'], binary);
    assert.equal(works(['get', 'host/web1/key']), binary.toString('latin1'));
    assert.equal(statSync(file('host/web1/key')).mode & 0o777, 0o600);
    assert.equal(statSync(at('vault/fixed/host/web1')).mode & 0o777, 0o700);
    assert.ok(!readFileSync(file('host/web1/key')).includes(binary.subarray(0, 16)));
    works(['put', '--group=db', 'Api Tokens/größe'], 'two\nlines\n');
    assert.equal(works(['get', 'group/db/Api Tokens/größe'].map((word) => word)), 'two\nlines\n');
    assert.equal(works(['get', 'Api Tokens/größe', '--group=db']), 'two\nlines\n');
    writeFileSync(at('token'), 'abc');
    works(['put', '--host=web2', 'token', `--file=${at('token')}`]);
    assert.equal(works(['get', 'host/web2/token']), 'abc');
  });

  test('warn that a trailing newline became part of the secret, and --line leaves it out', () => {
    const { stderr } = auxcred(['put', 'host/web1/a'], 'abc\n');
    assert.match(
      stderr,
      /host\/web1\/a is one line that ends with a newline, which is now part of it\nauxcred: hint: --line/,
    );
    assert.equal(works(['get', 'host/web1/a']), 'abc\n');
    works(['put', 'host/web1/b', '--line'], 'abc\r\nmore\n');
    assert.equal(works(['get', 'host/web1/b']), 'abc');
  });

  test('ask without echoing, twice, and before they replace', () => {
    const said = typed(['put', 'host/web1/a'], 'hunter2\nhunter2\n');
    assert.equal(said.status, 0, said.stdout);
    assert.ok(!said.stdout.split('\n').slice(2).join('').includes('hunter2'));
    assert.equal(works(['get', 'host/web1/a']), 'hunter2');
    assert.equal(typed(['put', 'host/web1/b'], 'one\ntwo\n').status, exitStatus.usage);
    assert.equal(typed(['put', 'host/web1/a'], 'n\n').status, exitStatus.refused);
    assert.equal(works(['get', 'host/web1/a']), 'hunter2');
    assert.equal(typed(['put', 'host/web1/a'], 'y\nnew\nnew\n').status, 0);
    assert.equal(works(['get', 'host/web1/a']), 'new');
  });

  test('refuse what pass lets through: an empty secret, and a silent overwrite from a pipe', () => {
    works(['put', 'host/web1/a'], 'old');
    const before = readFileSync(file('host/web1/a'));
    fails(
      ['put', 'host/web1/a'],
      exitStatus.refused,
      /host\/web1\/a already exists, so nothing was changed\nauxcred: hint: --force replaces it/,
      'new',
    );
    fails(['put', 'host/web1/a', '--force'], exitStatus.usage, /the secret is empty, so nothing was changed/);
    fails(['put', 'host/web1/a', '--force', '--line'], exitStatus.usage, /empty/, '\nabc');
    fails(
      ['put', 'host/web1/a', '--force'],
      exitStatus.usage,
      /standard input has more than 131072 bytes/,
      'x'.repeat(131073),
    );
    fails(
      ['put', 'host/web1/a', '--force', '--file=/dev/zero'],
      exitStatus.usage,
      /\/dev\/zero has more than 131072 bytes/,
    );
    assert.deepEqual(readFileSync(file('host/web1/a')), before);
    works(['put', 'host/web1/a', '--force'], 'new');
    assert.equal(works(['get', 'host/web1/a']), 'new');
  });

  test('wait for a pipe however slowly it is filled, and --line for no more than its line', async () => {
    const long = 'y'.repeat(131_072);
    await piped(['put', 'host/web1/all'], [long.slice(0, 1), long.slice(1, 70_000), long.slice(70_000)], 'ended');
    assert.equal(works(['get', 'host/web1/all']), long);
    await piped(['put', 'host/web1/line', '--line'], [long, '\r', '\nmore'], 'open');
    assert.equal(works(['get', 'host/web1/line']), long);
    const words = `${'abandon '.repeat(23)}art`;
    await piped(
      ['init', `--vault=${at('other')}`, '--from-words', `--recipient=${recipientOf('identity')}`],
      [words.slice(0, 50), words.slice(50)],
      'ended',
    );
    assert.ok(existsSync(at('other/seed.age')));
  });

  test('refuse names that lead out of the folder, and scopes that nobody knows', () => {
    for (const name of ['host/web1/../web2/a', 'host/web1//a', 'host/web1/.git/a', 'host/web1/a\nb', 'host/web1/a/'])
      fails(['put', name], exitStatus.usage, /can't be the name of a secret/, 'x');
    for (const name of ['a', '/etc/passwd', '../a', 'host/web1', 'hosts/web1/a'])
      fails(['put', name], exitStatus.usage, /does not say whose secret it is|can't be the name/, 'x');
    fails(['put', 'host/wbe1/a'], exitStatus['not-found'], /knows no host wbe1/, 'x');
    fails(['put', 'group/dbs/a'], exitStatus['not-found'], /knows no group dbs/, 'x');
    fails(['put', 'a', '--host=wbe1'], exitStatus['not-found'], /knows no host wbe1/, 'x');
    fails(['get', 'host/web1/nothing'], exitStatus['not-found'], /there is no host\/web1\/nothing/);
    works(['put', 'host/web1/Token'], 'x');
    fails(['put', 'host/web1/token'], exitStatus.refused, /differ from host\/web1\/Token only in case/, 'x');
    fails(['put', 'host/web1/token.sealed/a'], exitStatus.usage, /a part of it ends in \.sealed/, 'x');
    assert.deepEqual(names(), ['host/web1/Token']);
  });

  test('count up, even if the clock runs backwards', () => {
    const sequence = (): number =>
      JSON.parse(works(['ls', '--json', 'host/web1'])).map((entry: { sequence: number }) => entry.sequence)[0];
    works(['put', 'host/web1/a'], 'x');
    const first = sequence();
    assert.ok(Math.abs(first - Date.now()) < 60_000);
    const { status } = spawnSync(
      'faketime',
      ['2020-01-01', process.execPath, program, 'put', 'host/web1/a', '--force'],
      { input: 'y', env: environment() },
    );
    assert.equal(status, 0);
    assert.equal(sequence(), first + 1);
    works(['put', 'host/web1/a', '--force'], 'z');
    assert.ok(sequence() > first);
  });
});

describe('ls and find', () => {
  test('show the tree, a part of it, or plain names, without a key', () => {
    for (const name of ['host/web1/b', 'host/web1/a/x', 'host/web1/a', 'group/db/token']) works(['put', name], 'v');
    rmSync(at('identity'));
    assert.equal(
      works(['ls']),
      Buffer.from(
        `${at('vault/fixed')}\n├── group\n│   └── db\n│       └── token\n└── host\n    └── web1\n        ├── a\n        │   └── x\n        └── b\n`,
      ).toString('latin1'),
    );
    assert.deepEqual(names(), ['group/db/token', 'host/web1/a', 'host/web1/a/x', 'host/web1/b']);
    assert.equal(works(['ls', 'host/web1/a', '--flat']), 'host/web1/a\nhost/web1/a/x\n');
    assert.equal(works(['ls', 'group', '--flat']), 'group/db/token\n');
    assert.equal(works(['find', 'TOK', '/b']), 'group/db/token\nhost/web1/b\n');
    fails(['find', 'zzz'], exitStatus['not-found'], /no fixed secret's name contains zzz/);
    fails(['ls', 'host/web1/zzz'], exitStatus['not-found'], /there is no host\/web1\/zzz/);
  });
});

describe('rm, mv and cp', () => {
  beforeEach(() => {
    for (const name of ['host/web1/a', 'host/web1/dir/b', 'host/web1/dir/c']) works(['put', name], name);
  });

  test('rm takes a secret and the folders that it leaves empty; more than one only when told to', () => {
    fails(['rm', 'host/web1/dir'], exitStatus.refused, /is a folder/);
    fails(['rm', 'host/web1/zzz', '--force'], exitStatus['not-found'], /there is no/);
    assert.equal(typed(['rm', 'host/web1/a'], 'n\n').status, exitStatus.refused);
    assert.equal(typed(['rm', 'host/web1/a'], 'y\n').status, 0);
    works(['rm', '--recursive', '--force', 'host/web1/dir']);
    assert.deepEqual(names(), []);
    assert.ok(!existsSync(at('vault/fixed/host')));
  });

  test('mv and cp re-encrypt, also for another scope', () => {
    const before = readFileSync(file('host/web1/a'));
    works(['cp', 'host/web1/a', 'group/db/a']);
    works(['mv', 'host/web1/a', 'host/web2/']);
    assert.equal(works(['get', 'host/web2/a']), 'host/web1/a');
    assert.equal(works(['get', 'group/db/a']), 'host/web1/a');
    assert.notDeepEqual(readFileSync(file('host/web2/a')), before);
    works(['mv', 'host/web1/dir', 'group/db/moved']);
    assert.deepEqual(names(), ['group/db/a', 'group/db/moved/b', 'group/db/moved/c', 'host/web2/a']);
    assert.equal(works(['get', 'group/db/moved/c']), 'host/web1/dir/c');
    fails(['mv', 'group/db/a', 'group/db/moved/b'], exitStatus.refused, /group\/db\/moved\/b already exists/);
    fails(['mv', 'group/db/moved', 'group/db/moved/inside'], exitStatus.usage, /is inside/);
    fails(['cp', 'host/web9/a', 'host/web1/a'], exitStatus['not-found'], /there is no/);
  });

  test('mv and cp of folders that overlap lose no secret', () => {
    for (const name of ['host/web1/x/a/b', 'host/web1/x/a/a/b', 'host/web1/x/b']) works(['put', name], name);
    const before = names();
    for (const verb of ['mv', 'cp']) {
      fails(
        [verb, '--force', 'host/web1/x/a', 'host/web1/x'],
        exitStatus.refused,
        /host\/web1\/x\/a\/a\/b would take the place of host\/web1\/x\/a\/b, which is in host\/web1\/x\/a too, so nothing was changed\n.*go through another name/,
      );
      assert.deepEqual(names(), before);
      for (const name of before) assert.equal(works(['get', name]), name);
    }
    works(['mv', 'host/web1/x/a', 'host/web1/y']);
    fails(['mv', 'host/web1/y', 'host/web1/x'], exitStatus.refused, /host\/web1\/x\/b already exists/);
    works(['mv', '--force', 'host/web1/y', 'host/web1/x']);
    assert.equal(works(['get', 'host/web1/x/b']), 'host/web1/x/a/b');
    assert.equal(works(['get', 'host/web1/x/a/b']), 'host/web1/x/a/a/b');
  });

  test('a conflicting name is found before the first secret moves', () => {
    works(['put', 'group/db/moved/C'], 'x');
    fails(
      ['mv', 'host/web1/dir', 'group/db/moved'],
      exitStatus.refused,
      /differ from group\/db\/moved\/C only in case/,
    );
    assert.deepEqual(names(), ['group/db/moved/C', 'host/web1/a', 'host/web1/dir/b', 'host/web1/dir/c']);
  });

  test('mv of a folder with a file that does not open moves nothing', () => {
    writeFileSync(file('host/web1/dir/c'), 'damaged');
    fails(
      ['mv', 'host/web1/dir', 'group/db/moved'],
      exitStatus.malformed,
      /host\/web1\/dir\/c is not a file of a fixed folder/,
    );
    assert.deepEqual(names(), ['host/web1/a', 'host/web1/dir/b', 'host/web1/dir/c']);
  });
});

describe('edit', () => {
  const editor = (script: string): NodeJS.ProcessEnv => {
    writeFileSync(
      at('editor'),
      `#!/bin/sh\nstat -f -c %T "$1" > ${at('where')}; stat -c %a "$1" >> ${at('where')}\n${script}\n`,
      { mode: 0o755 },
    );
    return { EDITOR: at('editor') };
  };

  test('happens in memory and leaves nothing there', () => {
    works(['put', 'host/web1/a'], 'old');
    const left = (): string[] =>
      ['/dev/shm', '/run'].flatMap((place) => readdirSync(place)).filter((name) => name.startsWith('auxcred-'));
    const before = left();
    assert.equal(auxcred(['edit', 'host/web1/a'], '', editor('printf "new\\nlines\\n" > "$1"')).status, 0);
    assert.equal(readFileSync(at('where'), 'utf8'), 'tmpfs\n600\n');
    assert.equal(works(['get', 'host/web1/a']), 'new\nlines\n');
    assert.deepEqual(left(), before);
  });

  test('keeps the old secret if nothing changed, everything was deleted, or the editor failed', () => {
    works(['put', 'host/web1/a'], 'old');
    const before = readFileSync(file('host/web1/a'));
    assert.match(auxcred(['edit', 'host/web1/a'], '', editor('true')).stderr, /host\/web1\/a is unchanged/);
    assert.equal(auxcred(['edit', 'host/web1/a'], '', editor(': > "$1"')).status, exitStatus.usage);
    assert.equal(auxcred(['edit', 'host/web1/a'], '', editor('echo x > "$1"; exit 3')).status, exitStatus.system);
    assert.match(
      auxcred(['edit', 'host/web1/a'], '', { EDITOR: '/no/such/editor' }).stderr,
      /the editor \/no\/such\/editor can't be run/,
    );
    assert.deepEqual(readFileSync(file('host/web1/a')), before);
  });

  test('drops the newline that an editor adds to a secret that had none', () => {
    works(['put', 'host/web1/a'], 'old');
    assert.match(auxcred(['edit', 'host/web1/a'], '', editor('echo >> "$1"')).stderr, /unchanged/);
    assert.equal(auxcred(['edit', 'host/web1/a'], '', editor('echo new > "$1"')).status, 0);
    assert.equal(works(['get', 'host/web1/a']), 'new');
    assert.equal(auxcred(['edit', 'host/web1/fresh'], '', editor('echo one > "$1"')).status, 0);
    assert.equal(works(['get', 'host/web1/fresh']), 'one');
  });
});

describe('generate', () => {
  test('stores a random secret of any kind, and shows at most a public half', () => {
    assert.equal(works(['generate', 'host/web1/a', '--length=40', '--alphabet=readable', '--require=digit,upper']), '');
    assert.match(works(['get', 'host/web1/a']), /^(?=.*\d)(?=.*[A-Z])[2-9A-HJ-NP-Za-km-z]{40}$/);
    const shown = works(['generate', 'host/web1/key', '--kind=ssh-ed25519', '--comment=me']);
    writeFileSync(at('key'), works(['get', 'host/web1/key']), { mode: 0o600 });
    assert.equal(shown, spawnSync('ssh-keygen', ['-y', '-f', at('key')], { encoding: 'utf8' }).stdout);
    works(['generate', 'host/web1/words', '--kind=passphrase', '--words=8', '--separator= ']);
    assert.equal(works(['get', 'host/web1/words']).split(' ').length, 8);
    const first = works(['get', 'host/web1/a']);
    works(['generate', 'host/web1/a', '--length=40', '--force']);
    const second = works(['get', 'host/web1/a']);
    assert.notEqual(first, second);
  });

  test('refuses what can be guessed, what a kind does not have, and an overwrite', () => {
    fails(['generate', 'host/web1/a', '--length=8'], exitStatus.usage, /it can be guessed: it has 48 bits/);
    works(['generate', 'host/web1/a', '--length=8', '--weak']);
    fails(['generate', 'host/web1/b', '--kind=uuid', '--length=8'], exitStatus.usage, /a uuid has no --length/);
    fails(['generate', 'host/web1/b', '--kind=pasword'], exitStatus.usage, /--kind=pasword is not known/);
    fails(['generate', 'host/web1/b', '--length=x'], exitStatus.usage, /--length: a whole number/);
    fails(['generate', 'host/web1/a'], exitStatus.refused, /exists/);
  });
});

describe('verify', () => {
  beforeEach(() => {
    for (const name of ['host/web1/a', 'host/web1/b', 'host/web1/c', 'host/web2/d', 'group/db/e'])
      works(['put', name], name);
  });

  test('opens all of them', () => {
    assert.match(auxcred(['verify']).stderr, /5 of 5 secrets open under their names\n$/);
    assert.match(auxcred(['verify', 'host/web1']).stderr, /3 of 3/);
  });

  test('tells a renamed, a swapped, a copied, a truncated, an altered file and a stranger apart', () => {
    const [a, b] = [readFileSync(file('host/web1/a')), readFileSync(file('host/web1/b'))];
    writeFileSync(file('host/web1/a'), b);
    writeFileSync(file('host/web1/b'), a);
    renameSync(file('host/web1/c'), file('host/web1/renamed'));
    writeFileSync(file('host/web2/d'), readFileSync(file('host/web2/d')).subarray(0, 100));
    copyFileSync(file('group/db/e'), file('host/web2/e'));
    writeFileSync(
      file('group/db/e'),
      readFileSync(file('group/db/e')).map((byte, i) => (i === 70 ? byte ^ 1 : byte)),
    );
    writeFileSync(at('vault/fixed/host/web1/notes.txt'), 'x');
    const { status, stderr, stdout } = auxcred(['verify', '--json']);
    assert.equal(status, exitStatus.malformed);
    for (const message of [
      /host\/web1\/a is the file of host\/web1\/b under another name/,
      /host\/web1\/b is the file of host\/web1\/a under another name/,
      /host\/web1\/renamed does not open: it was changed, or it is the file of a name that is gone/,
      /host\/web2\/d is empty or cut off/,
      /host\/web2\/e was encrypted for another scope, or for another epoch than 1 of host\/web2/,
      /group\/db\/e does not open: it was changed/,
      /host\/web1\/notes\.txt is not a fixed secret/,
      /0 of 6 secrets open under their names; 7 files do not belong/,
    ])
      assert.match(stderr, message);
    assert.equal(JSON.parse(stdout).problems.length, 6);
    fails(['get', 'host/web1/a'], exitStatus.malformed, /is the file of host\/web1\/b under another name/);
    fails(['edit', 'host/web2/d'], exitStatus.malformed, /cut off/);
    works(['put', 'host/web2/d', '--force'], 'whole');
    assert.equal(works(['get', 'host/web2/d']), 'whole');
  });
});

test('verify names what is not a file, and does not hang', () => {
  for (const name of ['a', 'fifo', 'zero', 'loop']) works(['put', `host/web1/${name}`], name);
  for (const name of ['fifo', 'zero', 'loop']) rmSync(file(`host/web1/${name}`));
  assert.equal(spawnSync('mkfifo', [file('host/web1/fifo')]).status, 0);
  symlinkSync('/dev/zero', file('host/web1/zero'));
  symlinkSync('loop.sealed', file('host/web1/loop'));
  writeFileSync(at(`vault/fixed/host/web1/.a.sealed.${String(spawnSync('true').pid)}.new`), '');
  const { status, stderr } = auxcred(['verify']);
  assert.equal(status, exitStatus.malformed);
  for (const message of [
    /fifo\.sealed is not a regular file/,
    /zero\.sealed is not a regular file/,
    /loop\.sealed is a loop of symbolic links/,
    /\.new was left behind by a killed run/,
    /1 of 4 secrets open under their names; 4 files do not belong/,
  ])
    assert.match(stderr, message);
  fails(['put', 'host/web1/fifo'], exitStatus.refused, /host\/web1\/fifo already exists/, 'x');
  works(['put', 'host/web1/fifo', '--force'], 'x');
  works(['rm', '--force', 'host/web1/zero']);
  works(['rm', '--force', 'host/web1/loop']);
  works(['verify']);
});

describe('import', () => {
  beforeEach(() => {
    mkdirSync(at('files'));
    writeFileSync(at('files/web'), 'hunter2\r\nlogin: me\n');
    writeFileSync(at('files/empty'), '\nlogin: me\n');
  });

  test('takes files as they are, or with --line the first line of each', () => {
    works(['import', at('files'), 'host/web1']);
    assert.equal(works(['get', 'host/web1/web']), 'hunter2\r\nlogin: me\n');
    fails(
      ['import', at('files'), 'host/web2', '--line'],
      exitStatus.vault,
      /empty: the secret is empty\n.*imported 1 of 2/,
    );
    assert.equal(works(['get', 'host/web2/web']), 'hunter2');
  });

  test('imports no two secrets under one name', () => {
    for (const name of ['u\u0308', '\u00fc']) writeFileSync(at(`files/${name}`), name);
    fails(['import', at('files'), 'host/web1', '--force'], exitStatus.vault, /already became host\/web1\/\u00fc/);
    assert.equal(works(['get', 'host/web1/\u00fc']), Buffer.from('u\u0308').toString('latin1'));
  });
});

describe('a new epoch', () => {
  test('names old files that no longer open, and rekey re-encrypts them, even after an interruption', () => {
    for (const name of ['host/web1/a', 'host/web1/b', 'host/web2/c', 'group/db/d']) works(['put', name], name);
    const old = readFileSync(file('host/web1/a'));
    const text = readFileSync(at('vault/vault.toml'), 'utf8');
    writeFileSync(at('vault/vault.toml'), text.replace('[host.web1]\n', '[host.web1]\nepoch = 3\n'));
    fails(
      ['get', 'host/web1/a'],
      exitStatus.malformed,
      /host\/web1\/a is from epoch 1, and host\/web1 is in epoch 3\nauxcred: hint: auxcred rekey host\/web1/,
    );
    fails(['verify'], exitStatus.malformed, /2 files do not belong/);
    assert.match(auxcred(['rekey', 'host/web1']).stderr, /re-encrypted 2 secrets/);
    assert.equal(works(['get', 'host/web1/a']), 'host/web1/a');
    writeFileSync(file('host/web1/a'), old);
    assert.match(auxcred(['rekey']).stderr, /re-encrypted 1 secret\n/);
    assert.match(auxcred(['rekey']).stderr, /re-encrypted 0 secrets/);
    works(['verify']);
  });

  test('--next raises it in vault.toml and leaves everything else there alone', () => {
    works(['put', 'host/web2/c'], 'c');
    works(['put', 'group/db/d'], 'd');
    const settings = (): string => readFileSync(at('vault/vault.toml'), 'utf8');
    const before = settings();
    const { stderr } = auxcred(['rekey', '--next', 'host/web2']);
    assert.match(stderr, /web2 also has the seeds of group\/db\n.*auxcred rekey --next group\/db/);
    assert.match(
      stderr,
      /this value stays the same, and anyone with the old seed knows it:\nauxcred: {3}host\/web2\/c\nauxcred: hint: change it at its issuer/,
    );
    assert.equal(settings(), before.replace('[host.web2]\n', '[host.web2]\nepoch = 2\n'));
    works(['rekey', '--next', 'host/web2', 'group/db']);
    assert.equal(
      settings(),
      `${before.replace('[host.web2]\n', '[host.web2]\nepoch = 3\n')}\n[group."db"]\nepoch = 2\n`,
    );
    works(['verify']);
    assert.equal(works(['get', 'group/db/d']), 'd');
    writeFileSync(at('vault/vault.toml'), 'host = { web1 = { groups = ["db"] } }\n');
    fails(['rekey', '--next', 'host/web1'], exitStatus.refused, /is written in a way that auxcred can.t edit/);
    assert.equal(settings(), 'host = { web1 = { groups = ["db"] } }\n');
  });
});

describe('git', () => {
  const git = (...args: string[]): string =>
    spawnSync('git', ['-C', at('vault'), ...args], { encoding: 'utf8', env: environment() }).stdout;

  test('commits every change, and never the fleet seed', () => {
    rmSync(at('vault'), { recursive: true });
    works([
      'init',
      '--git',
      `--recipient=${spawnSync('age-keygen', ['-y', at('identity')], { encoding: 'utf8' }).stdout.trim()}`,
    ]);
    writeFileSync(at('vault/vault.toml'), '[host.web1]\n');
    works(['put', 'host/web1/a'], 'x');
    works(['put', 'host/web1/a', '--force'], 'y');
    works(['generate', 'host/web1/b']);
    works(['mv', 'host/web1/a', 'host/web1/c']);
    works(['rm', '--force', 'host/web1/b']);
    works(['rekey', '--next', 'host/web1']);
    assert.deepEqual(git('log', '--format=%s', '--reverse').trim().split('\n'), [
      'Make the vault',
      'Add host/web1/a',
      'Change host/web1/a',
      'Generate host/web1/b',
      'Move host/web1/a to host/web1/c',
      'Remove host/web1/b',
      'Rekey host/web1',
    ]);
    assert.deepEqual(git('ls-files').trim().split('\n'), ['.gitignore', 'fixed/host/web1/c.sealed', 'vault.toml']);
    assert.equal(git('status', '--porcelain'), '');
  });

  test('that fails loses only the commit; git = false makes none', () => {
    mkdirSync(at('vault/.git'));
    const { status, stderr } = auxcred(['put', 'host/web1/a'], 'x');
    assert.equal(status, 0);
    assert.match(stderr, /warning: the change was made, but git did not commit it/);
    assert.equal(works(['get', 'host/web1/a']), 'x');
    rmSync(at('vault/.git'), { recursive: true });
    git('init', '-q');
    writeFileSync(at('vault/vault.toml'), 'git = false\n[host.web1]\n');
    works(['put', 'host/web1/b'], 'x');
    assert.equal(git('log', '--format=%s'), '');
  });
});

describe('the fleet seed', () => {
  const newKey = (name: string): string => {
    spawnSync('age-keygen', ['-o', at(name)]);
    return spawnSync('age-keygen', ['-y', at(name)], { encoding: 'utf8' }).stdout.trim();
  };

  test('is re-encrypted to other recipients, and stays the same seed', () => {
    works(['put', 'host/web1/a'], 'x');
    const scopes = works(['scopes', 'web1']);
    const [mine, theirs] = [newKey('mine'), newKey('theirs')];
    fails(
      ['rewrap', `--recipient=${theirs}`],
      exitStatus['no-recipient'],
      /none of the available keys opens the new file, so nothing was changed/,
    );
    assert.equal(works(['scopes', 'web1']), scopes);
    works([
      'rewrap',
      `--recipient=${theirs}`,
      `--recipient=${mine}`,
      `--identity=${at('identity')}`,
      `--identity=${at('mine')}`,
    ]);
    for (const identity of ['mine', 'theirs'])
      assert.equal(auxcred(['scopes', 'web1'], '', { AUXCRED_IDENTITY: at(identity) }).stdout, scopes);
    assert.equal(auxcred(['scopes', 'web1']).status, exitStatus['no-recipient']);
    assert.equal(auxcred(['get', 'host/web1/a'], '', { AUXCRED_IDENTITY: at('mine') }).stdout, 'x');
  });

  test('is encrypted to a plugin and other recipients, by the age program', () => {
    mkdirSync(at('bin'));
    writeFileSync(at('bin/age-plugin-auxtest'), agePlugin, { mode: 0o755 });
    const path = `${at('bin')}:${process.env['PATH'] ?? ''}`;
    const [recipient = '', identity = ''] = ['age1auxtest', 'age-plugin-auxtest-'].map((prefix) =>
      Buffer.from(encodeBech32(prefix, new Uint8Array(32).fill(1))).toString(),
    );
    writeFileSync(at('plugged'), `# a key that never leaves its device\n${identity.toUpperCase()}\n`);
    const scopes = works(['scopes', 'web1']);
    const said = auxcred(['rewrap', `--recipient=${recipient}`, `--recipient=${newKey('mine')}`], '', {
      PATH: path,
      AUXCRED_IDENTITY: at('plugged'),
    });
    assert.equal(said.status, exitStatus['no-recipient'], said.stderr);
    const wrapped = auxcred(
      [
        'rewrap',
        `--recipient=${recipient}`,
        `--recipient=${newKey('mine')}`,
        `--identity=${at('identity')}`,
        `--identity=${at('plugged')}`,
      ],
      '',
      { PATH: path },
    );
    assert.equal(wrapped.status, 0, wrapped.stderr);
    assert.match(readFileSync(at('vault/seed.age'), 'latin1'), /\n-> auxtest\n(?:.*\n)*-> X25519 /);
    for (const key of ['plugged', 'mine'])
      assert.equal(auxcred(['scopes', 'web1'], '', { PATH: path, AUXCRED_IDENTITY: at(key) }).stdout, scopes);
  });

  test('that is damaged is said to be damaged, and not that no key opens it', () => {
    const file = at('vault/seed.age');
    const whole = readFileSync(file);
    for (const damaged of [
      whole.subarray(0, -1),
      whole.subarray(0, 30),
      Buffer.from(whole.map((byte, i) => (i === whole.length - 20 ? byte ^ 1 : byte))),
      Buffer.alloc(0),
    ]) {
      writeFileSync(file, damaged);
      const { status, stderr } = auxcred(['scopes', 'web1'], '', { AUXCRED_IDENTITY: at('identity') });
      assert.equal(status, exitStatus.malformed, stderr);
      assert.match(stderr, /vault\/seed\.age is damaged: .*\n.*restore it from a backup/);
    }
    writeFileSync(file, whole);
  });

  test('is re-encrypted to a passphrase, and back', () => {
    const scopes = works(['scopes', 'web1']);
    writeFileSync(at('passphrase'), 'correct horse\n');
    works(['rewrap', `--passphrase-file=${at('passphrase')}`]);
    assert.equal(typed(['scopes', 'web1'], 'wrong\n').status, exitStatus['no-recipient']);
    const back = typed(['rewrap', `--recipient=${newKey('new')}`, '--force'], 'correct horse\n');
    assert.equal(back.status, 0, back.stdout);
    assert.equal(auxcred(['scopes', 'web1'], '', { AUXCRED_IDENTITY: at('new') }).stdout, scopes);
  });
});

describe('a machine without a vault', () => {
  const on = (verb: string, ...args: string[]): string[] => [verb, `--root=${at('box')}`, ...args];
  const declare = (text: string): void => {
    writeFileSync(at('box/etc/auxcred/secrets.d/a.toml'), text);
  };

  beforeEach(() => {
    for (const path of ['etc/ssh', 'etc/auxcred/secrets.d']) mkdirSync(at(`box/${path}`), { recursive: true });
    writeFileSync(at('box/etc/hostname'), 'box\n');
    writeFileSync(at('box/etc/group'), 'root:x:0:\n');
    assert.equal(
      spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at('box/etc/ssh/ssh_host_ed25519_key')]).status,
      0,
    );
    works(on('seal', '--no-recovery'));
  });

  test('has fixed secrets of its own, and activates them along with derived ones, hashed and in templates', () => {
    works(on('put', 'wifi'), 'hunter2');
    declare(
      '[secret.wifi]\nkind = "fixed"\nunits = ["iwd.service"]\n[secret.d]\nunits = ["web.service"]\n[secret.t]\nkind = "template"\nunits = ["web.service"]\nenv = { W = "{{wifi | url}}", D = "{{d}}" }\n[secret.h]\nkind = "crypt"\nof = "wifi"\nmethod = "sha512-crypt"\nunits = ["web.service"]\n',
    );
    works(on('apply'));
    assert.equal(works(on('get', 'wifi')), 'hunter2');
    assert.equal(works(on('get', 't')), `W="hunter2"\nD="${works(on('get', 'd'))}"\n`);
    const hash = works(on('get', 'h'));
    assert.equal(
      spawnSync('perl', ['-e', 'print crypt($ARGV[0], $ARGV[1])', 'hunter2', hash], { encoding: 'utf8' }).stdout,
      hash,
    );
    works(on('put', 'wifi', '--force'), 'hunter2');
    assert.match(auxcred(on('plan')).stderr, /nothing would change/);
    works(on('apply'));
    assert.equal(works(on('get', 'h')), hash);
    works(on('put', 'wifi', '--force'), 'changed');
    assert.match(
      works(on('plan')),
      /iwd\.service +wifi +value +restart\n.*h +wifi: value +restart\n.*t +wifi: value +restart/,
    );
    assert.equal(works(on('get', 'wifi')), 'hunter2');
    works(on('apply'));
    assert.equal(works(on('get', 'wifi')), 'changed');
  });

  test('names every secret that is missing, and changes nothing', () => {
    declare('[secret.a]\nunits = ["a.service"]\n');
    works(on('apply'));
    declare(
      '[secret.a]\ngeneration = 2\nunits = ["a.service"]\n[secret.w]\nkind = "fixed"\nunits = ["a.service"]\n[secret.x]\nkind = "vault"\nvault = "pass"\nunits = ["a.service"]\n',
    );
    const before = works(on('history', 'a'));
    fails(
      on('apply'),
      exitStatus['not-found'],
      /there is no host\/box\/w in .*; x has not been fetched from the vault pass yet\n/,
    );
    assert.equal(works(on('history', 'a')), before);
  });

  test('refuses an older file, unless told to accept it', () => {
    const path = at('box/var/lib/auxcred/fixed/host/box/w.sealed');
    works(on('put', 'w'), 'old');
    const old = readFileSync(path);
    works(on('put', 'w', '--force'), 'new');
    declare('[secret.w]\nkind = "fixed"\nunits = ["a.service"]\n');
    works(on('apply'));
    writeFileSync(path, old);
    fails(
      on('apply'),
      exitStatus.older,
      /the file of host\/box\/w is older than the active one .*, so nothing was changed\nauxcred: hint: .*--accept-older/,
    );
    assert.equal(works(on('get', 'w')), 'new');
    works(on('apply', '--accept-older'));
    assert.equal(works(on('get', 'w')), 'old');
  });

  test('refuses an older seeds.age, unless told to accept it', () => {
    const seeds = at('box/var/lib/auxcred/seeds.age');
    declare('[secret.a]\nunits = ["a.service"]\n');
    works(on('apply'));
    const [old, value] = [readFileSync(seeds), works(on('get', 'a'))];
    writeFileSync(at('seed'), works(on('unseal', '--reveal')));
    works(on('seal', '--replace', '--no-recovery', `--seed-file=${at('seed')}`));
    works(on('apply'));
    assert.equal(works(on('get', 'a')), value);
    writeFileSync(seeds, old);
    fails(on('apply'), exitStatus.older, /seeds\.age has counter 1; counter 2 was active/);
    works(on('apply', '--accept-older'));
    assert.equal(works(on('get', 'a')), value);
  });

  test('waits for another running auxcred', async () => {
    declare('[secret.a]\nunits = ["a.service"]\n');
    works(on('apply'));
    const holder = spawn('flock', [at('box/var/lib/auxcred/lock'), 'sh', '-c', 'echo held; sleep 2'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    const { status, stderr } = auxcred(on('apply'));
    assert.equal(status, 0, stderr);
    assert.match(stderr, /another auxcred is running, waiting for it/);
    assert.ok(!/waiting/.test(auxcred(on('apply')).stderr));
  });

  test('serves what is active, whatever happens to the folder', () => {
    works(on('put', 'w'), 'kept');
    declare('[secret.w]\nkind = "fixed"\nunits = ["a.service"]\n');
    works(on('apply'));
    const [generation = ''] = readdirSync(at('box/var/lib/auxcred/generations'));
    const [copy = ''] = readdirSync(at(`box/var/lib/auxcred/generations/${generation}/fixed`));
    rmSync(at('box/var/lib/auxcred/fixed'), { recursive: true });
    fails(on('apply'), exitStatus['not-found'], /there is no host\/box\/w/);
    works(on('put', 'w'), 'kept');
    rmSync(at(`box/var/lib/auxcred/provisioned/fixed/${copy}`));
    works(on('apply'));
    assert.equal(works(on('get', 'w')), 'kept');
  });

  test('says when a secret was removed, and when it came back', () => {
    works(on('put', 'w'), 'kept');
    const all =
      '[secret.d]\nunits = ["a.service"]\n[secret.k]\nkind = "age"\nunits = ["a.service"]\n[secret.w]\nkind = "fixed"\nunits = ["a.service"]\n';
    declare(all);
    works(on('apply'));
    const [d, k] = [works(on('get', 'd')), works(on('public', 'k'))];
    declare('');
    works(on('apply'));
    for (const [verb, name, value] of [
      ['get', 'd', d],
      ['public', 'k', k],
    ] as const) {
      const said = auxcred(on(verb, name));
      assert.deepEqual([said.status, said.stdout], [0, value]);
      assert.match(
        said.stderr,
        new RegExp(`${name} was removed at \\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ, and no unit gets it any more`),
      );
    }
    works(on('rm', 'w', '--force'));
    fails(on('get', 'w'), exitStatus['not-found'], /w was removed at .*\n.*the value of w is gone too/);
    const changes = (): string[] =>
      JSON.parse(works(on('history', 'd', '--json'))).map(({ change }: { change: string }) => change);
    assert.deepEqual(changes(), ['new', 'removed']);
    declare(all.replace('[secret.w]\nkind = "fixed"', '[secret.redis-password]'));
    works(on('apply'));
    assert.deepEqual(changes(), ['new', 'removed', 'new']);
    assert.equal(auxcred(on('get', 'd')).stderr, '');
    fails(
      on('get', 'redis-passwrd'),
      exitStatus['not-found'],
      /no secret redis-passwrd is declared\nauxcred: hint: did you mean redis-password\?/,
    );
  });

  test('refuses a template that fixed secrets make too long, and a hash of more than a line', () => {
    works(on('put', 'w'), 'x'.repeat(100_000));
    works(on('put', 'l'), 'two\nlines');
    declare(
      '[secret.w]\nkind = "fixed"\n[secret.t]\nkind = "template"\ncontent = "{{w}}{{w}}"\nunits = ["a.service"]\n',
    );
    fails(on('apply'), exitStatus['invalid-manifest'], /t of a\.service has 200000 bytes, and at most 131072 can/);
    declare('[secret.l]\nkind = "fixed"\n[secret.h]\nkind = "crypt"\nof = "l"\nunits = ["a.service"]\n');
    fails(on('apply'), exitStatus.malformed, /h: l has more than one line, so it can't be hashed/);
  });
});
