import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { Failure } from '../failure.ts';

/** Whether systemd manages the system at `root`: never so for an installation in progress (sd_booted(3)). */
export const systemIsRunning = (root: string): boolean => root === '/' && existsSync('/run/systemd/system');

/**
 * Stops a unit that runs, and leaves one alone that does not: a stop would cancel the start that may be waiting for this very process.
 * @throws Failure `system`
 */
export function stopRunning(unit: string): void {
  if (spawnSync('systemctl', ['is-active', '--quiet', unit]).status === 0) systemctl('stop', unit);
}

/** Runs systemctl. @throws Failure `system` with what it said. */
export function systemctl(...args: readonly string[]): void {
  const { status, stderr, error } = spawnSync('systemctl', args, { encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] });
  if (error !== undefined || status !== 0) throw new Failure('system', `systemctl ${args.join(' ')} failed: ${error?.message ?? stderr.trim()}`);
}
