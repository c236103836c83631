import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { debianPackage } from '../auxcred-machine.ts';
import { lock } from '../machine/lock.ts';
import { cacheFolder, execute } from '../machine/root.ts';
import { startSwtpm } from '../swtpm.ts';
import { sealInMachine, signedPolicy } from './cases.ts';
import { cached, fileHash, type ImageName, type MeasuredSystem, measuredSystem, script } from './system.ts';
import { type Answer, VirtualMachine } from './virtual-machine.ts';

/** What a unit's probe found when the unit started. */
export interface Probe {
  /** Digests of its credentials, by name. */
  readonly credentials: Readonly<Record<string, string>>;
  readonly pcrs: Readonly<Record<string, string>>;
}

export type Probes = Readonly<Record<string, Probe>>;

/** A machine that is off, and what its probes found when it was sealed: nothing if it is not yet. */
export interface Start {
  readonly machine: MeasuredMachine;
  readonly first: Probes;
}

export interface Power {
  /** Firmware that knows Secure Boot; the machine then has variables of its own for it. */
  readonly secureBoot?: boolean;
  readonly withoutTpm?: boolean;
  /** Strings of SMBIOS type 11, with which a host talks to systemd-stub. */
  readonly host?: readonly string[];
}

const prefix = 'auxcred-vm-';

/**
 * A computer with auxcred on its disk: its parts in a temporary folder, and what runs on them while it is on. One
 * machine of this host is on at a time, whichever process it belongs to.
 */
export class MeasuredMachine implements AsyncDisposable {
  readonly system: MeasuredSystem;
  readonly #folder: string;
  #on: VirtualMachine | undefined;
  #turn: AsyncDisposable | undefined;

  private constructor(system: MeasuredSystem, folder: string) {
    this.system = system;
    this.#folder = folder;
  }

