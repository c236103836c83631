/** The pages of docs/services about keys, containers, backups, networks' logins and your own programs, on one machine. */
import assert from 'node:assert/strict';
import { after, before, describe } from 'node:test';
import { auxcredMachine } from '../../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../../machine/machine.ts';
import { isWholeMatrix, onlyInTestAll } from '../../machine/root.ts';
import { nodeApp, pythonApp } from './apps.ts';
import { quadlet, registry, systemCallsOfContainers } from './containers.ts';
import { prometheus } from './prometheus.ts';
import { restic } from './restic.ts';
import { describeService } from './service.ts';
import { sshDeployKey } from './ssh-deploy-key.ts';
import { wifiNetworks, wpaSupplicant } from './wpa-supplicant.ts';

describe('the cookbook', { skip: cannotBoot }, () => {
  let machine: Machine;
  before(async () => {
    machine = await auxcredMachine({ systemd: 'services', name: 'web1', systemCalls: systemCallsOfContainers });
    await machine.run(['auxcred', 'seal', '--no-recovery']);
    await machine.boot();
  });
  after(async () => {
    await machine?.destroy();
  });
  for (const service of [nodeApp, pythonApp, restic, sshDeployKey, registry, quadlet])
    describeService(() => machine, service);
  // These take a minute together, for a daemon that starts and reloads slowly.
  if (isWholeMatrix) for (const service of [prometheus, wpaSupplicant]) describeService(() => machine, service);

  onlyInTestAll('wpa_supplicant reads the WiFi network', async () => {
    assert.match(await wifiNetworks(machine), /^0\thome\tany/m);
  });

  onlyInTestAll('the password of restic before the last two is gone, and one of another name is left', async () => {
    const keys = async (): Promise<string[]> => {
      const { stdout } = await machine.shell(
        'auxcred run --file=restic -- restic -r /var/backups/restic -p /dev/fd/3 key list',
      );
      return [...stdout.matchAll(/^[* ][0-9a-f]{8} +(\S+)/gm)].map(([, user = '']) => user).sort();
    };
    await machine.shell(
      'echo mine > /run/mine; ' +
        'auxcred run --file=restic -- restic -r /var/backups/restic -p /dev/fd/3 ' +
        'key add --user=recovery --new-password-file=/run/mine',
    );
    for (const [generation, next] of [
      [2, 3],
      [3, 4],
    ] as const) {
      await machine.shell(
        `sed -i 's/^generation = ${generation}$/generation = ${next}/' /etc/auxcred/secrets.d/restic.toml; ` +
          'auxcred apply; systemctl start restic-backup.service',
      );
      assert.deepEqual(await keys(), ['recovery', 'root', 'root']);
    }
  });
});
