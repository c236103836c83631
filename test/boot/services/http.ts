import type { Machine } from '../../machine/machine.ts';

/** The status of a GET in the machine, with options of curl that are secret; 0 if nobody answers. */
export async function httpStatus(machine: Machine, url: string, ...config: readonly string[]): Promise<number> {
  const command = ['curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', '--config', '-', url];
  return Number((await machine.run(command, { check: false, input: config.join('\n') })).stdout);
}
