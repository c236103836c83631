import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Container,
  type RunOptions,
  type RunResult,
  rebootStatus,
  runInContainer,
  runInRoot,
  startContainer,
} from './container.ts';
import { createCable, createLayer, createNetwork, discardLayer, type Layer, networkPath } from './layer.ts';
import { debianRoot, installedRoot, type SystemdVersion } from './root.ts';

/** A TPM that answers on a socket in the folder it was started with. */
export interface RunningTpm {
  /** A TCTI string, valid on this host and in the machine alike. */
  readonly device: string;
  stop(): Promise<void>;
}

export interface MachineOptions {
  readonly systemd: SystemdVersion;
  /** The host name; `machine` if not given. */
  readonly name?: string;
  /** Whether cables can be put in (`connect`); without it there is no network. */
  readonly network?: boolean;
  /** Folders of this host that the machine can only read while it is on, by their path in the machine. */
  readonly readOnlyBinds?: Readonly<Record<string, string>>;
  /** System calls that the machine is allowed beyond those that systemd-nspawn allows by itself. */
  readonly systemCalls?: readonly string[];
  /**
   * Switches the machine's TPM on, before each boot: Startup(CLEAR), then what firmware would measure. Its state stays
   * in `folder`.
   */
  readonly tpm?: (folder: string) => Promise<RunningTpm>;
  /** Path of a Debian package on this host that is installed already. */
  readonly installed?: string;
}

export interface BootOptions {
  readonly kernelArguments?: readonly string[];
  /** The program that becomes PID 1; the root's own systemd if not given. */
  readonly init?: string;
  /** Until when boot must have finished; 60 s if not given. */
  readonly timeoutMs?: number;
}

export type JournalEntry = Readonly<Record<string, unknown>>;

/** Why no machine can run here, to be given as a test's `skip`; never under CI, where such a test must fail instead. */
export const cannotBoot: string | false =
  process.env['CI'] === undefined && process.getuid?.() !== 0 ? 'containers need root' : false;

const machines = new Set<Layer>();

/**
 * Makes a machine of its own with its own host name, machine id and ssh host key, switched off, from a cached Debian
 * root. `destroy()` it; what a test forgets ends with the process, what a killed process left is removed when the next
 * machine is made.
 */
export async function createMachine(options: MachineOptions): Promise<Machine> {
  const base = await debianRoot(options.systemd);
  const { installed } = options;
  const above =
    installed === undefined
      ? []
      : [await installedRoot(options.systemd, installed, async (root) => await installPackage(root, installed))];
  const layer = await createLayer([...above, base]);
  cleanUpOnExit();
  machines.add(layer);
  if (options.network === true) createNetwork(layer);
  const name = options.name ?? 'machine';
  const hostKey = join(layer.root, 'etc/ssh/ssh_host_ed25519_key');
  writeFileSync(join(layer.root, 'etc/machine-id'), `${randomBytes(16).toString('hex')}\n`);
  writeFileSync(join(layer.root, 'etc/hostname'), `${name}\n`);
  writeFileSync(join(layer.root, 'etc/hosts'), `127.0.0.1 localhost ${name}\n::1 localhost\n`);
  mkdirSync(join(layer.root, 'etc/ssh'), { recursive: true });
  const keygen = spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', `root@${name}`, '-f', hostKey], {
    encoding: 'utf8',
  });
  if (keygen.status !== 0) throw new Error(`ssh-keygen failed: ${keygen.stderr}`);
  return new Machine(layer, name, options);
}

export class Machine {
  readonly name: string;
  readonly #layer: Layer;
  readonly #startTpm: MachineOptions['tpm'];
  readonly #readOnlyBinds: NonNullable<MachineOptions['readOnlyBinds']>;
  readonly #systemCalls: MachineOptions['systemCalls'];
  #container: Container | undefined;
  #tpm: RunningTpm | undefined;

  constructor(layer: Layer, name: string, options: Pick<MachineOptions, 'tpm' | 'readOnlyBinds' | 'systemCalls'>) {
    this.#layer = layer;
    this.name = name;
    this.#startTpm = options.tpm;
    this.#readOnlyBinds = options.readOnlyBinds ?? {};
    this.#systemCalls = options.systemCalls;
  }

