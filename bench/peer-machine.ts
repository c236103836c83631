/** A machine in which several ways deliver the same secrets, each to units of its own that compare all of them. */
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { auxcredMachine, manifestPath, nameTpm, secretToml } from '../test/auxcred-machine.ts';
import type { Machine, RunningTpm } from '../test/machine/machine.ts';
import { type Swtpm, startSwtpm } from '../test/swtpm.ts';
import { must } from './scratch.ts';
import { auxcredHost, auxcredTpm, folders, forget, type Way } from './ways.ts';

/** Preparations take long where there are many secrets. */
const patience = { timeoutMs: 600_000 } as const;
/** The most credentials of one unit. systemd has a folder for them with room for fewer than 1,000 files. */
const perUnit = 100;

/** A unit of a way, and the secrets that it gets. */
interface PeerUnit {
  readonly name: string;
  readonly names: readonly string[];
  /** The checksums of these secrets. */
  readonly sums: string;
}
const isOurs = (way: Way): boolean => way === auxcredHost || way === auxcredTpm;

/** A TPM with an SRK, and PCR 7 measured. */
export async function tpmWithSrk(folder: string): Promise<Swtpm> {
  const swtpm = await startSwtpm({ folder, pcrs: { 7: ['a7'.repeat(32)] } });
  const attributes = 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt';
  swtpm.tool('tpm2_createprimary', '-C', 'o', '-G', 'ecc256:null:aes128cfb', '-a', attributes, '-c', 'srk.ctx');
  swtpm.tool('tpm2_flushcontext', '-t');
  swtpm.tool('tpm2_evictcontrol', '-C', 'o', '-c', 'srk.ctx', '0x81000001');
  return swtpm;
}

export interface PeerTpm extends RunningTpm {
  /** What systemd itself uses; `device` if not given. */
  readonly systemdDevice?: string;
}

export class PeerMachine {
  readonly machine: Machine;
  readonly #device: string;
  readonly #systemdDevice: string;
  readonly #ways: readonly Way[];
  #names: readonly string[] = [];
  #period = 1;

  private constructor(machine: Machine, tpm: PeerTpm, ways: readonly Way[]) {
    this.machine = machine;
    this.#device = tpm.device;
    this.#systemdDevice = tpm.systemdDevice ?? tpm.device;
    this.#ways = ways;
  }

