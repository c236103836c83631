/** What doctor says of units that were masked, reloaded or rendered meanwhile, and whether its commands mend it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { auxcredMachine, manifestPath, secretToml } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { thoroughVersions } from '../machine/root.ts';
import { doctorOn } from './doctor.ts';

for (const version of thoroughVersions)
  describe(`doctor's findings on units, on systemd ${version}`, { skip: cannotBoot }, () => {
    let machine: Machine;
    const { wrong, mend } = doctorOn(() => machine);
    before(async () => {
      machine = await auxcredMachine({ systemd: version, name: 'web1' });
      await machine.write(
        '/etc/systemd/system/web.service',
        '[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n',
      );
      await machine.write(manifestPath('web'), secretToml('key', ['web.service']));
      await machine.boot();
      await machine.shell(
        'age-keygen -o /root/key 2> /dev/null; auxcred seal --recipient="$(age-keygen -y /root/key)"',
      );
      await machine.shell('auxcred apply; systemctl start web.service');
      assert.doesNotMatch(await wrong(), /^(?:problem|warning)/m);
    });
    after(async () => {
      await machine?.destroy();
    });

    test('masked units of auxcred, and what they kept from starting', async () => {
      for (const unit of ['auxcred.service', 'auxcred.socket', 'auxcred-rotate.timer', 'auxcred-files.service']) {
        await machine.shell(`systemctl mask --now --runtime ${unit} 2>&1`);
        if (unit === 'auxcred.service')
          await machine.run(['systemctl', 'restart', 'web.service'], { check: false, timeoutMs: 30_000 });
        const said = await wrong();
        assert.match(said, new RegExp(`^\\w+: ${unit} is masked \\[`, 'm'));
        assert.doesNotMatch(said, /socket failed|does not listen/);
        // The command of the finding is for a lasting mask; this one is gone with the next boot.
        await machine.shell(`systemctl unmask --runtime ${unit} 2>&1; ln -s /dev/null /etc/systemd/system/${unit}`);
        await machine.systemctl('daemon-reload');
        await mend(new RegExp(`${unit} is masked`));
        await machine.systemctl('restart', 'web.service');
        assert.doesNotMatch(await wrong(), /^(?:problem|warning)/m);
      }
    });

    test('a broker whose drop-in is gone', async () => {
      await machine.shell('rm -r /etc/systemd/system/auxcred.service.d; systemctl daemon-reload');
      await machine.systemctl('stop', 'auxcred.service');
      await mend(/^problem: auxcred\.service may not open the seed: it lacks LoadCredential=ssh-host-key:/);
      await machine.systemctl('restart', 'web.service');
      assert.doesNotMatch(await wrong(), /^(?:problem|warning)/m);
    });

    test('a secret that a command before the service lacked, after a daemon-reload too', async () => {
      const file = '/run/systemd/system/web.service.d/before.conf';
      await machine.write(file, '[Service]\nExecStartPre=/bin/true\n');
      await machine.shell('systemctl daemon-reload; systemctl mask --now --runtime auxcred.socket 2>&1');
      await machine.run(['systemctl', 'restart', 'web.service'], { check: false });
      for (const again of ['true', 'systemctl daemon-reload']) {
        await machine.shell(again);
        assert.match(await wrong(), /^problem: web\.service did not start for lack of a secret \[units\]$/m, again);
      }
      await machine.shell(`
        systemctl unmask --runtime auxcred.socket 2>&1
        rm ${file}
        systemctl daemon-reload
        systemctl start auxcred.socket
        systemctl restart web.service
      `);
      assert.doesNotMatch(await wrong(), /^(?:problem|warning)/m);
    });

    test('templates that do not exist, however the others came to be there', async () => {
      const there = [
        'plain@.service',
        'with\\x2descape@.service',
        'linked@.service',
        'masked@.service',
        'made@.service',
        'until-boot@.service',
        'one-instance@.service',
      ];
      const file = '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 0\n';
      for (const path of [
        '/etc/systemd/system/plain@.service',
        '/etc/systemd/system/with\\x2descape@.service',
        '/opt/units/linked@.service',
        '/run/systemd/system/until-boot@.service',
        '/etc/systemd/system/one-instance@1.service',
        '/etc/systemd/system/dropped@.service.d/more.conf',
      ])
        await machine.write(path, file);
      await machine.write(
        '/etc/systemd/system-generators/made',
        `#!/bin/sh\nprintf '${file.replaceAll('\n', '\\n')}' > "$1/made@.service"\n`,
        0o755,
      );
      await machine.write(manifestPath('more'), secretToml('more', [...there, 'dropped@.service', 'absent@.service']));
      await machine.shell('systemctl link /opt/units/linked@.service 2>&1; systemctl mask masked@.service 2>&1');
      await machine.run(['auxcred', 'apply']);
      await machine.systemctl('start', 'with\\x2descape@a\\x2db.service', 'made@1.service', 'one-instance@1.service');
      assert.deepEqual(
        (await wrong()).match(/^warning: .*\[units\]$/gm),
        ['warning: absent@.service, dropped@.service are declared, but do not exist on this machine [units]'],
        'drop-ins alone are no unit',
      );
      await machine.shell(`
        rm ${manifestPath('more')} /etc/systemd/system-generators/made /etc/systemd/system/masked@.service
        auxcred apply
      `);
    });

    test('a manifest that was changed, and that a daemon-reload rendered', async () => {
      await machine.write(manifestPath('more'), secretToml('more', ['web.service']));
      await machine.systemctl('daemon-reload');
      const said = await wrong();
      assert.match(
        said,
        /^warning: the manifest has changed since it was applied: web\.service changed \[manifest\]$/m,
      );
      assert.doesNotMatch(said, /\[generator\]/, 'another daemon-reload changes nothing');
      await machine.shell(`rm ${manifestPath('more')}; systemctl daemon-reload`);
      assert.doesNotMatch(await wrong(), /^(?:problem|warning)/m);
    });
  });