  /**
   * Puts a cable to `other` in, with an IPv4 address of one /30 network at each end; each knows the other by its name
   * then. Before the first boot of both.
   */
  connect(port: string, address: string, other: Machine, otherAddress: string): void {
    createCable(port, [
      [this.#layer, address],
      [other.#layer, otherAddress],
    ]);
    appendFileSync(join(this.root, 'etc/hosts'), `${otherAddress} ${other.name}\n`);
    appendFileSync(join(other.root, 'etc/hosts'), `${address} ${this.name}\n`);
  }

  /** The root folder as this host sees it; of what runs in the machine, only read it while the machine is off. */
  get root(): string {
    return this.#layer.root;
  }

  /** The TPM as long as the machine is on. It serves one client at a time. */
  get tpm(): RunningTpm | undefined {
    return this.#tpm;
  }

  /** The machine's PID 1 as this host numbers it, while the machine is on. */
  get leader(): number | undefined {
    return this.#container?.leader;
  }

  /** The console's output since the machine was last switched on. */
  get console(): string {
    return this.#container?.console() ?? '';
  }

  /**
   * Switches the machine on and waits until boot has finished.
   * @returns what `systemctl is-system-running` says: `running`, or `degraded` if a unit failed
   * @throws Error with the console's text if boot doesn't finish in time
   */
  async boot(options: BootOptions = {}): Promise<string> {
    if (this.#container !== undefined) throw new Error(`${this.name} is on already`);
    const deadline = Date.now() + (options.timeoutMs ?? 60_000);
    const binds: string[] = [];
    if (this.#startTpm !== undefined) {
      this.#tpm = await this.#startTpm(this.#layer.shared);
      // As with a device node, the machine's own permissions decide who reaches it: here, everybody.
      for (const entry of readdirSync(this.#layer.shared, { withFileTypes: true }))
        if (entry.isSocket()) chmodSync(join(this.#layer.shared, entry.name), 0o666);
      binds.push(this.#layer.shared);
    }
    this.#container = await startContainer(
      this.#layer,
      {
        hostname: this.name,
        binds,
        readOnlyBinds: this.#readOnlyBinds,
        ...(this.#systemCalls === undefined ? {} : { systemCalls: this.#systemCalls }),
        init: options.init,
        network: existsSync(networkPath(this.#layer.id)) ? networkPath(this.#layer.id) : undefined,
        kernelArguments: options.kernelArguments ?? [],
      },
      deadline,
    );
    return await this.#bootFinished(deadline);
  }

  async #bootFinished(deadline: number): Promise<string> {
    const finished = ['running', 'degraded', 'maintenance'];
    for (let state = ''; ; await sleep(10)) {
      const left = deadline - Date.now();
      if (left > 0)
        state = (
          await this.run(['systemctl', 'is-system-running', '--wait'], { check: false, timeoutMs: left })
        ).stdout.trim();
      if (finished.includes(state)) return state;
      if (left <= 0) {
        const jobs = (await this.run(['systemctl', 'list-jobs', '--no-pager'], { check: false, timeoutMs: 5000 }))
          .stdout;
        throw new Error(`${this.name} did not finish booting in time: ${state}\n${jobs}\n${this.console}`);
      }
    }
  }

  /** Runs a command as root: in the running machine as a login shell would, or in its root folder while it is off. */
  async run(command: readonly string[], options?: RunOptions): Promise<RunResult> {
    if (this.#container === undefined) return await runInRoot(this.root, command, options);
    return await runInContainer(this.#container, command, options);
  }

  async shell(script: string, options?: RunOptions): Promise<RunResult> {
    return await this.run(['sh', '-euc', script], options);
  }

  async systemctl(...args: string[]): Promise<RunResult> {
    return await this.run(['systemctl', '--no-pager', ...args]);
  }

  /** What `systemctl show` says of a unit, by property; one that systemd doesn't know is missing. */
  async properties(unit: string, ...names: string[]): Promise<Readonly<Record<string, string>>> {
    const { stdout } = await this.systemctl('show', unit, ...names.map((name) => `--property=${name}`));
    return Object.fromEntries(
      stdout
        .split('\n')
        .filter((line) => line.includes('='))
        .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    );
  }

  /**
   * Waits until a unit's ActiveState is one of `states`; it throws with the unit's status and journal if it doesn't get
   * there.
   */
  async waitFor(unit: string, states: string | readonly string[], timeoutMs = 20_000): Promise<string> {
    const wanted = typeof states === 'string' ? [states] : states;
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const { ActiveState = '' } = await this.properties(unit, 'ActiveState');
      if (wanted.includes(ActiveState)) return ActiveState;
      if (Date.now() > deadline) {
        const status = await this.run(['systemctl', 'status', '--no-pager', '--full', '--lines=50', unit], {
          check: false,
        });
        throw new Error(
          `${unit} is ${ActiveState}, not ${wanted.join(' or ')}, after ${timeoutMs} ms\n${status.stdout}`,
        );
      }
      await sleep(30);
    }
  }

  /** The journal's entries, oldest first: `journal('-b', '-u', 'x.service')`. */
  async journal(...args: string[]): Promise<JournalEntry[]> {
    await this.run(['journalctl', '--sync'], { check: false });
    const { stdout } = await this.run(['journalctl', '--no-pager', '--quiet', '--all', '--output=json', ...args]);
    return stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const entry: unknown = JSON.parse(line);
        if (typeof entry !== 'object' || entry === null) throw new Error(`not a journal entry: ${line}`);
        return { ...entry };
      });
  }

  /** Writes a file, missing folders included, as the machine sees the path. */
  async write(path: string, content: string | Uint8Array, mode = 0o644): Promise<void> {
    await this.run(
      ['sh', '-euc', 'mkdir -p "$(dirname "$1")"; cat >"$1"; chmod "$2" "$1"', 'sh', path, mode.toString(8)],
      { input: content },
    );
  }

  async read(path: string): Promise<Buffer> {
    return (await this.run(['cat', path])).bytes;
  }

  /** Installs a Debian package of this host with apt and without network: what it depends on must be there already. */
  async install(debPath: string): Promise<void> {
    const inside = `/var/tmp/${basename(debPath)}`;
    await this.write(inside, readFileSync(debPath));
    await this.run(installation(inside), { timeoutMs: 120_000 });
    await this.run(['rm', inside]);
  }

  /** Powers off in good order. @throws Error if the machine is still on after 30 s, or wanted to reboot */
  async shutdown(): Promise<void> {
    const container = this.#on();
    container.powerOff();
    const status = await this.#off(container);
    if (status !== 0)
      throw new Error(`${this.name} ended with ${status} instead of powering off\n${container.console()}`);
  }

  /** Reboots in good order; the TPM starts afresh with it. */
  async reboot(options: BootOptions = {}): Promise<string> {
    const container = this.#on();
    await this.run(['systemctl', 'reboot', '--no-wall'], { check: false });
    const status = await this.#off(container);
    if (status !== rebootStatus)
      throw new Error(`${this.name} ended with ${status} instead of rebooting\n${container.console()}`);
    return await this.boot(options);
  }

  /** Pulls the plug. */
  async kill(): Promise<void> {
    const container = this.#on();
    container.kill();
    await this.#off(container);
  }

  /** Ends the machine, however it is, and removes all traces of it. May be called again. */
  async destroy(): Promise<void> {
    try {
      if (this.#container !== undefined) await this.kill();
      await this.#tpm?.stop();
    } finally {
      discardLayer(this.#layer.id);
      machines.delete(this.#layer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }

  #on(): Container {
    if (this.#container === undefined) throw new Error(`${this.name} is off`);
    return this.#container;
  }

  /** Waits for the container's end, and switches the TPM off with it. */
  async #off(container: Container): Promise<number | undefined> {
    const tooLong = AbortSignal.timeout(30_000);
    const status = await Promise.race([
      container.exited,
      new Promise<never>((_, reject) => {
        tooLong.addEventListener('abort', () => {
          reject(new Error(`${this.name} is still on after 30 s\n${container.console()}`));
        });
      }),
    ]);
    this.#container = undefined;
    await this.#tpm?.stop();
    this.#tpm = undefined;
    return status;
  }
}

/** Installs a package in the root folder of a machine that is off. */
async function installPackage(root: string, debPath: string): Promise<void> {
  const inside = `/var/tmp/${basename(debPath)}`;
  copyFileSync(debPath, join(root, inside));
  await runInRoot(root, installation(inside), { timeoutMs: 120_000 });
  rmSync(join(root, inside));
}

const installation = (debPath: string): string[] => [
  'apt-get',
  'install',
  '--quiet',
  '--yes',
  '--no-install-recommends',
  '--allow-downgrades',
  '--reinstall',
  '-o',
  'APT::Sandbox::User=root',
  '-o',
  'Dpkg::Use-Pty=0',
  debPath,
];

function cleanUpOnExit(): void {
  if (process.listeners('exit').includes(discardAll)) return;
  process.on('exit', discardAll);
  for (const [signal, number] of [
    ['SIGHUP', 1],
    ['SIGINT', 2],
    ['SIGTERM', 15],
  ] as const)
    process.once(signal, () => process.exit(128 + number));
}

function discardAll(): void {
  for (const { id } of machines) discardLayer(id);
}
