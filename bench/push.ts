/** Pushes to a hundred hosts over one real sshd. Each host is a root folder, chosen by the key of the login. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { secretToml } from '../test/auxcred-machine.ts';
import { compare, median, milliseconds, report, timeCommands, timed } from './report.ts';
import { auxcred, inScratch, must, run, startServer } from './scratch.ts';

const hosts = Array.from({ length: 100 }, (_, i) => `h${String(i)}`);
const few = hosts.slice(0, 25);
/** The parallel connections of a push, also used for the floor. */
const jobs = 16;

/** The operator, the hosts and the connection between them, all below one folder. */
class Fleet {
  readonly #folder: string;
  readonly ssh: readonly string[];

  constructor(folder: string) {
    this.#folder = folder;
    this.ssh = ['ssh', '-T', '-F', this.at('ssh')];
  }

  at(path: string): string {
    return join(this.#folder, path);
  }

  must(program: string, args: readonly string[], input = ''): string {
    return must(program, args, { HOME: this.#folder, AUXCRED_IDENTITY: this.at('identity') }, input);
  }

  #newKey(file: string): void {
    this.must('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', this.at(file)]);
  }

  /** @returns the line of authorized_keys that logs in to that host */
  #makeHost(host: string): string {
    this.#newKey(`keys/${host}`);
    for (const path of ['etc/ssh', 'etc/auxcred']) mkdirSync(this.at(`hosts/${host}/${path}`), { recursive: true });
    this.#newKey(`hosts/${host}/etc/ssh/ssh_host_ed25519_key`);
    writeFileSync(this.at(`hosts/${host}/etc/group`), 'root:x:0:\n');
    const command = `ROOT=${this.at(`hosts/${host}`)} ${this.at('login')}`;
    return `command="${command}" ${readFileSync(this.at(`keys/${host}.pub`), 'utf8').trim()}`;
  }

