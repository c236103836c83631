import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { Failure } from '../failure.ts';

/** Whether systemd manages the system at `root`: never so for an installation in progress (sd_booted(3)). */
export const systemIsRunning = (root: string): boolean => root === '/' && existsSync('/run/systemd/system');

/** Runs systemctl. @throws Failure `system` with what it said. */
export function systemctl(...args: readonly string[]): void {
  const { status, stderr, error } = spawnSync('systemctl', args, { encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] });
  if (error !== undefined || status !== 0) throw new Failure('system', `systemctl ${args.join(' ')} failed: ${error?.message ?? stderr.trim()}`);
}
