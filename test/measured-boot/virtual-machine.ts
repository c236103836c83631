import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Files of a machine that is switched off: what an owner, or a thief, has in hands. */
export interface Parts {
  readonly disk: string;
  /** The firmware's variables. */
  readonly variables: string;
  /** The TPM's state; no TPM if undefined. */
  readonly tpm?: string | undefined;
  /** Whether the firmware knows Secure Boot. */
  readonly secureBoot: boolean;
  /** Strings of SMBIOS type 11. */
  readonly host: readonly string[];
}

export interface Answer {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A boot takes 40 s on two quiet cores, and four times that beside other tests. Only one that hangs takes as long. */
const bootLimitMs = Number(process.env['AUXCRED_TEST_BOOT_SECONDS'] ?? 600) * 1000;

const hopeless = /EFI Internal Shell|Kernel panic|emergency mode|Security Violation|Access Denied|BdsDxe: failed/i;

const firmwareFolder = '/usr/share/OVMF';

/** A machine that is on: QEMU without KVM, its firmware, and swtpm. All of it ends with this process. */
export class VirtualMachine {
  readonly #folder: string;
  readonly #qemu: ChildProcess;
  readonly #tpm: ChildProcess | undefined;
  readonly #agent: Socket;
  /** What waits for a line of the agent. */
  readonly #waiting = new Set<(line: string | undefined) => boolean>();
  #commands = 0;

  private constructor(folder: string, qemu: ChildProcess, tpm: ChildProcess | undefined, agent: Socket) {
    this.#folder = folder;
    this.#qemu = qemu;
    this.#tpm = tpm;
    this.#agent = agent;
    let text = '';
    agent.on('data', (chunk: Buffer) => {
      const lines = (text + chunk.toString()).split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) this.#heard(line);
    });
    agent.on('error', () => undefined);
    agent.on('close', () => this.#heard(undefined));
  }

  /**
   * Switches it on, and waits for nothing.
   * @param folder - for sockets and logs; short, since a socket's path has at most 107 bytes
   */
  static async on(folder: string, parts: Parts): Promise<VirtualMachine> {
    mkdirSync(folder, { recursive: true });
    const sockets = ['tpm', 'agent'].map((name) => join(folder, name));
    for (const socket of sockets) rmSync(socket, { force: true });
    const [tpmSocket = '', agentSocket = ''] = sockets;
    const tpm = parts.tpm === undefined ? undefined : startTpm(folder, parts.tpm, tpmSocket);
    if (tpm !== undefined) await exists(tpmSocket, tpm);
    writeFileSync(join(folder, 'console'), '');
    const qemu = spawnLinked(folder, 'qemu-system-x86_64', qemuArguments(folder, parts, tpmSocket, agentSocket));
    await exists(agentSocket, qemu);
    const agent = connect(agentSocket);
    await once(agent, 'connect');
    return new VirtualMachine(folder, qemu, tpm, agent);
  }

