import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** Holds an exclusive flock(2) in a child process, which ends with this process whatever happens to it. */
export async function lock(path: string): Promise<AsyncDisposable> {
  const holder = spawn('flock', ['--exclusive', path, 'sh', '-c', 'echo locked; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = once(holder, 'exit');
  const [first] = await Promise.race([once(holder.stdout, 'data'), exited]);
  if (!Buffer.isBuffer(first)) throw new Error(`${path} can't be locked`);
  return {
    async [Symbol.asyncDispose]() {
      holder.stdin.end();
      await exited;
    },
  };
}
