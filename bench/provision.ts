/** 1,000 secrets on 300 units: the first time, with one changed, with nothing to do; compared with 250 on 75. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { secretToml } from '../test/auxcred-machine.ts';
import { sealedRoot } from './growth.ts';
import { compare, median, timeCommands, timed } from './report.ts';
import { auxcred, inScratch, run } from './scratch.ts';

/** A machine's root folder and the manifest that is active there. */
const active = ['var/lib/auxcred/provisioned', 'var/lib/auxcred/generations', 'etc/auxcred/rendered'];

class BenchMachine {
  readonly root: string;
  readonly #size: number;
  readonly first: number[] = [];
  readonly changed: number[] = [];

  /** One secret in four is fixed; there are three units for ten secrets. */
  constructor(folder: string, size: number) {
    this.#size = size;
    this.root = sealedRoot(join(folder, String(size)));
    const values = join(this.root, 'values');
    mkdirSync(values);
    for (let i = 0; i < size; i += 4) writeFileSync(join(values, `key-${String(i)}`), `value ${String(i)}`);
    run(auxcred('import', values, 'host/bench', `--root=${this.root}`));
  }

  /** Applies the manifest for the first time, and again with one secret at generation `generation`. */
  apply(generation: number): void {
    for (const path of active) rmSync(join(this.root, path), { recursive: true, force: true });
    this.#declare(1);
    this.first.push(
      timed(() => {
        run(auxcred('apply', `--root=${this.root}`));
      }),
    );
    this.#declare(generation);
    this.changed.push(
      timed(() => {
        run(auxcred('apply', `--root=${this.root}`));
      }),
    );
  }

  #declare(generation: number): void {
    const secret = (i: number): string => {
      const options = i % 4 === 0 ? { kind: 'fixed' } : { rotate: 'yearly', generation: i === 1 ? generation : 1 };
      return secretToml(`key-${String(i)}`, [`unit-${String(i % (0.3 * this.#size))}.service`], options);
    };
    const manifest = Array.from({ length: this.#size }, (_, i) => secret(i)).join('');
    writeFileSync(join(this.root, 'etc/auxcred/secrets.d/web.toml'), manifest);
  }
}

export async function benchProvision(): Promise<void> {
  await inScratch((folder) => {
    const [small, large] = [new BenchMachine(folder, 250), new BenchMachine(folder, 1000)];
    for (let round = 0; round < 5; round++) for (const machine of [small, large]) machine.apply(2 + round);
    const verb = (name: string, { root }: BenchMachine): string[] => auxcred(name, `--root=${root}`);
    const times = timeCommands(15, {
      provision: verb('provision', large),
      provisionSmall: verb('provision', small),
      apply: verb('apply', large),
      plan: verb('plan', large),
      node: [process.execPath, '-e', '0'],
      creds: ['sh', '-c', 'echo value | systemd-creds --with-key=tpm2-absent encrypt - -'],
    });
    const node = { peer: 'node -e 0', peerTook: times.node };
    const [first, changed] = [median(large.first), median(large.changed)];
    const none = { what: 'provision, nothing to do, 1,000 secrets', took: times.provision };
    const creds = { peer: 'systemd-creds encrypt', peerTook: times.creds, goal: 1 };
    const quarter = { peer: '250 secrets', goal: 4.4 };
    compare({ what: 'apply for the first time, each of 1,000 secrets', took: first / 1000, ...creds });
    compare({
      what: 'apply for the first time, 1,000 secrets',
      took: first,
      peerTook: median(small.first),
      ...quarter,
    });
    compare({ what: 'apply, one of 1,000 secrets changed', took: changed, ...node });
    compare({
      what: 'apply, one of 1,000 secrets changed',
      took: changed,
      peerTook: median(small.changed),
      ...quarter,
    });
    compare({ ...none, ...node });
    compare({ ...none, peerTook: times.provisionSmall, ...quarter });
    compare({ ...none, peer: '150 ms', peerTook: 150, goal: 1 });
    compare({ what: 'apply, nothing to do, 1,000 secrets', took: times.apply, ...node });
    compare({ what: 'plan, nothing to do, 1,000 secrets', took: times.plan, ...node });
  });
}
