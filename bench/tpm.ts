/**
 * The same virtual TPM under auxcred and systemd-creds: commands and time for 1, 10 and 100 secrets, and power cuts. The
 * broker unseals once, systemd-creds once a secret.
 */
import { renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Swtpm } from '../test/swtpm.ts';
import { startTpmProxy, type TpmProxy } from '../test/tpm-proxy.ts';
import { PeerMachine, type PeerTpm, tpmWithSrk } from './peer-machine.ts';
import { benchPowerCuts } from './power-cuts.ts';
import { median, milliseconds, report } from './report.ts';
import { auxcredTpm, credsTpm, type Way } from './ways.ts';

const sizes = [1, 10, 100] as const;
const rounds = 3;
const ways = [auxcredTpm, credsTpm] as const;

/** A TPM that programs reach directly, or through a proxy that counts their commands. */
class CountedTpm {
  readonly swtpm: Swtpm;
  readonly #proxy: TpmProxy;
  readonly #chosen: string;

  private constructor(swtpm: Swtpm, proxy: TpmProxy) {
    this.swtpm = swtpm;
    this.#proxy = proxy;
    // The path that systemd uses, which reads it only when it starts.
    this.#chosen = join(swtpm.folder, 'chosen');
    this.choose('direct');
  }

  static async start(folder: string): Promise<CountedTpm> {
    const swtpm = await tpmWithSrk(folder);
    return new CountedTpm(swtpm, await startTpmProxy(swtpm.device, () => undefined, folder));
  }

  get running(): PeerTpm {
    return {
      device: this.swtpm.device,
      systemdDevice: `swtpm:path=${this.#chosen}`,
      stop: async () => {
        await this.#proxy.stop();
        await this.swtpm.stop();
      },
    };
  }

  choose(way: 'direct' | 'counted'): void {
    const socket = (way === 'direct' ? this.swtpm : this.#proxy).device.replace('swtpm:path=', '');
    for (const end of ['', '.ctrl']) {
      symlinkSync(socket + end, `${this.#chosen}.new`);
      renameSync(`${this.#chosen}.new`, this.#chosen + end);
    }
  }

  /** How many commands the deliveries of these ways take. */
  async count(peers: PeerMachine): Promise<ReadonlyMap<Way, number>> {
    const { device } = this.#proxy;
    const socket = device.replace('swtpm:path=', '');
    const lines = `[Service]\nEnvironment=AUXCRED_TCTI=${device}\nBindReadOnlyPaths=${socket} ${socket}.ctrl\n`;
    const dropIn = '/run/systemd/system/auxcred.service.d/counted.conf';
    await peers.machine.write(dropIn, lines);
    await peers.machine.systemctl('daemon-reload');
    this.choose('counted');
    const counts = new Map<Way, number>();
    for (const way of ways) {
      const before = this.#proxy.commands.length;
      await peers.deliver(way);
      counts.set(way, this.#proxy.commands.length - before);
    }
    this.choose('direct');
    await peers.machine.shell(`rm ${dropIn}; systemctl daemon-reload`);
    return counts;
  }
}

async function compareSize(peers: PeerMachine, tpm: CountedTpm, size: number): Promise<void> {
  await peers.declare(size);
  for (const way of ways) await peers.store(way);
  const times = new Map<Way, number[]>(ways.map((way) => [way, []]));
  for (let round = 0; round < rounds; round++) for (const way of ways) times.get(way)?.push(await peers.deliver(way));
  const counts = await tpm.count(peers);
  const count = (way: Way): number => counts.get(way) ?? Number.NaN;
  const time = (way: Way): number => median(times.get(way) ?? []);
  const [ours, theirs, took, theyTook] = [count(auxcredTpm), count(credsTpm), time(auxcredTpm), time(credsTpm)];
  const secrets = size === 1 ? '1 secret' : `${String(size)} secrets`;
  report({
    what: `TPM commands, ${secrets}`,
    measured: `auxcred ${String(ours)}`,
    against: `systemd-creds ${String(theirs)}`,
    ratio: `${(ours / theirs).toFixed(2)} x`,
    // Two of them are for the counter, which systemd-creds does not have.
    goal: `<= 12, constant ${ours <= 12 ? 'met' : 'MISSED'}`,
    data: { kind: 'tpm', secrets: size, ours, theirs, oursTook: took, theirsTook: theyTook },
  });
  report({
    what: `${secrets} delivered, with a TPM`,
    measured: `auxcred ${milliseconds(took)}`,
    against: `systemd-creds ${milliseconds(theyTook)}`,
    ratio: `${(took / theyTook).toFixed(2)} x`,
    goal: '',
  });
}

/** @param thorough - whether the power is cut a hundred times */
export async function benchTpm({ thorough }: { readonly thorough: boolean }): Promise<void> {
  const started: CountedTpm[] = [];
  const start = async (folder: string): Promise<PeerTpm> => {
    const tpm = await CountedTpm.start(folder);
    started.push(tpm);
    return tpm.running;
  };
  await PeerMachine.use(ways, start, async (peers) => {
    const [tpm] = started;
    if (tpm === undefined) throw new Error('the machine has no TPM');
    await peers.sealTo('tpm2');
    for (const size of sizes) await compareSize(peers, tpm, size);
    await benchPowerCuts(peers.machine, tpm.swtpm, thorough ? 100 : 20);
  });
}
