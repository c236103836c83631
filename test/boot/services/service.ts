/** What a page of docs/services promises, tried on a machine: the first start, a rotation, and what to check. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { exampleOf } from '../../../src/cli/examples.ts';
import type { Machine } from '../../machine/machine.ts';
import { readPage } from './page.ts';

/** A service of the cookbook. */
export interface Service {
  /** The name of its page and of its example. */
  readonly name: string;
  /** The units that `apt install` leaves running. The machine has them, and they are off. */
  readonly units: readonly string[];
  /** The secret that changes in a rotation. */
  readonly secret: string;
  /** The value before the rotation is accepted until the next one. */
  readonly keepsOld?: true;
  /** What the administrator has already, before the page begins. */
  prepare?(machine: Machine): Promise<void>;
  /** Whether the running service accepts this value of the secret. */
  accepts(machine: Machine, value: string): Promise<boolean>;
}

const patience = 120_000;
/** Milliseconds between two questions. Some services take a tenth of a second of processor for each answer. */
const pause = 400;

/** Follows the page as it stands. */
export function describeService(machine: () => Machine, service: Service): void {
  describe(service.name, () => {
    const page = readPage(service.name);
    const shown = async (): Promise<string> => (await machine().run(['auxcred', 'get', service.secret])).stdout;
    const follow = async (commands: readonly string[]): Promise<void> => {
      assert.ok(commands.length > 0);
      for (const command of commands) await machine().shell(command);
    };
    const acceptsSoon = async (value: string): Promise<void> => {
      for (const end = Date.now() + patience; !(await service.accepts(machine(), value)); await sleep(pause))
        if (Date.now() > end) assert.fail(`${service.name} does not accept its secret\n${await state()}`);
    };
    const state = async (): Promise<string> =>
      (await machine().shell(`systemctl status --no-pager --lines=30 ${service.units.join(' ')} || true`)).stdout;
    const isInNoLog = async (value: string): Promise<void> => {
      const { stdout } = await machine().shell(
        `
        cat > /run/value
        { journalctl --no-pager -o cat | grep -F -f /run/value; grep -r -F -l -f /run/value /var/log; } || true
      `,
        { input: value },
      );
      assert.equal(stdout.replaceAll(value, 'SECRET'), '');
    };
    let first = '';

    test('gets its first secret', async () => {
      await service.prepare?.(machine());
      if (service.units.length > 0) await machine().systemctl('start', ...service.units);
      await follow(page.commands('First start'));
      for (const { path, text, isExecutable } of exampleOf('examples', service.name)) {
        assert.equal((await machine().read(path)).toString(), text, path);
        assert.equal((await machine().run(['stat', '-c', '%a', path])).stdout, isExecutable ? '755\n' : '644\n', path);
      }
      first = await shown();
      await acceptsSoon(first);
      assert.equal(await service.accepts(machine(), `${first.slice(0, -1)}${first.endsWith('x') ? 'y' : 'x'}`), false);
    });

    test('gets the next one', async () => {
      await follow(page.commands('Rotation'));
      const next = await shown();
      assert.notEqual(next, first);
      await acceptsSoon(next);
      assert.equal(await service.accepts(machine(), first), service.keepsOld ?? false);
      if (service.units.length > 0) await machine().systemctl('restart', ...service.units);
      await acceptsSoon(next);
      assert.equal(await service.accepts(machine(), first), service.keepsOld ?? false);
      for (const value of [first, next]) await isInNoLog(value);
    });

    test('is as the page says', async () => {
      await follow(page.commands('What to check'));
    });
  });
}
