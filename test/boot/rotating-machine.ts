/** A machine whose secrets rotate, with a clock that tests move. */
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { auxcredMachine, manifestPath } from '../auxcred-machine.ts';
import type { Machine } from '../machine/machine.ts';
import type { SystemdVersion } from '../machine/root.ts';

/** The time that the machine's commands and the timer's service are told. */
export const november = '2026-11-23 12:00:00';
export const december = '2026-12-01 00:00:01';
export const january = '2027-01-01 00:00:01';

export const manifest = (hook: string): string => `
[secret.db]
rotate = "monthly"
previous = true
units = ["web.service", "stopped.service", "tmpl@.service"]

[secret.quiet]
rotate = "monthly"
units = ["quiet.service"]
change = "none"

[secret.live]
rotate = "monthly"
units = ["live.service"]
change = "reload"

[secret.fixed]
kind = "uuid"
units = ["other.service"]

[secret.told]
rotate = "monthly"
units = ["told.service"]
hook = ["${hook}"]

[secret.app-env]
kind = "template"
units = ["web.service"]
env = { URL = "postgres://web:{{db | url}}@db/$x\\"\`\\\\", ODD = "{{odd}}" }

[secret.odd]
alphabet = "printable"
length = 200
`;

export let machine: Machine;

export const faked = (time: string): string[] => [
  'LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1',
  `FAKETIME=@${time}`,
  'FAKETIME_DONT_FAKE_MONOTONIC=1',
  'TZ=UTC',
];
export const at = async (time: string, ...command: readonly string[]) =>
  await machine.run(['env', ...faked(time), ...command], { check: false });
/** Moves the clock of the timer's service. */
export const clockOfRotation = async (time: string): Promise<void> => {
  await machine.write(
    '/etc/systemd/system/auxcred-rotate.service.d/clock.conf',
    `[Service]\n${faked(time)
      .map((pair) => `Environment="${pair}"\n`)
      .join('')}`,
  );
  if (machine.leader !== undefined) await machine.systemctl('daemon-reload');
};
export const units = [
  'web.service',
  'quiet.service',
  'live.service',
  'other.service',
  'told.service',
  'tmpl@one.service',
];
export const invocations = async (): Promise<Record<string, string | undefined>> =>
  Object.fromEntries(
    await Promise.all(
      units.map(async (unit) => [unit, (await machine.properties(unit, 'InvocationID'))['InvocationID']] as const),
    ),
  );
/** The present content of a running unit's credential. */
export const credential = async (unit: string, id: string): Promise<string> => {
  const { MainPID: pid } = await machine.properties(unit, 'MainPID');
  return (await machine.run(['nsenter', '-t', String(pid), '-m', 'cat', `/run/credentials/${unit}/${id}`])).stdout;
};
/** Every file of the store and the drop-ins, with its content. */
export const files = async (): Promise<string> =>
  (await machine.shell('find /var/lib/auxcred /etc/auxcred -type f -exec sha256sum {} + -o -printf "%p %l\\n" | sort'))
    .stdout;
export const settled = async (): Promise<void> => {
  for (let i = 0; i < 100; i++) {
    if (
      (
        await machine.shell('systemctl list-jobs --no-legend | grep -vc auxcred-rotate.service || true')
      ).stdout.trim() === '0'
    )
      return;
    await machine.shell('sleep 0.1');
  }
  assert.fail('jobs are still waiting');
};
export const rotate = async (time: string): Promise<number> => {
  await clockOfRotation(time);
  await machine.run(['systemctl', 'stop', 'auxcred-rotate.service']);
  // Nobody else starts it so often within an hour.
  await machine.run(['systemctl', 'reset-failed', 'auxcred-rotate.service'], { check: false });
  // systemctl does not wait for it: before systemd 254 a start that will be retried counts as under way.
  await machine.run(['systemctl', 'start', '--no-block', 'auxcred-rotate.service']);
  for (
    let i = 0;
    i < 200 && (i === 0 || (await machine.properties('auxcred-rotate.service', 'SubState'))['SubState'] === 'start');
    i++
  )
    await machine.shell('sleep 0.1');
  await settled();
  return Number((await machine.properties('auxcred-rotate.service', 'ExecMainStatus'))['ExecMainStatus']);
};

/** Boots it before the tests of a `describe`, and removes it after them. */
export function useRotatingMachine(version: SystemdVersion): void {
  before(async () => {
    machine = await auxcredMachine({ systemd: version, name: 'web1', readOnlyBinds: { '/host/usr': '/usr' } });
    for (const unit of [...units.slice(0, 5), 'stopped.service', 'tmpl@.service']) {
      await machine.write(
        `/etc/systemd/system/${unit}`,
        '[Service]\nType=exec\nExecStart=/bin/sleep infinity\nPrivateMounts=yes\n' +
          '[Install]\nWantedBy=multi-user.target\nDefaultInstance=one\n',
      );
    }
    await machine.write(
      '/usr/local/lib/tell',
      '#!/bin/sh\n[ ! -e /etc/told-broken ] && echo "$(cat "$AUXCRED_OLD") $(cat "$AUXCRED_NEW")" >> /var/log/told\n',
      0o755,
    );
    await machine.write(manifestPath('web'), manifest('/usr/local/lib/tell'));
    await machine.run(['auxcred', 'seal', '--no-recovery']);
    const applied = await at(november, 'auxcred', 'apply');
    assert.equal(applied.status, 0, applied.stderr);
    await machine.run([
      'systemctl',
      'enable',
      'web.service',
      'quiet.service',
      'live.service',
      'other.service',
      'told.service',
      'tmpl@one.service',
    ]);
    // Without it the timer would catch up on a boundary that this machine never had.
    await clockOfRotation(november);
    await machine.boot();
    await settled();
  });
  after(async () => {
    await machine?.destroy();
  });
}
