/** `auxcred enroll`, on a machine that is being installed and in the operator's vault. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs, { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { writeEnrolled } from '../../src/vault/enrolled.ts';
import { vaultOf } from '../../src/vault/vault.ts';
import * as cli from '../cli.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { createPrimary, makePersistent } from '../tpm2/sealing.ts';

let folder = '';
let swtpm: Swtpm;
const at = (path: string): string => join(folder, path);
const auxcred = (args: readonly string[], input = ''): cli.Said =>
  cli.auxcred(args, {
    input,
    env: {
      PATH: process.env['PATH'],
      HOME: folder,
      GIT_AUTHOR_NAME: 'a',
      GIT_AUTHOR_EMAIL: 'a@example.org',
      GIT_COMMITTER_NAME: 'a',
      GIT_COMMITTER_EMAIL: 'a@example.org',
    },
  });
const on = (host: string, ...args: string[]): cli.Said => auxcred(['enroll', `--root=${at(host)}`, ...args]);
const operator = (input: string, ...args: string[]): cli.Said =>
  auxcred(['enroll', `--vault=${at('vault')}`, ...args], input);
const settings = (text: string): void => {
  writeFileSync(at('vault/vault.toml'), text);
};
function works({ status, stdout, stderr }: cli.Said): { stdout: string; stderr: string } {
  assert.equal(status, 0, stderr);
  return { stdout, stderr };
}
function fails({ status, stdout, stderr }: cli.Said, code: keyof typeof exitStatus, message: RegExp): void {
  assert.equal(status, exitStatus[code], stderr);
  assert.match(stderr, message);
  assert.equal(stdout, '');
}
/** What `ssh-keygen -l` says of a machine's host key. */
const fingerprint = (host: string): string =>
  spawnSync('ssh-keygen', ['-l', '-f', at(`${host}/etc/ssh/ssh_host_ed25519_key.pub`)], {
    encoding: 'utf8',
  }).stdout.split(' ')[1] ?? '';
function makeRoot(host: string): void {
  mkdirSync(at(`${host}/etc/ssh`), { recursive: true });
  writeFileSync(at(`${host}/etc/hostname`), `${host}\n`);
  assert.equal(
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(`${host}/etc/ssh/ssh_host_ed25519_key`)]).status,
    0,
  );
}

before(async () => {
  swtpm = await startSwtpm();
  createPrimary(swtpm);
  makePersistent(swtpm);
});
after(async () => {
  await swtpm.stop();
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'enroll-'));
  mkdirSync(at('vault'));
  settings('[host.web1]\n[host.web2]\n');
  makeRoot('web1');
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const device = (): string => `--tpm2-device=${swtpm.device}`;