  #writePrograms(): void {
    const main = `'${process.execPath}' '${join(process.cwd(), 'dist/auxcred.cjs')}'`;
    const programs = {
      login: 'PATH="$(dirname "$0"):$PATH" exec sh -c "$SSH_ORIGINAL_COMMAND"',
      auxcred: `exec ${main} "$@" --root="$ROOT"`,
      sudo: 'shift; exec "$@"',
    };
    for (const [name, text] of Object.entries(programs))
      writeFileSync(this.at(name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  }

  /** Starts sshd, with the hosts behind it. @returns a function that stops it */
  async startServer(): Promise<() => void> {
    const port = await freePort();
    for (const path of ['keys', 'vault', 'hosts']) mkdirSync(this.at(path));
    this.#newKey('server');
    writeFileSync(this.at('authorized_keys'), `${hosts.map((host) => this.#makeHost(host)).join('\n')}\n`);
    this.#writePrograms();
    const server = [
      `ListenAddress 127.0.0.1:${String(port)}`,
      `HostKey ${this.at('server')}`,
      `AuthorizedKeysFile ${this.at('authorized_keys')}`,
      'StrictModes no',
      'UsePAM no',
      'PidFile none',
      'MaxStartups 200',
      'PermitRootLogin prohibit-password',
    ];
    const client = [
      'Host h*',
      'HostName 127.0.0.1',
      `Port ${String(port)}`,
      `User ${userInfo().username}`,
      `IdentityFile ${this.at('keys')}/%n`,
      'IdentitiesOnly yes',
      `UserKnownHostsFile ${this.at('known_hosts')}`,
      'HostKeyAlias bench',
      'BatchMode yes',
    ];
    writeFileSync(this.at('sshd'), `${server.join('\n')}\n`);
    writeFileSync(this.at('ssh'), `${client.join('\n')}\n`);
    writeFileSync(this.at('known_hosts'), `bench ${readFileSync(this.at('server.pub'), 'utf8')}`);
    if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
    const stop = startServer('/usr/sbin/sshd', ['-D', '-f', this.at('sshd')]);
    const [program = '', ...args] = this.ssh;
    for (let i = 0; i < 200 && spawnSync(program, [...args, 'h0', 'true']).status !== 0; i++) await sleep(50);
    return stop;
  }

  makeVault(): void {
    this.must('age-keygen', ['-o', this.at('identity')]);
    const recipient = this.must('age-keygen', ['-y', this.at('identity')]);
    const vault = `--vault=${this.at('vault')}`;
    run(auxcred('init', vault, `--recipient=${recipient}`));
    const settings = hosts.map((host) => `[host.${host}]\ngroups = ["all"]\ntarget = "${host}"\n`).join('');
    writeFileSync(this.at('vault/vault.toml'), `ssh = ${JSON.stringify(this.ssh)}\n${settings}`);
    for (const name of ['group/all/token', ...hosts.map((host) => `host/${host}/api`)])
      run(auxcred('put', name, vault), { AUXCRED_IDENTITY: this.at('identity') }, 'a token');
    mkdirSync(this.at('vault/all'));
    writeFileSync(
      this.at('vault/all/web.toml'),
      [
        secretToml('session', ['web.service']),
        secretToml('api', ['api.service'], { kind: 'fixed' }),
        secretToml('token', ['web.service'], { kind: 'fixed', share: 'all' }),
      ].join(''),
    );
  }

  /** Milliseconds of a push to these hosts. */
  push(names: readonly string[]): number {
    const args = ['push', `--vault=${this.at('vault')}`, '--manifest', `--jobs=${String(jobs)}`, ...names];
    const [program = '', ...argv] = auxcred(...args);
    return timed(() => {
      this.must(program, argv);
    });
  }

  /** Milliseconds that `ssh HOST true` takes per host. */
  bare(names: readonly string[]): number {
    const args = ['-P', String(jobs), '-I', '{}', ...this.ssh, '{}', 'true'];
    return (
      timed(() => {
        this.must('xargs', args, `${names.join('\n')}\n`);
      }) / names.length
    );
  }

  forget(names: readonly string[]): void {
    for (const host of names)
      for (const path of ['var', 'etc/auxcred']) rmSync(this.at(`hosts/${host}/${path}`), { recursive: true });
  }
}

export async function benchPush(): Promise<void> {
  await inScratch(async (folder) => {
    const fleet = new Fleet(folder);
    const stop = await fleet.startServer();
    try {
      fleet.makeVault();
      const some = fleet.push(few);
      fleet.forget(few);
      const all = fleet.push(hosts);
      const calm = median([1, 2, 3].map(() => fleet.push(hosts)));
      const floor = { peer: 'ssh HOST true', peerTook: median([1, 2, 3].map(() => fleet.bare(hosts))) };
      compare({ what: 'push, first, each of 100 hosts', took: all / hosts.length, ...floor });
      compare({ what: 'push, first, 100 hosts', took: all, peer: '25 hosts', peerTook: some, goal: 4.4 });
      compare({ what: 'push, nothing to do, each of 100 hosts', took: calm / hosts.length, ...floor });
      reportReceive(fleet);
    } finally {
      stop();
    }
  });
}

/** What auxcred adds to an ssh connection. */
function reportReceive({ ssh }: Fleet): void {
  const nothing = `echo '{"do":"nothing","protocol":1}' | ${ssh.join(' ')} h0 auxcred receive`;
  const { receive, bare } = timeCommands(11, { receive: ['sh', '-c', nothing], bare: [...ssh, 'h0', 'true'] });
  const more = receive - bare;
  report({
    what: 'receive, nothing to do',
    measured: `ssh HOST auxcred receive ${milliseconds(receive)}`,
    against: `ssh HOST true ${milliseconds(bare)}`,
    ratio: `+ ${milliseconds(more)}`,
    goal: `<= + 150 ms ${more <= 150 ? 'met' : 'MISSED'}`,
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise((resolve) => {
    server.close(resolve);
  });
  if (address === null || typeof address === 'string') throw new Error('no port is free');
  return address.port;
}
