/** The pages of docs/services about databases, caches, web servers and networks, on one machine. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { auxcredMachine, secretToml } from '../../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../../machine/machine.ts';
import { mariadb } from './mariadb.ts';
import { postgresql } from './postgresql.ts';
import { describeService } from './service.ts';
import { valkey } from './valkey.ts';
import { caddy, nginx } from './web-servers.ts';
import { kernelHasWireguard, wireguard } from './wireguard.ts';

describe('the cookbook', { skip: cannotBoot }, () => {
  let machine: Machine;
  before(async () => {
    machine = await auxcredMachine({ systemd: 'services', name: 'web1' });
    await machine.run(['auxcred', 'seal', '--no-recovery']);
    await machine.boot();
  });
  after(async () => {
    await machine?.destroy();
  });
  for (const service of [postgresql, mariadb, valkey, nginx, caddy, wireguard]) describeService(() => machine, service);

  test("auxcred check knows that Debian's postgresql.service runs nothing", async () => {
    await machine.write('/run/auxcred/secrets.d/shell.toml', secretToml('shell', ['postgresql.service']));
    const { stdout } = await machine.run(['auxcred', 'check']);
    await machine.run(['rm', '/run/auxcred/secrets.d/shell.toml']);
    assert.equal(
      stdout,
      '/run/auxcred/secrets.d/shell.toml: warning: secret.shell.units: ' +
        'postgresql.service runs nothing that could read a secret\n' +
        '    it starts others: units = ["postgresql@17-main.service"]\n',
    );
  });

  test('the kernel of this run', async (context) => {
    const has = await kernelHasWireguard(machine);
    context.diagnostic(
      has
        ? 'it has WireGuard: the interface had each key'
        : 'it has no WireGuard: systemd-networkd read each key, and the kernel refused the interface',
    );
  });
});