describe('on a machine', () => {
  test('prints one line of its public halves', () => {
    const { stdout } = works(on('web1', device()));
    assert.match(stdout, /^\{[^\n]*\}\n$/);
    const said: { host: string; sshHostKey: string; tpm: { device: string; srk: string; pcrs?: unknown } } =
      JSON.parse(stdout);
    assert.equal(said.host, 'web1');
    const wire = readFileSync(at('web1/etc/ssh/ssh_host_ed25519_key.pub'), 'utf8').split(' ')[1] ?? '';
    assert.equal(said.sshHostKey, Buffer.from(wire, 'base64').subarray(-32).toString('base64'));
    assert.equal(said.tpm.device, swtpm.device);
    assert.equal(said.tpm.pcrs, undefined, 'those of an installer are not its own');
    swtpm.tool('tpm2_readpublic', '-c', '0x81000001', '-o', 'srk.pub');
    assert.equal(said.tpm.srk, readFileSync(join(swtpm.folder, 'srk.pub')).toString('base64'));
  });

  test('says which keys it lacks, and needs at least one', () => {
    assert.match(works(on('web1')).stderr, /this machine has no TPM/);
    fails(on('web1', '--tpm2-device=swtpm:path=/nonexistent'), 'no-tpm', /can't be opened/);
    rmSync(at('web1/etc/ssh/ssh_host_ed25519_key'));
    assert.match(
      works(on('web1', device())).stderr,
      /warning: this machine has no ssh-ed25519 host key at .*\nauxcred: hint: ssh-keygen -A/,
    );
    fails(on('web1'), 'no-recipient', /neither an ssh-ed25519 host key nor a TPM/);
    mkdirSync(at('nameless'));
    fails(on('nameless', device()), 'usage', /etc\/hostname is missing or empty/);
    fails(on('web1', '--from=-'), 'usage', /--from needs the name of a host in the vault/);
  });
});

describe('in the vault', () => {
  test("stores a machine's enrollment, and shows it", () => {
    const { stderr } = works(operator(works(on('web1', device())).stdout, 'web1', '--from=-'));
    assert.match(
      stderr,
      new RegExp(
        `^auxcred: enrolled web1: ssh host key ${fingerprint('web1').replaceAll('+', '\\+')}, SRK 000b[0-9a-f]{16}, EK [0-9a-f]{16}$`,
        'm',
      ),
    );
    assert.equal(statSync(at('vault/enrolled')).mode & 0o777, 0o700);
    const { stdout } = works(operator('', 'web1'));
    const name = /^name: ([0-9a-f]+)$/m.exec(swtpm.tool('tpm2_readpublic', '-c', '0x81000001'))?.[1] ?? '';
    const [heading, row] = stdout.trimEnd().split('\n');
    assert.match(heading ?? '', /^HOST +SSH HOST KEY +SRK +EK +SINCE$/);
    assert.deepEqual((row ?? '').split(/ +/).slice(0, 3), ['web1', fingerprint('web1'), name]);
    assert.match(row ?? '', / {2}\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    const shown: unknown = JSON.parse(works(operator('', 'web1', '--json')).stdout);
    assert.ok(shown !== null && typeof shown === 'object' && 'srk' in shown && shown.srk === name);
  });

  test('refuses another machine under the same name, until told to replace it', () => {
    writeFileSync(at('web1.json'), works(on('web1', device())).stdout);
    works(operator('', 'web1', `--from=${at('web1.json')}`));
    const before = readFileSync(at('vault/enrolled/web1.json'), 'utf8');
    // Enrolled again, or booted differently, it is the same machine.
    works(operator('', 'web1', `--from=${at('web1.json')}`));
    const old = fingerprint('web1');
    rmSync(at('web1'), { recursive: true });
    makeRoot('web1');
    const other = works(on('web1')).stdout;
    fails(
      operator(other, 'web1', '--from=-'),
      'refused',
      /this is not the machine that was enrolled as web1: its ssh host key is SHA256:\S+, not SHA256:\S+; its SRK is none, not 000b[0-9a-f]{64}; its EK is none, not [0-9a-f]{64}\nauxcred: hint: find out why; --replace/,
    );
    assert.ok(readFileSync(at('vault/enrolled/web1.json'), 'utf8').includes(JSON.parse(before).machine.sshHostKey));
    const { stderr } = works(operator(other, 'web1', '--from=-', '--replace'));
    assert.match(stderr, /replaced: its ssh host key is SHA256:/);
    assert.ok(!stderr.includes(`enrolled web1: ssh host key ${old}`));
    assert.match(works(operator('', 'web1')).stdout, /^web1 +SHA256:\S+ +none /m);
  });

  test('the first push to a fleet reads no enrollment for each of the others', (t) => {
    const names = Array.from({ length: 30 }, (_, i) => `h${String(i)}`);
    const vault = vaultOf(at('fleet'), Buffer.from(names.map((name) => `[host.${name}]\n`).join('')));
    const { mock } = t.mock.method(fs, 'readFileSync');
    syncBuiltinESMExports();
    try {
      for (const [i, host] of names.entries())
        writeEnrolled(vault, host, { host, sshHostKey: new Uint8Array(32).fill(i), tpm: undefined });
      assert.ok(mock.callCount() <= 2 * names.length, String(mock.callCount()));
    } finally {
      mock.restore();
      syncBuiltinESMExports();
    }
  });

  test('refuses an enrollment of another host, and what is not one', () => {
    const said = works(on('web1', device())).stdout;
    fails(
      operator(said, 'web2', '--from=-'),
      'refused',
      /that enrollment is for web1, not web2\nauxcred: hint: .*auxcred enroll --name=web2 there/,
    );
    const sameKey = /warning: web2 has the same ssh host key as web1: what is sealed to one opens on the other\n/;
    const copied = works(on('web1', device(), '--name=web2')).stdout;
    assert.doesNotMatch(works(operator(copied, 'web2', '--from=-')).stderr, /same ssh host key/);
    works(operator(said, 'web1', '--from=-'));
    assert.match(works(operator(copied, 'web2', '--from=-')).stderr, sameKey);
    rmSync(at('vault/enrolled/web1.json'));
    fails(operator(said, 'web3', '--from=-'), 'not-found', /knows no host web3/);
    fails(
      operator('root@web1: permission denied', 'web1', '--from=-'),
      'malformed',
      /standard input is not JSON\nauxcred: hint: run auxcred enroll on the machine again/,
    );
    fails(operator('', 'web1', '--from=-'), 'malformed', /standard input is not JSON/);
    fails(
      operator('', 'web1'),
      'not-found',
      /web1 is not enrolled\nauxcred: hint: ssh root@web1 auxcred enroll \| auxcred enroll web1 --from=-/,
    );
    fails(
      operator('', 'web1', device()),
      'usage',
      /--tpm2-device is for this machine, but a host of the vault is named/,
    );
    writeFileSync(at('vault/enrolled/web2.json'), '{}');
    fails(operator('', 'web2'), 'malformed', /enrolled\/web2\.json: version/);
    fails(operator(said, 'web2', '--from=-'), 'refused', /that enrollment is for web1/);
    const web2 = works(on('web1', device(), '--name=web2')).stdout;
    fails(operator(web2, 'web2', '--from=-'), 'malformed', /hint: auxcred enroll HOST --replace --from=FILE/);
    works(operator(web2, 'web2', '--from=-', '--replace'));
    copyFileSync(at('vault/enrolled/web2.json'), at('vault/enrolled/web1.json'));
    fails(operator('', 'web1'), 'malformed', /enrolled\/web1\.json is the enrollment of web2, not of web1/);
  });

  test('says what the vault asks for and the host lacks, and which PCRs changed', () => {
    settings('[host.web1]\nwith-key = "tpm2+host"\ntpm2-pcrs = "7+14"\n');
    assert.match(
      works(operator(works(on('web1')).stdout, 'web1', '--from=-')).stderr,
      /with-key = "tpm2\+host" needs a TPM, which web1 does not have/,
    );
    const installing = works(on('web1', device())).stdout;
    // A TPM that was not known before does not make it another machine.
    assert.match(
      works(operator(installing, 'web1', '--from=-')).stderr,
      /web1 is being installed: PCR 7\+14 will be bound at its first boot/,
    );
    const booted = (seven: string): string => {
      const said: { tpm: object } = JSON.parse(installing);
      return JSON.stringify({ ...said, tpm: { ...said.tpm, pcrs: { 7: seven.repeat(32), 14: '00'.repeat(32) } } });
    };
    assert.match(
      works(operator(booted('a7'), 'web1', '--from=-')).stderr,
      /^auxcred: warning: PCR 14 of web1 has never been extended/,
    );
    assert.match(
      works(operator(booted('a8'), 'web1', '--from=-')).stderr,
      /^auxcred: PCR 7 changed since the last enrollment$/m,
    );
    settings('[host.web1]\nwith-key = "tpm2"\ntpm2-pcrs = "7+13"\n');
    assert.match(
      works(operator(booted('a8'), 'web1', '--from=-')).stderr,
      /warning: the TPM of web1 has no SHA-256 value for PCR 13\nauxcred: hint: enable the SHA-256 bank/,
    );
    settings('[host.web1]\nwith-key = "tpm2"\n');
    assert.match(
      works(operator(booted('a8'), 'web1', '--from=-')).stderr,
      /warning: no PCR is bound: anything that boots on web1 can open the seed\nauxcred: hint: tpm2-pcrs = "4\+7"/,
    );
  });

  test('commits it, since it is public', () => {
    const git = (...args: string[]): string =>
      spawnSync('git', ['-C', at('vault'), ...args], { encoding: 'utf8' }).stdout;
    git('init', '-q');
    const said = works(on('web1', device())).stdout;
    works(operator(said, 'web1', '--from=-'));
    assert.equal(git('log', '--format=%s').trim(), 'Enroll web1');
    assert.equal(
      git('ls-files').trim(),
      '.gitignore\nenrolled/web1.json',
      "and git's ignore list in a vault that was created without git",
    );
    settings('git = false\n[host.web1]\n');
    works(operator(said, 'web1', '--from=-'));
    assert.equal(git('log', '--format=%s').trim(), 'Enroll web1');
  });
});

describe('vault.toml', () => {
  test('says what each host is sealed to', () => {
    const [one, other, plain] = ['age1q', 'age1p', 'age1z'];
    const { hosts } = vaultOf(
      '/vault',
      Buffer.from(
        `recipients = ["${one}"]\n[host.web1]\nwith-key = "tpm2+host"\ntpm2-pcrs = "14+7"\n` +
          `recipients = ["${other}", "${one}", "${plain}"]\n[host.web2]\n`,
      ),
    );
    const sealing = (name: string): unknown => {
      const host = hosts.get(name);
      return host && { withKey: host.withKey, pcrs: host.pcrs, recipients: host.recipients };
    };
    assert.deepEqual(sealing('web1'), { withKey: 'tpm2+host', pcrs: [7, 14], recipients: [one, other, plain] });
    assert.deepEqual(sealing('web2'), { withKey: 'host', pcrs: [], recipients: [one] });
  });

  for (const [text, says] of [
    ['[host.web1]\nwith-key = "tmp2"\n', /host\.web1\.with-key is not one of host, tpm2, tpm2\+host/],
    ['[host.web1]\nwith-key = "auto"\n', /with-key is not one of/],
    ['[host.web1]\ntpm2-pcrs = "7"\n', /tpm2-pcrs is not of use without with-key/],
    ['[host.web1]\nwith-key = "tpm2"\ntpm2-pcrs = "7,14"\n', /tpm2-pcrs is not possible: 7,14 is not a list of PCRs/],
    ['[host.web1]\nwith-key = "tpm2"\ntpm2-pcrs = "7+11"\n', /tpm2-pcrs is not possible: PCR 11 changes during boot/],
    ['[host.web1]\nrecipients = ["ssh-ed25519 AAAA"]\n', /host\.web1\.recipients\[0\] is not an age recipient/],
    ['recipients = "age1x"\n[host.web1]\n', /recipients is not a list/],
    ['[host.web1]\nwith_key = "tpm2"\n', /has no key host\.web1\.with_key\n/],
  ] as const)
    test(`with ${JSON.stringify(text)} is refused`, () => {
      settings(text);
      fails(operator('', 'web1'), 'malformed', says);
    });
});
