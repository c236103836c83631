/**
 * What each start of a program costs beside the smallest program that Node runs. In CPU time, since that depends less
 * than a clock on what else the machine does; then what a unit waits for, by the clock.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { secretToml } from '../test/auxcred-machine.ts';
import { benchColdBroker } from './delivery.ts';
import { compare, median } from './report.ts';
import { auxcred, inScratch, must, run } from './scratch.ts';

const rounds = 31;

/** What is measured, with the largest acceptable ratio; the first is the floor. */
interface Start {
  readonly what: string;
  readonly command: readonly string[];
  readonly goal?: number;
}

export async function benchStartUp(): Promise<void> {
  await inScratch((folder) => {
    const root = join(folder, 'root');
    const out = join(folder, 'out');
    for (const path of [out, join(root, 'etc/ssh'), join(root, 'etc/auxcred/secrets.d')])
      mkdirSync(path, { recursive: true });
    must('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(root, 'etc/ssh/ssh_host_ed25519_key')]);
    const secrets = Array.from({ length: 20 }, (_, i) => secretToml(`key-${String(i)}`, [`unit-${String(i)}.service`]));
    writeFileSync(join(root, 'etc/auxcred/secrets.d/web.toml'), secrets.join(''));
    const here = `--root=${root}`;
    // As every installation does.
    run([process.execPath, 'dist/code-cache.cjs']);
    run(auxcred('seal', '--name=web1', '--no-recovery', here));
    run(auxcred('apply', here));
    compareStarts([
      { what: 'node', command: [process.execPath, '-e', '0'] },
      { what: 'auxcred --version', command: auxcred('--version'), goal: 1.2 },
      { what: 'auxcred get NAME, host key', command: auxcred('get', 'key-1', here), goal: 1.5 },
      { what: 'auxcred apply, nothing to do', command: auxcred('apply', here), goal: 1.6 },
      {
        what: "the generator's program, manifest changed",
        command: [process.execPath, 'dist/auxcred-generator.cjs', out, root],
        goal: 1.25,
      },
    ]);
  });
  await benchColdBroker();
}

function compareStarts(starts: readonly Start[]): void {
  const times = starts.map((): number[] => []);
  for (let round = 0; round < rounds; round++)
    for (const [i, { command }] of starts.entries()) times[i]?.push(processorTime(command));
  const [floor = Number.NaN, ...others] = times.map(median);
  for (const [i, took] of others.entries()) {
    const { what = '', goal = Number.NaN } = starts[i + 1] ?? {};
    compare({ what: `${what} (CPU)`, took, peer: 'node -e 0', peerTook: floor, goal });
  }
}

/** Milliseconds that a command and its threads spend on a processor. */
function processorTime(command: readonly string[]): number {
  const script = 'TIMEFORMAT="%3U %3S"; { time "$@" > /dev/null 2>&1; } 2>&1';
  // Of the environment only this: NODE_EXTRA_CA_CERTS alone makes the start of Node two and a half times as long.
  const env = { PATH: process.env['PATH'] };
  const { status, stdout } = spawnSync('bash', ['-c', script, 'bash', ...command], { encoding: 'utf8', env });
  if (status !== 0) throw new Error(`${command.join(' ')} failed with status ${String(status)}`);
  return 1000 * stdout.split(' ').reduce((sum, seconds) => sum + Number(seconds), 0);
}
