/**
 * A system whose configuration renders manifest, drop-ins and access, in a read-only /etc/auxcred, with the store on a
 * bind mount. A switch is what switch-to-configuration does: new files, daemon-reload, auxcred-provision, then the units
 * that the configuration has changed.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { renderUnits } from '../../src/drop-ins/rendering.ts';
import { exitStatus } from '../../src/failure.ts';
import { manifestOf } from '../../src/manifest/manifest.ts';
import { auxcredMachine } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { thoroughVersions } from '../machine/root.ts';

type Secrets = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** As the module declares it: hooks run here, and its switch has no time limit of its own. */
const provisionUnit = `[Unit]
DefaultDependencies=no
After=systemd-remount-fs.service systemd-journald.socket
Before=auxcred.service auxcred-files.service sysinit.target shutdown.target
Conflicts=shutdown.target
RequiresMountsFor=/var/lib/auxcred /var/lib/systemd /etc/auxcred
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/auxcred provision --by-configuration
`;

const units = ['web', 'other', 'api', 'filed', 'stored'];
/** Shows the credential that it got, or the file. */
const service = (unit: string): string => {
  const source = unit === 'filed' ? '/run/auxcred/files/filed' : `"$$CREDENTIALS_DIRECTORY"/${unit}`;
  return (
    `[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nRemainAfterExit=yes\n` +
    `ExecStart=/bin/sh -c 'cat ${source} > /run/seen-${unit}'\n[Install]\nWantedBy=multi-user.target\n`
  );
};

const first: Secrets = {
  web: { kind: 'hex', units: ['web.service'] },
  other: { kind: 'hex', units: ['other.service'] },
  api: { kind: 'fixed', units: ['api.service'], hook: ['/usr/bin/tell-api'] },
  filed: { kind: 'hex', units: ['filed.service'], delivery: 'file' },
  stored: { kind: 'hex', units: ['stored.service'], delivery: 'credstore' },
};
const changed = (names: readonly string[], more: Secrets = {}): Secrets => ({
  ...first,
  ...Object.fromEntries(names.map((name) => [name, { ...first[name], generation: 2 }])),
  ...more,
});

