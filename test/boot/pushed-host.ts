/** What a push brings to a host, and what the host does with it. */
import assert from 'node:assert/strict';
import type { RunResult } from '../machine/container.ts';
import type { Machine } from '../machine/machine.ts';

/** A host in what `auxcred push --json` prints. */
export interface Pushed {
  readonly host: string;
  readonly result: string;
  readonly sent: {
    readonly seeds: boolean;
    readonly fixed: string[];
    readonly manifest: string[];
    readonly removed: string[];
  };
  readonly units: { readonly unit: string; readonly action: string }[];
  readonly failure?: { readonly code: string; readonly message: string };
}

/** Secrets of two units, one shared and derived, one fixed. */
export const manifest = `
[secret.session]
kind = "hex"
share = "web"
units = ["web.service"]

[secret.token]
kind = "fixed"
units = ["api.service"]
`;

/**
 * Active only once it has its credentials, and without systemd's limit of five starts in ten seconds.
 */
export const runsForEver =
  '[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\nExecStart=/bin/sleep infinity\nPrivateMounts=yes\n' +
  '[Install]\nWantedBy=multi-user.target\n';

/** Makes a machine its own operator: `no-ssh`, in ssh's place, runs there what comes after the destination. */
export async function writeNoSsh(machine: Machine): Promise<void> {
  const device = machine.tpm?.device ?? '';
  await machine.write(
    '/usr/local/bin/no-ssh',
    `#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\nAUXCRED_TCTI=${device} exec sh -c "$1"\n`,
    0o755,
  );
}

/** A push of a machine that is its own operator. */
export async function pushHere(machine: Machine, ...args: readonly string[]): Promise<RunResult & { result: string }> {
  const command = ['auxcred', 'push', 'web1', '--vault=/root/vault', '--manifest', '--json', ...args];
  const said = await machine.run(command, { check: false });
  return { ...said, result: /"result": ?"([^"]*)"/.exec(said.stdout)?.[1] ?? '' };
}

/** A credential as the running unit reads it. */
export const credential = async (machine: Machine, unit: string, id: string): Promise<string> => {
  const { MainPID: pid } = await machine.properties(unit, 'MainPID');
  return (await machine.run(['nsenter', '-t', String(pid), '-m', 'cat', `/run/credentials/${unit}/${id}`])).stdout;
};
/** What changes when a unit of the manifest restarts. */
export const invocations = async (machine: Machine): Promise<string[]> =>
  await Promise.all(
    ['web.service', 'api.service'].map(
      async (unit) => (await machine.properties(unit, 'InvocationID'))['InvocationID'] ?? '',
    ),
  );
/** Waits until no job is left. */
export const settled = async (machine: Machine): Promise<void> => {
  for (let i = 0; i < 100; i++) {
    if ((await machine.run(['systemctl', 'list-jobs', '--no-legend'])).stdout.trim() === '') return;
    await machine.shell('sleep 0.1');
  }
  assert.fail('jobs are still waiting');
};