  /** A new machine with Debian and auxcred's package on its disk. It was never on. */
  static async installed(): Promise<Start> {
    const machine = new MeasuredMachine(await measuredSystem(), temporaryFolder());
    try {
      await machine.#install();
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
    return { machine, first: {} };
  }

  /**
   * One that was on once, sealed to the signed images of its owner and to PCR 7; from the cache if this program
   * was sealed there before.
   * @returns the machine, switched off, and what its probes found
   */
  static async sealed(): Promise<Start> {
    const system = await measuredSystem();
    const scripts = ['file-system.sh', 'disk.sh'].map(script);
    const hash = fileHash(debianPackage(), join(system.folder, 'installed.efi'), ...scripts);
    const parts = await cached('measured-disk', hash, async (folder) => {
      await using made = (await MeasuredMachine.installed()).machine;
      const state = await made.on();
      if (state !== 'running') throw new Error(`the first boot is ${state}\n${await made.failed()}`);
      await sealInMachine(made, signedPolicy);
      await made.off();
      await copyParts(made.#folder, folder);
    });
    const machine = new MeasuredMachine(system, temporaryFolder());
    await copyParts(parts, machine.#folder);
    return { machine, first: parseProbes(readFileSync(machine.#part('probes'), 'utf8')) };
  }

  async #install(): Promise<void> {
    const fileSystem = this.#part('root.ext4');
    await execute('age-keygen', ['-o', this.#part('recovery.txt')]);
    copyFileSync('/usr/share/OVMF/OVMF_VARS_4M.fd', this.#part('variables'));
    await this.otherTpm();
    await execute(script('file-system.sh'), [this.system.root, debianPackage(), fileSystem]);
    await execute(script('disk.sh'), [fileSystem, this.system.folder, this.#part('disk')]);
    rmSync(fileSystem);
  }

  #part(name: string): string {
    return join(this.#folder, name);
  }

  /** The owner's recovery key, an age identity. It is nowhere on the machine. */
  get recovery(): string {
    return readFileSync(this.#part('recovery.txt'), 'utf8');
  }

  get recipient(): string {
    return /age1\w+/.exec(this.recovery)?.[0] ?? '';
  }

  /** Switches it on and waits until its agent is up, which is early in the boot. */
  async begin(power: Power = {}): Promise<void> {
    this.#turn ??= await lock(join(cacheFolder, 'virtual-machine.lock'));
    const variables = this.#part(power.secureBoot === true ? 'secure-variables' : 'variables');
    if (!existsSync(variables)) copyFileSync('/usr/share/OVMF/OVMF_VARS_4M.fd', variables);
    this.#on = await VirtualMachine.on(this.#part('on'), {
      disk: this.#part('disk'),
      variables,
      tpm: power.withoutTpm === true ? undefined : this.#part('tpm/state'),
      secureBoot: power.secureBoot ?? false,
      host: power.host ?? [],
    });
    await this.#on.up();
  }

  /** Switches it on and waits until it has booted. @returns what `systemctl is-system-running` says */
  async on(power: Power = {}): Promise<string> {
    const started = Date.now();
    await this.begin(power);
    const upAfter = Date.now();
    const state = await this.#running.settled();
    // A log line, since what a boot costs decides how many a test may have.
    const seconds = (from: number): string => String(Math.round((Date.now() - from) / 1000));
    const cost = `${seconds(upAfter)} s after the agent, ${String(this.#running.processorSeconds)} s of processor`;
    console.error(`booted in ${seconds(started)} s, ${cost}: ${state}`);
    return state;
  }

  /** Reboots in good order. @returns as `on` */
  async reboot(): Promise<string> {
    return await this.#running.reboot();
  }

  async off(): Promise<void> {
    await this.#running.off();
    await this.#isOff();
  }

  /** A power cut: neither the system nor the TPM is told. */
  async cut(): Promise<void> {
    await this.#running.cut();
    await this.#isOff();
  }

  async run(script: string, options?: { check?: boolean; timeoutMs?: number }): Promise<Answer> {
    return await this.#running.run(script, options);
  }

  /** Starts a script in the machine and does not wait for its end. */
  start(script: string): void {
    this.#running.begin(script);
  }

  get console(): string {
    return this.#running.console;
  }

  /**
   * What the manual tells the owner to do whose machine can't open its seed any more: seal it again with the recovery
   * key. The units that failed are started then.
   */
  async recover(options = ''): Promise<void> {
    await this.run(`umask 077; cat > /run/recovery.txt << 'END'\n${this.recovery}END`);
    await this.run(`auxcred reseal --identity=/run/recovery.txt ${options}; rm /run/recovery.txt`);
    await this.run('systemctl reset-failed; systemctl restart early normal late');
  }

  /** What a unit of this boot wrote into the journal. */
  async said(unit: string): Promise<string> {
    return (await this.run(`journalctl -b -o cat --no-pager -u '${unit}'`)).stdout;
  }

  /** Why this boot is not well: the units that failed, and what they and the broker wrote. */
  async failed(): Promise<string> {
    const script = `systemctl --failed --no-pager
      for unit in $(systemctl --failed --plain --no-legend | cut -d ' ' -f 1) auxcred.service; do
        journalctl -b --no-pager -u "$unit"
      done`;
    return (await this.run(script, { check: false })).stdout;
  }

  /** What the probes found: `early`, `normal` and `late`; those whose unit did not start are missing. */
  async probes(): Promise<Probes> {
    const { stdout } = await this.run('cd /run/probe 2> /dev/null && grep -H . * || true');
    writeFileSync(this.#part('probes'), stdout);
    return parseProbes(stdout);
  }

  /** Puts an image on the ESP of the machine that is off, in the place of the one that boots. */
  async boots(image: ImageName): Promise<void> {
    await this.place(join(this.system.folder, `${image}.efi`), 'EFI/Linux/system.efi');
  }

  /** Puts a file on the ESP of the machine that is off. */
  async place(file: string, path: string): Promise<void> {
    await execute('mcopy', ['-o', '-i', `${this.#part('disk')}@@1M`, file, `::/${path}`]);
  }

  /** Makes a folder on the ESP of the machine that is off. */
  async makeFolder(path: string): Promise<void> {
    await execute('mmd', ['-i', `${this.#part('disk')}@@1M`, `::/${path}`]);
  }

  /** Puts the disk into a machine with another TPM. */
  async otherTpm(): Promise<void> {
    rmSync(this.#part('tpm'), { recursive: true, force: true });
    const tpm = await startSwtpm({ folder: this.#part('tpm') });
    try {
      // The firmware hashes an image for each bank, in an emulated processor.
      tpm.tool('tpm2_pcrallocate', 'sha1:none+sha256:all+sha384:none+sha512:none');
      tpm.tool('tpm2_shutdown', '-c');
    } finally {
      await tpm.stop();
    }
  }

  /** Keeps the TPM as it is, for `returnTpm`. */
  async keepTpm(): Promise<void> {
    await execute('cp', ['--recursive', this.#part('tpm'), this.#part('kept-tpm')]);
  }

  /** Puts the kept TPM back. */
  async returnTpm(): Promise<void> {
    rmSync(this.#part('tpm'), { recursive: true, force: true });
    await execute('cp', ['--recursive', this.#part('kept-tpm'), this.#part('tpm')]);
  }

  /** Moves the root file system to a new disk, with a partition table and an ESP of its own. */
  async otherDisk(): Promise<void> {
    const fileSystem = this.#part('root.ext4');
    const megabytes = ['bs=1M', 'conv=sparse', 'status=none'];
    await execute('dd', [`if=${this.#part('disk')}`, `of=${fileSystem}`, 'skip=97', 'count=600', ...megabytes]);
    await execute(script('disk.sh'), [fileSystem, this.system.folder, this.#part('disk')]);
    rmSync(fileSystem);
  }

  /** Replaces the root file system by somebody else's, with the same system and program but none of the files. */
  async otherRoot(): Promise<void> {
    const fileSystem = this.#part('root.ext4');
    await execute(script('file-system.sh'), [this.system.root, debianPackage(), fileSystem]);
    const inPlace = ['bs=1M', 'seek=97', 'conv=notrunc', 'status=none'];
    await execute('dd', [`if=${fileSystem}`, `of=${this.#part('disk')}`, ...inPlace]);
    rmSync(fileSystem);
  }

  /** Clears the TPM as the firmware's setup does. */
  async clearTpm(): Promise<void> {
    const tpm = await startSwtpm({ folder: this.#part('tpm') });
    try {
      tpm.tool('tpm2_clear', '-c', 'platform');
      tpm.tool('tpm2_shutdown', '-c');
    } finally {
      await tpm.stop();
    }
  }

  /** Ends it, however it is, and removes its parts. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#on !== undefined) await this.cut();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  get #running(): VirtualMachine {
    if (this.#on === undefined) throw new Error('the machine is off');
    return this.#on;
  }

  async #isOff(): Promise<void> {
    this.#on = undefined;
    await this.#turn?.[Symbol.asyncDispose]();
    this.#turn = undefined;
  }
}

function parseProbes(text: string): Probes {
  const found: Record<string, { credentials: Record<string, string>; pcrs: Record<string, string> }> = {};
  for (const [, unit = '', kind, name = '', value = ''] of text.matchAll(/^(\w+):(credential|pcr) (\S+) (\S+)$/gm)) {
    const probe = (found[unit] ??= { credentials: {}, pcrs: {} });
    probe[kind === 'pcr' ? 'pcrs' : 'credentials'][name] = value;
  }
  return found;
}

async function copyParts(from: string, to: string): Promise<void> {
  for (const name of ['disk', 'variables', 'tpm', 'recovery.txt', 'probes'])
    await execute('cp', ['--recursive', '--sparse=always', join(from, name), to]);
}

/** A folder whose name says which process it belongs to. Removes those of processes that were killed. */
function temporaryFolder(): string {
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(prefix)))
    if (!existsSync(`/proc/${name.slice(prefix.length).split('-')[0] ?? ''}`))
      rmSync(join(tmpdir(), name), { recursive: true, force: true });
  return mkdtempSync(join(tmpdir(), `${prefix}${String(process.pid)}-`));
}