// Nothing of this differs between versions of systemd.
for (const version of thoroughVersions.slice(-1))
  describe(`a configuration-rendered system on systemd ${version}`, { skip: cannotBoot }, () => {
    let machine: Machine;
    /** Gives the machine the files of a configuration. */
    const install = async (secrets: Secrets): Promise<void> => {
      const text = JSON.stringify({ secret: secrets });
      const manifest = manifestOf([{ path: '/etc/auxcred/secrets.d/configuration.json', text }]);
      assert.deepEqual(manifest.problems, []);
      await machine.shell('! mountpoint -q /etc/auxcred || umount /etc/auxcred');
      await machine.write('/etc/auxcred/secrets.d/configuration.json', text);
      for (const [unit, dropIn] of renderUnits(manifest.declarations))
        await machine.write(`/etc/systemd/system/${unit}.d/overrides.conf`, dropIn);
    };
    const makeReadOnly = async (): Promise<void> => {
      await machine.shell('mount --bind /etc/auxcred /etc/auxcred; mount -o remount,ro,bind /etc/auxcred');
    };
    /** @returns whether the secrets were provisioned */
    const switchTo = async (secrets: Secrets, restarted: readonly string[]): Promise<boolean> => {
      await install(secrets);
      await makeReadOnly();
      await machine.systemctl('daemon-reload');
      const { status } = await machine.run(['systemctl', 'restart', 'auxcred-provision.service'], { check: false });
      for (const unit of restarted) await machine.run(['systemctl', 'restart', `${unit}.service`], { check: false });
      return status === 0;
    };
    const seen = async (unit: string): Promise<string> => (await machine.read(`/run/seen-${unit}`)).toString();
    const expected = async (name: string): Promise<string> =>
      (await machine.run(['auxcred', 'get', name])).stdout.trim();
    const invocation = async (unit: string): Promise<string> =>
      (await machine.properties(`${unit}.service`, 'InvocationID'))['InvocationID'] ?? '';
    const isActive = async (unit: string): Promise<boolean> =>
      (await machine.properties(`${unit}.service`, 'ActiveState'))['ActiveState'] === 'active';
    const doctor = async (): Promise<string> => (await machine.run(['auxcred', 'doctor'], { check: false })).stdout;
    const put = async (name: string, value: string): Promise<void> => {
      await machine.run(['auxcred', 'put', '--force', name], { input: value });
    };

    before(async () => {
      machine = await auxcredMachine({ systemd: version, name: 'web1' });
      await machine.shell(
        'rm /usr/lib/systemd/system-generators/auxcred-generator; mkdir -p /persist/auxcred; ' +
          'echo "/persist/auxcred /var/lib/auxcred none bind 0 0" >> /etc/fstab',
      );
      await machine.write(
        '/usr/bin/tell-api',
        '#!/bin/sh\ncat /dev/fd/4 > /run/told\necho "$PATH" > /run/path\n',
        0o755,
      );
      await machine.write('/etc/systemd/system/auxcred-provision.service', provisionUnit);
      await machine.write(
        '/etc/systemd/system/auxcred-files.service.d/overrides.conf',
        '[Unit]\nPartOf=auxcred-provision.service\nAfter=auxcred-provision.service\n',
      );
      await machine.write(
        '/etc/systemd/system/auxcred.service.d/overrides.conf',
        '[Service]\nLoadCredential=ssh-host-key:/etc/ssh/ssh_host_ed25519_key\n',
      );
      await machine.write(
        '/etc/auxcred/configuration.json',
        '{"version":1,"system":"nixos","switch":"nixos-rebuild switch","pins":false,"hookPath":"/run/sw/bin"}',
      );
      for (const unit of units) await machine.write(`/etc/systemd/system/${unit}.service`, service(unit));
      await machine.shell(
        `systemctl enable ${units.map((unit) => `${unit}.service`).join(' ')}; ` +
          'mkdir -p /etc/systemd/system/sysinit.target.wants; ' +
          'ln -s ../auxcred-provision.service /etc/systemd/system/sysinit.target.wants/',
      );
      await install(first);
      await machine.boot();
    });
    after(async () => {
      await machine?.destroy();
    });

    test('starts no unit without its secret before it is sealed, and all of them after the first boot', async () => {
      for (const unit of units) assert.equal(await isActive(unit), false, unit);
      await makeReadOnly();
      await machine.run(['auxcred', 'seal', '--no-recovery']);
      await put('api', 'one');
      await machine.systemctl('restart', 'auxcred-provision.service');
      await machine.reboot();
      for (const unit of units) assert.equal(await seen(unit), await expected(unit), unit);
      await makeReadOnly();
      const said = await doctor();
      assert.doesNotMatch(said, /^(?:problem|warning)/m);
      assert.equal((await machine.run(['auxcred', 'status'])).status, 0);
      assert.equal((await machine.run(['auxcred', 'apply'], { check: false })).status, exitStatus.usage);
    });

    test('leaves to the switch what it has changed, and restarts what a fixed file has changed', async () => {
      const was = new Map<string, string>();
      for (const unit of units) was.set(unit, await invocation(unit));
      await put('api', 'two');
      assert.ok(await switchTo(changed(['web', 'filed', 'stored']), []));
      await machine.waitFor('api.service', 'active');
      assert.equal(await seen('api'), 'two');
      assert.equal((await machine.read('/run/told')).toString(), 'two');
      assert.match((await machine.read('/run/path')).toString(), /^\/run\/sw\/bin:/);
      for (const unit of ['web', 'other', 'filed', 'stored']) assert.equal(await invocation(unit), was.get(unit), unit);
      for (const unit of ['web', 'filed', 'stored']) {
        const old = await seen(unit);
        await machine.systemctl('restart', `${unit}.service`);
        assert.equal(await seen(unit), await expected(unit));
        assert.notEqual(await seen(unit), old);
      }
    });

    test('gives no old value for a new one if a switch fails, in this boot or the next', async () => {
      const wanted = { wifi: { kind: 'fixed', units: ['other.service'] } };
      const old = await seen('web');
      const { status } = await machine.run(['auxcred', 'check', '--servable'], { check: false });
      assert.equal(status, 0);
      const broken = {
        ...changed([], wanted),
        ...Object.fromEntries(['web', 'filed', 'stored'].map((name) => [name, { ...first[name], generation: 3 }])),
      };
      assert.equal(await switchTo(broken, ['web', 'filed', 'stored', 'api']), false);
      const withheld = async (): Promise<void> => {
        for (const unit of ['web', 'filed', 'stored']) assert.equal(await isActive(unit), false, unit);
        assert.ok(await isActive('api'));
      };
      await withheld();
      const refused = await machine.journal(
        '-b',
        '-u',
        'auxcred.service',
        'AUXCRED_OUTCOME=refused',
        'AUXCRED_CREDENTIAL=web',
      );
      assert.match(String(refused.at(-1)?.['AUXCRED_REASON']), /the configuration has changed web of web\.service/);
      assert.match(
        (await machine.run(['auxcred', 'check', '--servable'], { check: false })).stdout,
        /^wifi can't be served: /m,
      );
      await machine.reboot();
      await withheld();
      await makeReadOnly();
      await put('wifi', 'air');
      await machine.systemctl('restart', 'auxcred-provision.service');
      for (const unit of ['web', 'filed', 'stored', 'other']) {
        await machine.systemctl('restart', `${unit}.service`);
        assert.equal(await seen(unit), await expected(unit), unit);
      }
      assert.notEqual(await seen('web'), old);
    });

    test("gives an older configuration its own values again, and today's fixed ones", async () => {
      assert.ok(await switchTo(changed(['web', 'filed', 'stored']), ['web', 'filed', 'stored', 'other']));
      const second = await seen('web');
      assert.ok(await switchTo(first, ['web', 'filed', 'stored']));
      assert.notEqual(await seen('web'), second);
      assert.ok(await switchTo(changed(['web', 'filed', 'stored']), ['web', 'filed', 'stored']));
      assert.equal(await seen('web'), second);
      assert.equal(await seen('api'), 'two');
    });

    test('is warned of a store that the next boot loses', async () => {
      assert.doesNotMatch(await doctor(), /\[volatile\]/);
      await machine.shell('umount /var/lib/auxcred; mount -t tmpfs tmpfs /var/lib/auxcred');
      try {
        assert.match(await doctor(), /^problem: \/var\/lib\/auxcred is on a file system in memory \[volatile\]$/m);
      } finally {
        await machine.shell('umount /var/lib/auxcred; mount /var/lib/auxcred');
      }
    });
  });
