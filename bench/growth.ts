/** How time grows from 2,500 secrets to 10,000: 4 x is linear. And one derived password, compared with gokey. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { secretToml } from '../test/auxcred-machine.ts';
import { compare, median, timeCommands, timed } from './report.ts';
import { auxcred, inScratch, must, run } from './scratch.ts';

const sizes = [2500, 10_000] as const;
const manifest = 'etc/auxcred/secrets.d/web.toml';

/** A machine's root folder, sealed to its host key. */
export function sealedRoot(root: string): string {
  for (const path of ['etc/auxcred/secrets.d', 'etc/ssh', 'out']) mkdirSync(join(root, path), { recursive: true });
  writeFileSync(join(root, 'etc/hostname'), 'bench\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\n');
  must('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(root, 'etc/ssh/ssh_host_ed25519_key')]);
  run(auxcred('seal', '--no-recovery', `--root=${root}`));
  return root;
}

/** The steps for each root, in order. */
const verbs: readonly (readonly [string, (root: string) => string[]])[] = [
  ['check', (root) => auxcred('check', `--root=${root}`)],
  ['plan', (root) => auxcred('plan', `--root=${root}`)],
  ['generator', (root) => [process.execPath, 'dist/auxcred-generator.cjs', join(root, 'out'), root]],
  ['apply', (root) => auxcred('apply', `--root=${root}`)],
  ['plan, nothing to do', (root) => auxcred('plan', `--root=${root}`)],
];

export async function benchGrowth(): Promise<void> {
  await inScratch((folder) => {
    const roots = sizes.map((size) => {
      const root = sealedRoot(join(folder, String(size)));
      const secret = (i: number): string =>
        secretToml(`key-${String(i)}`, [`unit-${String(i % (size / 10))}.service`], { rotate: 'monthly' });
      writeFileSync(join(root, manifest), Array.from({ length: size }, (_, i) => secret(i)).join(''));
      return root;
    });
    for (const [what, argv] of verbs) {
      const rounds = what === 'apply' ? 1 : 3;
      const [small = Number.NaN, large = Number.NaN] = roots.map((root) =>
        median(
          Array.from({ length: rounds }, () =>
            timed(() => {
              run(argv(root));
            }),
          ),
        ),
      );
      compare({ what: `${what}, 10,000 secrets`, took: large, peer: '2,500 secrets', peerTook: small, goal: 4.4 });
    }
  });
}

export async function benchGet(): Promise<void> {
  await inScratch((folder) => {
    const root = sealedRoot(join(folder, 'root'));
    writeFileSync(join(folder, 'master'), 'correct horse battery staple\n');
    writeFileSync(join(root, manifest), secretToml('key', ['unit.service'], { kind: 'password' }));
    run(auxcred('apply', `--root=${root}`));
    const times = timeCommands(15, {
      ours: auxcred('get', 'key', `--root=${root}`),
      gokey: ['gokey', '-P', join(folder, 'master'), '-r', 'example.com', '-l', '32'],
      node: [process.execPath, '-e', '0'],
    });
    const get = { what: 'one derived password', by: 'auxcred get', took: times.ours };
    compare({ ...get, peer: 'gokey', peerTook: times.gokey });
    compare({ ...get, peer: 'node -e 0', peerTook: times.node });
  });
}