  get console(): string {
    return readFileSync(join(this.#folder, 'console'), 'latin1');
  }

  /** Processor seconds that the emulation took so far. */
  get processorSeconds(): number {
    const fields = readFileSync(`/proc/${String(this.#qemu.pid)}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    // proc_pid_stat(5): utime and stime in ticks of 10 ms.
    return Math.round((Number(fields[11]) + Number(fields[12])) / 100);
  }

  /** Waits until the agent says that it is up: early, beside the units of sysinit.target. @returns the boot's id */
  async up(): Promise<string> {
    const from = this.console.length;
    const line = await this.#line(
      (said) => said.startsWith('up '),
      bootLimitMs,
      () => this.console.slice(from),
    );
    return line.slice('up '.length);
  }

  /** Waits until a boot whose agent is up has finished. @returns what `systemctl is-system-running` says */
  async settled(): Promise<string> {
    return (await this.run('systemctl is-system-running --wait || true', { timeoutMs: bootLimitMs })).stdout.trim();
  }

  /** Runs a script as root with `bash -eu`. @throws Error if its status isn't 0, unless `check` is false */
  async run(script: string, options: { check?: boolean; timeoutMs?: number } = {}): Promise<Answer> {
    const id = String(++this.#commands);
    this.#agent.write(`${id} ${Buffer.from(script).toString('base64')}\n`);
    const line = await this.#line((said) => said.startsWith(`${id} `), options.timeoutMs ?? 300_000);
    const [, status = '', stdout = '', stderr = ''] = line.split(' ');
    const decode = (text: string): string => Buffer.from(text, 'base64').toString();
    const answer = { status: Number(status), stdout: decode(stdout), stderr: decode(stderr) };
    if (answer.status !== 0 && options.check !== false)
      throw new Error(`${script}: exit status ${status}\n${answer.stderr}${answer.stdout}`);
    return answer;
  }

  /** Starts a script and does not wait for its end. */
  begin(script: string): void {
    this.#agent.write(`${String(++this.#commands)} ${Buffer.from(script).toString('base64')}\n`);
  }

  /** Reboots in good order. The firmware starts again with the same disk and TPM. @returns as `settled` */
  async reboot(): Promise<string> {
    this.begin('systemctl reboot --no-block');
    await this.up();
    return await this.settled();
  }

  /** Powers off in good order. */
  async off(): Promise<void> {
    const ended = ending(this.#qemu);
    this.begin('systemctl poweroff --no-block');
    if ((await Promise.race([ended, sleep(bootLimitMs, 'late', { ref: false })])) === 'late')
      throw new Error(`the machine does not power off\n${this.console.slice(-2000)}`);
    await this.cut();
  }

  /** Ends it as a power cut does: neither the system nor the TPM is told. */
  async cut(): Promise<void> {
    this.#agent.destroy();
    for (const child of [this.#qemu, this.#tpm]) {
      if (child === undefined) continue;
      const ended = ending(child);
      child.kill('SIGKILL');
      await ended;
    }
  }

  #heard(line: string | undefined): void {
    for (const wants of this.#waiting) if (wants(line)) this.#waiting.delete(wants);
  }

  async #line(isIt: (line: string) => boolean, limitMs: number, said = (): string => ''): Promise<string> {
    const { promise, resolve, reject } = withResolvers<string>();
    const give = (reason: string): void => {
      reject(new Error(`${reason}\n${this.console.slice(-3000)}`));
    };
    const limit = setTimeout(give, limitMs, `the machine says nothing for ${String(limitMs / 1000)} s`);
    const watch = setInterval(() => {
      const bad = hopeless.exec(said());
      if (bad !== null) give(`the machine can't boot: ${bad[0]}`);
    }, 500);
    const wants = (line: string | undefined): boolean => {
      if (line === undefined) give('the machine went off');
      else if (isIt(line)) resolve(line);
      else return false;
      return true;
    };
    this.#waiting.add(wants);
    try {
      return await promise;
    } finally {
      this.#waiting.delete(wants);
      clearTimeout(limit);
      clearInterval(watch);
    }
  }
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: Error) => void } {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<T>((done, fail) => {
    resolve = done;
    reject = fail;
  });
  return { promise, resolve, reject };
}

async function ending(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

/**
 * A child that ends with this process even when that is killed: setpriv asks the kernel for it. It goes before other
 * tests, which have something else to do while they wait: the firmware and the kernel poll, and so use more processor
 * time the longer they take.
 */
function spawnLinked(folder: string, command: string, args: readonly string[]): ChildProcess {
  const log = openSync(join(folder, `${command}.log`), 'w');
  const first = ['--pdeathsig', 'KILL', 'nice', '--adjustment=-15'];
  return spawn('setpriv', [...first, command, ...args], { stdio: ['ignore', log, log] });
}

async function exists(socket: string, child: ChildProcess): Promise<void> {
  while (!existsSync(socket)) {
    if (child.exitCode !== null) throw new Error(`${child.spawnargs.slice(5).join(' ')} ended: see its log`);
    await sleep(10);
  }
}

function startTpm(folder: string, state: string, socket: string): ChildProcess {
  mkdirSync(state, { recursive: true });
  return spawnLinked(folder, 'swtpm', [
    'socket',
    '--tpm2',
    '--tpmstate',
    `dir=${state}`,
    '--ctrl',
    `type=unixio,path=${socket}`,
  ]);
}

function qemuArguments(folder: string, parts: Parts, tpm: string, agent: string): string[] {
  const secure = parts.secureBoot;
  const code = join(firmwareFolder, secure ? 'OVMF_CODE_4M.secboot.fd' : 'OVMF_CODE_4M.fd');
  return [
    ['-machine', `q35,smm=${secure ? 'on' : 'off'},vmport=off,hpet=off`],
    // Where KVM works, `AUXCRED_TEST_ACCELERATOR=kvm` makes a boot take seconds.
    ['-accel', process.env['AUXCRED_TEST_ACCELERATOR'] ?? 'tcg,thread=multi,tb-size=256'],
    ['-cpu', 'max', '-smp', '2', '-m', '1024'],
    ['-nodefaults', '-no-user-config', '-display', 'none', '-boot', 'menu=off'],
    ...(secure ? [['-global', 'driver=cfi.pflash01,property=secure,value=on']] : []),
    ['-drive', `if=pflash,format=raw,unit=0,readonly=on,file=${code}`],
    ['-drive', `if=pflash,format=raw,unit=1,file=${parts.variables}`],
    ['-drive', `if=none,id=disk,format=raw,cache=unsafe,file=${parts.disk}`],
    ['-device', 'virtio-blk-pci,drive=disk,bootindex=1', '-device', 'virtio-rng-pci'],
    ...(parts.tpm === undefined
      ? []
      : [
          ['-chardev', `socket,id=tpm,path=${tpm}`, '-tpmdev', 'emulator,id=tpm,chardev=tpm'],
          ['-device', 'tpm-crb,tpmdev=tpm'],
        ]),
    ...parts.host.map((value) => ['-smbios', `type=11,value=${value}`]),
    ['-device', 'virtio-serial-pci', '-chardev', `socket,id=agent,path=${agent},server=on,wait=off`],
    ['-device', 'virtserialport,chardev=agent,name=agent'],
    ['-chardev', `file,id=console,path=${join(folder, 'console')},append=on`, '-serial', 'chardev:console'],
  ].flat();
}
