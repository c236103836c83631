import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundle } from '../../src/package/executable.ts';
import type { Machine } from '../machine/machine.ts';

const script = '/usr/lib/auxcred/hostile.cjs';
const dropIn = '/run/systemd/system/auxcred.service.d/99-hostile.conf';

/** What `hostile.ts` tried, and what worked, including files, devices and sockets. */
export interface Takeover {
  readonly tried: readonly string[];
  readonly could: readonly string[];
}

/**
 * Runs `hostile.ts` in the broker's own unit, in place of its script; stops the broker afterwards.
 */
export async function takeOver(machine: Machine): Promise<Takeover> {
  await machine.systemctl('stop', 'auxcred.service');
  return await withVictims(machine, async (victims) => {
    await machine.write(
      dropIn,
      `[Service]\nExecStart=\nExecStart=/usr/bin/node --jitless ${script}\nEnvironment="VICTIMS=${victims}"\n`,
    );
    try {
      await machine.systemctl('daemon-reload');
      await machine.systemctl('start', 'auxcred.service');
      return await told(machine, 'auxcred.service');
    } finally {
      await machine.shell(`
        systemctl stop auxcred.service
        rm ${dropIn}
        systemctl daemon-reload
        systemctl start auxcred.socket auxcred-stage.socket
      `);
    }
  });
}

/**
 * Runs `hostile.ts` as root without a sandbox, except for its attempts on each file, to show that what the sandbox
 * denies is possible.
 */
export async function runFree(machine: Machine): Promise<Takeover> {
  return await withVictims(machine, async (victims) => {
    await machine.run([
      'systemd-run',
      '--quiet',
      '--unit=free.service',
      '--property=Type=notify',
      `--setenv=VICTIMS=${victims}`,
      '--setenv=HOSTILE_FILES=no',
      '/usr/bin/node',
      script,
    ]);
    try {
      return await told(machine, 'free.service');
    } finally {
      await machine.systemctl('stop', 'free.service');
    }
  });
}

/** Processes of root, of another user and of the broker's own. */
async function withVictims<T>(machine: Machine, work: (victims: string) => Promise<T>): Promise<T> {
  await machine.write(script, await hostileScript());
  const users = { another: 'daemon', 'its-own-user': 'auxcred' };
  const pids = ['root=1'];
  try {
    for (const [name, user] of Object.entries(users)) {
      await machine.run([
        'systemd-run',
        '--quiet',
        '--collect',
        `--unit=${name}.service`,
        `--property=User=${user}`,
        'sleep',
        'infinity',
      ]);
      pids.push(`${name}=${(await machine.properties(`${name}.service`, 'MainPID'))['MainPID'] ?? ''}`);
    }
    return await work(pids.join(' '));
  } finally {
    await machine.run(['systemctl', 'stop', ...Object.keys(users).map((name) => `${name}.service`)], { check: false });
    await machine.run(['rm', script]);
  }
}

async function told(machine: Machine, unit: string): Promise<Takeover> {
  const { InvocationID = '' } = await machine.properties(unit, 'InvocationID');
  const entries = await machine.journal('-b', `_SYSTEMD_INVOCATION_ID=${InvocationID}`);
  const field = (name: string): string[] =>
    entries
      .map((entry) => entry[name])
      .filter((value) => typeof value === 'string')
      .sort();
  const [tried] = field('HOSTILE_TRIED');
  if (tried === undefined) throw new Error('the hostile script did not come to its end');
  return { tried: tried.split(', ').sort(), could: field('HOSTILE_COULD') };
}

let bundled: string | undefined;
async function hostileScript(): Promise<string> {
  if (bundled !== undefined) return bundled;
  const folder = mkdtempSync(join(tmpdir(), 'hostile-'));
  try {
    await bundle({ name: 'hostile', entry: 'test/boot/hostile.ts', without: [] }, folder);
    return (bundled = readFileSync(join(folder, 'hostile.cjs'), 'utf8'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
