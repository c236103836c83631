import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { manifestPath } from '../auxcred-machine.ts';
import { cannotBoot } from '../machine/machine.ts';
import { alikeOn, thoroughVersions } from '../machine/root.ts';
import { breaking } from './breaking-units.ts';
import {
  at,
  clockOfRotation,
  credential,
  december,
  faked,
  files,
  invocations,
  january,
  machine,
  manifest,
  november,
  rotate,
  settled,
  units,
  useRotatingMachine,
} from './rotating-machine.ts';
import { watchingTests } from './watching.ts';

for (const version of thoroughVersions)
  describe(`rotation on systemd ${version}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(version);
    useRotatingMachine(version);

    test('the timer waits for the next midnight of UTC', async () => {
      const { NextElapseUSecRealtime: next } = await machine.properties(
        'auxcred-rotate.timer',
        'NextElapseUSecRealtime',
      );
      const seconds = Number((await machine.run(['date', '-u', '-d', String(next), '+%s'])).stdout);
      assert.equal(seconds % 86_400, 0);
      assert.ok(seconds > Date.now() / 1000 && seconds <= Date.now() / 1000 + 86_400);
    });

    test('nothing happens while the period is the recorded one', async () => {
      const before = await invocations();
      assert.equal(await rotate('2026-11-30 23:59:58'), 0);
      assert.deepEqual(await invocations(), before);
    });

    test('a second run changes no file and restarts no unit', async () => {
      const state = async () => [await invocations(), await files()];
      const before = await state();
      for (const verb of ['apply', 'provision', 'apply']) {
        const again = await at(november, 'auxcred', verb);
        assert.equal(again.status, 0, again.stderr);
        await settled();
        assert.deepEqual(await state(), before, verb);
      }
    });

    test('a dry run names the units that run and would be touched, and touches none', async () => {
      const before = [await invocations(), await files()];
      const { stdout, stderr } = await at(december, 'auxcred', 'apply', '--dry-run');
      assert.match(stdout, /^web\.service +db +period 2026-11 -> 2026-12 +restart$/m);
      const would = [...stderr.matchAll(/would (restart|reload) (\S+)/g)]
        .map(([, action, unit]) => `${String(action)} ${String(unit)}`)
        .sort();
      assert.deepEqual(
        would,
        [
          `${Number(version) >= 260 ? 'reload' : 'restart'} live.service`,
          'restart told.service',
          'restart tmpl@one.service',
          'restart web.service',
        ].sort(),
      );
      assert.equal((await at(december, 'auxcred', 'plan')).stderr, stderr);
      assert.equal((await at(december, 'auxcred', 'provision', '--dry-run')).stdout, stdout);
      assert.deepEqual([await invocations(), await files()], before);
    });

    test('an environment file means to systemd what the template says', async () => {
      await machine.shell(
        'nsenter -t $(systemctl show -P MainPID web.service) -m cat /run/credentials/web.service/app-env > /run/app.env',
      );
      await machine.shell(`
        systemd-run --quiet --wait --pipe -p EnvironmentFile=/run/app.env sh -c '
          printf %s "$ODD" > /run/odd
          printf %s "$URL" > /run/url
        '
      `);
      assert.equal((await machine.read('/run/odd')).toString(), (await machine.run(['auxcred', 'get', 'odd'])).stdout);
      assert.equal(
        (await machine.read('/run/url')).toString(),
        `postgres://web:${await credential('web.service', 'db')}@db/$x"\`\\`,
      );
    });

    test('at the boundary the affected units are restarted or reloaded, as each secret says, and no others', async () => {
      const before = await invocations();
      const old = {
        db: await credential('web.service', 'db'),
        live: await credential('live.service', 'live'),
        quiet: await credential('quiet.service', 'quiet'),
        told: await credential('told.service', 'told'),
      };
      const { MainPID: livePid } = await machine.properties('live.service', 'MainPID');
      assert.equal(
        await rotate(december),
        0,
        (await machine.run(['journalctl', '-b', '-u', 'auxcred-rotate.service', '--no-pager'])).stdout,
      );
      const now = await invocations();
      const restarted = units.filter((unit) => before[unit] !== now[unit]);
      const refreshes = Number(version) >= 260;
      assert.deepEqual(restarted, [
        'web.service',
        ...(refreshes ? [] : ['live.service']),
        'told.service',
        'tmpl@one.service',
      ]);
      assert.equal((await machine.properties('live.service', 'MainPID'))['MainPID'] === livePid, refreshes);
      assert.equal((await machine.properties('stopped.service', 'ActiveState'))['ActiveState'], 'inactive');

      const fresh = await credential('web.service', 'db');
      assert.notEqual(fresh, old.db);
      assert.equal(await credential('web.service', 'db.previous'), old.db);
      assert.equal(await credential('tmpl@one.service', 'db'), fresh);
      assert.match(await credential('web.service', 'app-env'), new RegExp(`postgres://web:${fresh}@db/`));
      assert.notEqual(await credential('live.service', 'live'), old.live);
      assert.equal(await credential('quiet.service', 'quiet'), old.quiet);
      assert.equal(
        (await machine.read('/var/log/told')).toString(),
        `${old.told} ${await credential('told.service', 'told')}\n`,
      );

      const { stdout } = await at(december, 'auxcred', 'history', 'db', '--json');
      assert.deepEqual(
        JSON.parse(stdout).map((entry: { period: string; change: string }) => [entry.period, entry.change]),
        [
          ['2026-11', 'new'],
          ['2026-12', 'period 2026-11 -> 2026-12'],
        ],
      );
      assert.equal((await at(december, 'auxcred', 'get', 'db')).stdout, fresh);
      assert.equal((await at(december, 'auxcred', 'get', 'db', '--at=2026-11')).stdout, old.db);
    });

    test('a clock that ran backwards changes nothing, and the hint says how to go on', async () => {
      const before = await invocations();
      assert.equal(await rotate(november), exitStatus.clock);
      assert.deepEqual(await invocations(), before);
      const { stdout } = await machine.run([
        'journalctl',
        '-b',
        '-u',
        'auxcred-rotate.service',
        '-o',
        'cat',
        '--no-pager',
      ]);
      assert.match(
        stdout,
        /the clock says 2026-11-23T12:00Z, but db is already in its period 2026-12, so nothing was changed/,
      );
      assert.match(stdout, /set the clock; if it is now right and was wrong before, auxcred provision --accept-clock/);
      await machine.run(['systemctl', 'reset-failed', 'auxcred-rotate.service']);
    });

    test('a failed hook holds back only its own secret, and is tried again', async () => {
      const old = await credential('told.service', 'told');
      await machine.shell('touch /etc/told-broken');
      const planned = await at(january, 'auxcred', 'plan');
      assert.match(planned.stdout, /^web\.service +db +period 2026-12 -> 2027-01 +restart$/m);
      assert.match(planned.stderr, /would run \/usr\/local\/lib\/tell for told/);
      assert.equal(await rotate(january), exitStatus.hook);
      assert.equal(await credential('told.service', 'told'), old);
      assert.equal((await machine.properties('auxcred-rotate.service', 'SubState'))['SubState'], 'auto-restart');
      const web = await credential('web.service', 'db');
      await machine.shell('rm /etc/told-broken');
      assert.equal(await rotate(january), 0);
      assert.notEqual(await credential('told.service', 'told'), old);
      assert.equal(await credential('web.service', 'db'), web);
    });

    test('a boundary that the machine slept through is handled at the next boot', async () => {
      const before = await credential('web.service', 'db');
      await clockOfRotation('2027-02-01 08:00:00');
      await machine.shell('touch -d "3 days ago" /var/lib/systemd/timers/stamp-auxcred-rotate.timer');
      await machine.reboot();
      for (
        let i = 0;
        i < 100 && (await machine.run(['auxcred', 'history', 'db', '--json'])).stdout.includes('2027-02') === false;
        i++
      )
        await machine.shell('sleep 0.2');
      // The units are restarted once the secrets are active.
      await machine.waitFor('auxcred-rotate.service', ['inactive', 'failed']);
      await settled();
      assert.equal(await credential('web.service', 'db.previous'), before);
    });

    alike('units that a killed run did not get to are restarted by the next one', async () => {
      const now = '2027-02-01 08:00:00';
      await machine.write(
        '/run/cut/systemctl',
        '#!/bin/sh\ncase "$*" in *try-restart*) kill -KILL $PPID; exit 1;; esac\nexec /usr/bin/systemctl "$@"\n',
        0o755,
      );
      await machine.write(
        manifestPath('web'),
        manifest('/usr/local/lib/tell').replace('kind = "uuid"', 'kind = "uuid"\ngeneration = 2'),
      );
      const [before, old] = [await invocations(), await credential('other.service', 'fixed')];
      assert.notEqual((await at(now, 'env', 'PATH=/run/cut:/usr/bin:/bin', 'auxcred', 'apply')).status, 0);
      assert.deepEqual(await invocations(), before);
      assert.match(
        (await at(now, 'auxcred', 'provision')).stderr,
        /nothing to do.*\n.*restart other\.service: an earlier run was interrupted before it got here/,
      );
      await settled();
      const after = await invocations();
      assert.deepEqual(
        units.filter((unit) => before[unit] !== after[unit]),
        ['other.service'],
      );
      assert.notEqual(await credential('other.service', 'fixed'), old);
      assert.match(
        (await at(now, 'auxcred', 'provision')).stderr,
        /^auxcred: nothing to do: the manifest is already active\n$/,
      );
      assert.deepEqual(await invocations(), after);
    });

    alike('a broker that was just starting, and so was not ended, still answers with what is active', async () => {
      const now = '2027-02-01 08:00:00';
      await machine.systemctl('restart', 'other.service');
      const { MainPID: broker } = await machine.properties('auxcred.service', 'MainPID');
      assert.notEqual(broker, '0');
      await machine.write(
        '/run/starting/systemctl',
        '#!/bin/sh\ncase "$*" in *is-active*) echo activating; exit 3;; esac\nexec /usr/bin/systemctl "$@"\n',
        0o755,
      );
      await machine.write(
        manifestPath('web'),
        manifest('/usr/local/lib/tell').replace('kind = "uuid"', 'kind = "uuid"\ngeneration = 3'),
      );
      assert.equal((await at(now, 'env', 'PATH=/run/starting:/usr/bin:/bin', 'auxcred', 'apply')).status, 0);
      await settled();
      assert.equal(await credential('other.service', 'fixed'), (await at(now, 'auxcred', 'get', 'fixed')).stdout);
      assert.equal((await machine.properties('auxcred.service', 'MainPID'))['MainPID'], broker);
    });

    const waited = (generation: number, more = ''): string =>
      `[secret.shared]\ngeneration = ${String(generation)}\n${more}units = ${JSON.stringify(Object.keys(breaking))}\n`;
    const applied = async (...args: string[]) => await at('2027-02-01 08:00:00', 'auxcred', 'apply', ...args);

    test('apply waits for the units that it restarts, and says which do not run and why', async () => {
      for (const [unit, { unit: more = '', service }] of Object.entries(breaking))
        await machine.write(
          `/etc/systemd/system/${unit}`,
          `[Unit]\n${more}\n[Service]\nPrivateMounts=yes\n${service.replace(
            'FAKED',
            faked('2027-02-01 08:00:00')
              .map((pair) => `"${pair}"`)
              .join(' '),
          )}\n`,
        );
      await machine.write('/run/more', 'x');
      await machine.write(manifestPath('waited'), waited(1));
      assert.equal((await applied()).status, 0);
      await machine.systemctl('start', ...Object.keys(breaking));
      await machine.write('/run/break', '');
      await machine.write('/run/systemd/system/late.service.d/short.conf', '[Service]\nTimeoutStartSec=1\n');
      await machine.systemctl('daemon-reload');
      await machine.run(['rm', '/run/more']);
      await machine.write(manifestPath('waited'), waited(2));
      const { status, stderr } = await applied();
      assert.equal(status, exitStatus['unit-failed'], stderr);
      for (const [unit, { reason }] of Object.entries(breaking)) {
        const lines = stderr.split('\n').filter((line) => line.startsWith(`auxcred: ${unit} `));
        assert.deepEqual(lines, reason === '' ? [] : [`auxcred: ${unit} ${reason}`], stderr);
      }
      assert.match(stderr, /^auxcred: hint: journalctl -b( -u [a-z]+\.service){7}$/m);
      // It waited until all were done, including the one that is ordered after another.
      for (const unit of ['slow.service', 'fine.service'])
        assert.equal((await machine.properties(unit, 'ActiveState'))['ActiveState'], 'active', unit);
      assert.equal(
        await credential('fine.service', 'shared'),
        (await at('2027-02-01 08:00:00', 'auxcred', 'get', 'shared')).stdout,
      );
      assert.equal((await applied()).status, 0);
      await machine.run(['rm', '-r', '/run/break', '/run/systemd/system/late.service.d']);
      await machine.systemctl('daemon-reload');
    });

    alike('apply and provision say when all of them run, and do not wait if asked not to', async () => {
      await machine.write('/run/more', 'x');
      await machine.run(['systemctl', 'stop', ...Object.keys(breaking)]);
      await machine.systemctl('start', ...Object.keys(breaking));
      await machine.write(manifestPath('waited'), waited(3));
      const { status, stderr } = await at('2027-02-01 08:00:00', 'auxcred', 'provision');
      assert.deepEqual([status, /^auxcred: 9 units run with the changes$/m.test(stderr)], [0, true], stderr);
      await machine.write('/run/break', '');
      await machine.write(manifestPath('waited'), waited(4));
      const left = await applied('--no-wait');
      assert.deepEqual([left.status, /run with|failed/.test(left.stderr)], [0, false], left.stderr);
      await machine.run(['rm', '/run/break']);
      await settled();
    });

    test("a unit without a time limit is not waited for endlessly, and one that can't reload is named", async () => {
      await machine.run(['systemctl', 'stop', ...Object.keys(breaking)]);
      await machine.write(
        '/etc/systemd/system/endless.service',
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'test ! -e /run/break || sleep 600'\n",
      );
      await machine.write('/etc/systemd/system/stiff.service', '[Service]\nType=exec\nExecStart=/bin/sleep infinity\n');
      const both = (generation: number): string =>
        `[secret.a]\ngeneration = ${String(generation)}\nunits = ["endless.service"]\n` +
        `[secret.b]\ngeneration = ${String(generation)}\ndelivery = "file"\nchange = "reload"\n` +
        'units = ["stiff.service"]\n';
      await machine.write(manifestPath('waited'), both(1));
      assert.equal((await applied()).status, 0);
      await machine.systemctl('start', 'endless.service', 'stiff.service');
      await machine.write('/run/break', '');
      await machine.write(
        '/run/short/systemctl',
        '#!/bin/sh\ncase "$*" in *DefaultTimeoutStartUSec*) echo 500ms; exit;; esac\nexec /usr/bin/systemctl "$@"\n',
        0o755,
      );
      await machine.write(manifestPath('waited'), both(2));
      const { status, stderr } = await at(
        '2027-02-01 08:00:00',
        'env',
        'PATH=/run/short:/usr/bin:/bin',
        'auxcred',
        'apply',
      );
      assert.equal(status, exitStatus['unit-failed'], stderr);
      assert.match(stderr, /^auxcred: endless\.service is still activating \(start\)$/m);
      assert.match(stderr, /^auxcred: stiff\.service did not reload: Job type reload is not applicable$/m);
      await machine.run(['systemctl', 'stop', 'endless.service', 'stiff.service']);
    });

    test('apply in a service that is starting does not wait for units that are ordered after it', async () => {
      await machine.run(['rm', '-f', '/run/break']);
      await machine.write('/etc/systemd/system/fine.service.d/after.conf', '[Unit]\nAfter=deploy.service\n');
      await machine.write(
        '/etc/systemd/system/deploy.service',
        `[Service]\nType=oneshot\nTimeoutStartSec=60\n${faked('2027-02-01 08:00:00')
          .map((pair) => `Environment="${pair}"`)
          .join('\n')}\nExecStart=/usr/bin/auxcred apply\n`,
      );
      await machine.write(manifestPath('waited'), waited(5));
      assert.equal((await applied()).status, 0);
      await machine.systemctl('start', 'fine.service', 'slow.service');
      await machine.write(manifestPath('waited'), waited(6));
      const { status } = await machine.run(['systemctl', 'start', 'deploy.service'], {
        check: false,
        timeoutMs: 90_000,
      });
      const { stdout } = await machine.run(['journalctl', '-b', '-u', 'deploy.service', '-o', 'cat', '--no-pager']);
      assert.equal(status, 0, stdout);
      assert.match(
        stdout,
        /restart fine\.service.*\nauxcred: restart slow\.service.*\nauxcred: not waiting for units, since .* wait for deploy\.service/,
      );
      await settled();
      assert.equal(
        await credential('fine.service', 'shared'),
        (await at('2027-02-01 08:00:00', 'auxcred', 'get', 'shared')).stdout,
      );
    });

    describe('watching', watchingTests);
  });
