/** From nothing running to all delivered, and the rotation of one secret: auxcred beside other ways, on one machine. */
import { PeerMachine, tpmWithSrk } from './peer-machine.ts';
import { compare, median, milliseconds, report } from './report.ts';
import { age, auxcredHost, auxcredTpm, credsHost, credsTpm, pass, plain, type Way } from './ways.ts';

const sizes = [1, 10, 100, 1000] as const;

/** The first of each is auxcred, which the others are compared with. */
const hostWays: readonly [Way, ...Way[]] = [auxcredHost, plain, credsHost, age, pass];
const tpmWays: readonly [Way, ...Way[]] = [auxcredTpm, credsTpm];

/** A way is measured up to so often, until it has taken so long. */
const rounds = 5;
const enough = 2500;

/** How long a way may take for a number of secrets, in milliseconds, by what a tenth of them took: else it is not run. */
const limits = { quick: 45_000, thorough: 300_000 } as const;

/** Milliseconds that a way took: to store one secret, and for all of them. */
interface Took {
  readonly delivery: number;
  readonly rotation: number;
}

/** @param thorough - whether what takes minutes is measured too */
export async function benchPeers({ thorough }: { readonly thorough: boolean }): Promise<void> {
  const limit = thorough ? limits.thorough : limits.quick;
  /** What the last number of secrets took, storing included. */
  const spent = new Map<Way, number>();
  await PeerMachine.use([...hostWays, ...tpmWays], tpmWithSrk, async (peers) => {
    reportMachine(await peers.facts());
    for (const size of sizes) {
      await peers.declare(size);
      for (const [key, ways] of [
        ['host', hostWays],
        ['tpm2', tpmWays],
      ] as const) {
        await peers.sealTo(key);
        const affordable = ways.filter((way) => 10 * (spent.get(way) ?? 0) <= limit);
        const took = await measured(peers, affordable, spent);
        for (const way of ways) reportWay({ way, ours: ways[0], size, took });
      }
    }
  });
}

function reportMachine(facts: Readonly<Record<string, string>>): void {
  const { processor = '', memory = '', ...programs } = facts;
  const versions = Object.entries(programs).map((named) => named.join(' '));
  const line = { measured: processor, against: memory, ratio: '', goal: versions.join(', ') };
  report({ what: 'the machine', ...line, data: { kind: 'machine', ...facts } });
}

/** The medians of ways that take turns, so that a change in the machine's load affects all alike. */
async function measured(
  peers: PeerMachine,
  ways: readonly Way[],
  spent: Map<Way, number>,
): Promise<ReadonlyMap<Way, Took>> {
  const deliveries = new Map<Way, number[]>();
  const rotations = new Map<Way, number[]>();
  for (const way of ways) spent.set(way, await peers.store(way));
  for (let round = 0; round < rounds; round++)
    for (const way of ways) {
      const times = deliveries.get(way) ?? [];
      if (times.reduce((sum, time) => sum + time, 0) >= enough) continue;
      deliveries.set(way, [...times, await peers.deliver(way)]);
    }
  for (let round = 0; round < rounds; round++)
    for (const way of ways) rotations.set(way, [...(rotations.get(way) ?? []), await peers.rotate(way)]);
  for (const way of ways) await peers.checkRotated(way);
  return new Map(
    ways.map((way) => {
      const took = { delivery: median(deliveries.get(way) ?? []), rotation: median(rotations.get(way) ?? []) };
      spent.set(way, (spent.get(way) ?? 0) + 2 * took.delivery);
      return [way, took];
    }),
  );
}

interface Result {
  readonly way: Way;
  readonly ours: Way;
  readonly size: number;
  readonly took: ReadonlyMap<Way, Took>;
}

function reportWay({ way, ours, size, took }: Result): void {
  const [own, other] = [took.get(way), took.get(ours)];
  const secrets = size === 1 ? '1 secret' : `${size.toLocaleString('en')} secrets`;
  for (const [what, kind] of [
    [`${secrets} delivered`, 'delivery'],
    [`one of ${secrets} rotated`, 'rotation'],
  ] as const) {
    const data = { kind, way: way.id, label: way.label, secrets: size };
    const line = { what, measured: `${ours.label} ${milliseconds(other?.[kind] ?? Number.NaN)}`, ratio: '', goal: '' };
    if (own === undefined) report({ ...line, against: `${way.label} not run`, data });
    else if (way === ours) report({ ...line, against: '', data: { ...data, milliseconds: own[kind] } });
    else {
      const against = { peer: way.label, peerTook: own[kind], data: { ...data, milliseconds: own[kind] } };
      compare({ what, by: ours.label, took: other?.[kind] ?? Number.NaN, ...against });
    }
  }
}