  /** Calls `work` with a machine that is on, with a seed that is sealed to its host key. */
  static async use(
    ways: readonly Way[],
    startTpm: (folder: string) => Promise<PeerTpm>,
    work: (peers: PeerMachine) => Promise<void>,
  ): Promise<void> {
    let running: PeerTpm | undefined;
    const tpm = async (folder: string): Promise<RunningTpm> => (running = await startTpm(folder));
    const machine = await auxcredMachine({ systemd: 'peers', name: 'bench', tpm });
    try {
      await machine.boot();
      if (running === undefined) throw new Error('the machine has no TPM');
      const peers = new PeerMachine(machine, running, ways);
      await nameTpm(machine, peers.#systemdDevice);
      await machine.shell(`systemctl daemon-reexec; mkdir -p ${folders.rest} /usr/local/lib/peers`);
      await machine.run(['auxcred', 'seal', '--no-recovery']);
      await work(peers);
    } finally {
      await machine.destroy();
    }
  }

  /** The values that are compared are those that auxcred's own command prints, without the broker. */
  async declare(size: number): Promise<void> {
    const { machine } = this;
    this.#names = Array.from({ length: size }, (_, i) => `key-${String(i + 1)}`);
    this.#period = 1;
    await this.#writeManifest();
    await machine.shell(`rm -f /etc/systemd/system/peer-*.service ${folders.sums}*`);
    for (const way of this.#ways) await this.#writeUnits(way);
    await machine.run(['auxcred', 'apply'], patience);
    await machine.systemctl('daemon-reload');
    await machine.shell(`${forget}; rm -rf ${folders.values}; mkdir -p -m 700 ${folders.values}`);
    for (let i = 0; i < size; i += 100) {
      const some = this.#names.slice(i, i + 100).map((name) => `--file=${name}`);
      const copy = `cp -L "$CREDENTIALS_DIRECTORY"/* ${folders.values}`;
      await machine.run(['auxcred', 'run', ...some, '--', 'sh', '-c', copy], patience);
    }
    const sums = this.#unitsOf(auxcredHost).map((unit) => `sha256sum -- ${unit.names.join(' ')} > ${unit.sums}`);
    await machine.shell(`cd ${folders.values}; sha256sum -- * > ${folders.sums}; ${sums.join('; ')}`);
    await machine.shell(`test "$(cut -d ' ' -f 1 ${folders.sums} | sort -u | wc -l)" = ${String(size)}`);
  }

  /** @returns milliseconds */
  async store(way: Way): Promise<number> {
    return await this.timed(way.store);
  }

  async sealTo(key: 'host' | 'tpm2'): Promise<void> {
    const more = key === 'tpm2' ? [`--tpm2-device=${this.#device}`, '--tpm2-pcrs=7'] : [];
    this.#period = 1;
    await this.#writeManifest();
    await this.machine.run(['auxcred', 'reseal', `--with-key=${key}`, ...more]);
    await this.machine.run(['auxcred', 'provision'], patience);
  }

  /** @returns milliseconds from nothing running until every secret is there and was compared */
  async deliver(way: Way): Promise<number> {
    await this.#stopBroker();
    const units = this.#unitsOf(way).map(({ name }) => name);
    const journal = 'journalctl --no-pager --output=cat --lines=40 --unit="peer-*" --unit=auxcred.service';
    const start = (way.serial === true ? units : [units.join(' ')]).map((some) => `systemctl start ${some}`);
    return await this.timed(`{ ${start.join(' && ')}; } || { ${journal} >&2; exit 1; }`);
  }

  /** @returns milliseconds until the first secret is another one at rest */
  async rotate(way: Way): Promise<number> {
    if (isOurs(way)) {
      this.#period++;
      await this.#writeManifest();
    }
    return await this.timed(way.rotate);
  }

  /** @throws Error unless the first secret, and no other, is now delivered with another value */
  async checkRotated(way: Way): Promise<void> {
    await this.#stopBroker();
    const units = this.#unitsOf(way).map(({ name }) => name);
    await this.machine.shell(`for unit in ${units.join(' ')}; do systemctl start $unit || true; done`, patience);
    const said = (await this.machine.shell(`cat ${units.map((unit) => `/run/peers/${unit}.out`).join(' ')}`)).stdout;
    if (said !== 'key-1: FAILED\n') throw new Error(`${way.label} did not rotate the first secret alone: ${said}`);
  }

  /** What the numbers depend on: processor and memory first. */
  async facts(): Promise<Readonly<Record<string, string>>> {
    const script = [
      'node --version | tr -d v',
      'systemctl --version | cut -d " " -f 2',
      'age --version',
      'gpg --version | cut -d " " -f 3',
      'pass version | grep -o "v[0-9][0-9.]*" | tr -d v',
    ];
    const { stdout } = await this.machine.shell(script.map((line) => `${line} | head -n 1`).join('\n'));
    const [node = '', systemd = '', ageVersion = '', gnupg = '', password = ''] = stdout.trim().split('\n');
    return {
      processor: `${String(availableParallelism())} cores of ${cpus()[0]?.model ?? process.arch}`,
      memory: `${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
      Linux: release().replace(/-.*/, ''),
      systemd,
      Node: node,
      age: ageVersion,
      GnuPG: gnupg,
      pass: password,
      swtpm: /[0-9][0-9.]+/.exec(must('swtpm', ['--version']))?.[0] ?? '',
    };
  }

  /** Milliseconds that a script takes, by the machine's clock. */
  async timed(script: string): Promise<number> {
    const environment = `export SYSTEMD_TPM2_DEVICE=${this.#systemdDevice}`;
    const whole = `${environment}; start=$(date +%s%N); { ${script}\n} > /dev/null; echo $(( $(date +%s%N) - start ))`;
    return Number((await this.machine.shell(whole, patience)).stdout) / 1e6;
  }

  /** With a TPM it works for a moment after its answers, which is not to disturb the others. */
  async #stopBroker(): Promise<void> {
    await this.machine.shell(
      'systemctl stop auxcred.service; systemctl reset-failed auxcred.service auxcred.socket; ' +
        'systemctl start auxcred.socket',
    );
  }

  async #writeManifest(): Promise<void> {
    const units = this.#ways.filter(isOurs).flatMap((way) => this.#unitsOf(way));
    const period = { rotate: 'monthly', period: `2025-${String(this.#period).padStart(2, '0')}` };
    const secrets = this.#names.map((name, i) => {
      const wanting = units.filter(({ names }) => names.includes(name));
      return secretToml(
        name,
        wanting.map((unit) => unit.name),
        i === 0 ? period : {},
      );
    });
    await this.machine.write(manifestPath('peers'), secrets.join(''));
  }

  /** A program of its own brings all secrets into one unit; as credentials they are those of several. */
  #unitsOf({ id, fetch }: Way): PeerUnit[] {
    if (fetch !== undefined) return [{ name: `peer-${id}.service`, names: this.#names, sums: folders.sums }];
    return Array.from({ length: Math.ceil(this.#names.length / perUnit) }, (_, i) => ({
      name: `peer-${id}-${String(i)}.service`,
      names: this.#names.slice(i * perUnit, (i + 1) * perUnit),
      sums: `${folders.sums}-${String(i)}`,
    }));
  }

  async #writeUnits(way: Way): Promise<void> {
    const script = [
      '#!/bin/sh -eu',
      'cd "${CREDENTIALS_DIRECTORY:-$RUNTIME_DIRECTORY}"',
      way.fetch ?? '',
      'exec sha256sum --check --quiet --strict "$1"',
    ];
    await this.machine.write(`/usr/local/lib/peers/${way.id}`, `${script.join('\n')}\n`, 0o755);
    for (const { name, names, sums } of this.#unitsOf(way)) {
      const unit = [
        '[Unit]',
        'StartLimitIntervalSec=0',
        '[Service]',
        'Type=oneshot',
        `ExecStart=/usr/local/lib/peers/${way.id} ${sums}`,
        `StandardOutput=truncate:/run/peers/${name}.out`,
        'StandardError=journal',
        ...way.lines(names),
      ];
      await this.machine.write(`/etc/systemd/system/${name}`, `${unit.join('\n')}\n`);
    }
  }
}
