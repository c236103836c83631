import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { auxcredMachine, manifestPath } from '../auxcred-machine.ts';
import type { RunResult } from '../machine/container.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { alikeOn, thoroughVersions } from '../machine/root.ts';
import { credential, invocations, manifest, type Pushed, runsForEver, settled } from './pushed-host.ts';

for (const version of thoroughVersions) {
  describe(`push over sshd, systemd ${version}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(version);
    let operator: Machine;
    let web1: Machine;
    let web2: Machine;
    const push = async (...args: string[]): Promise<RunResult> =>
      await operator.run(['auxcred', 'push', ...args], { check: false, timeoutMs: 120_000 });
    const pushed = async (...args: string[]): Promise<{ hosts: Pushed[]; status: number; stderr: string }> => {
      const { stdout, stderr, status } = await push('--json', ...args);
      assert.notEqual(stdout, '', stderr);
      const { hosts }: { hosts: Pushed[] } = JSON.parse(stdout);
      return { hosts, status, stderr };
    };

    before(async () => {
      [operator, web1, web2] = [
        await auxcredMachine({ systemd: version, name: 'operator', network: true }),
        await auxcredMachine({ systemd: version, name: 'web1', network: true }),
        await auxcredMachine({ systemd: version, name: 'web2', network: true }),
      ];
      operator.connect('one', '192.0.2.1', web1, '192.0.2.2');
      operator.connect('two', '192.0.2.5', web2, '192.0.2.6');
      await operator.shell(`
        mkdir -p -m 700 /root/.ssh /root/vault
        ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
        age-keygen -o /root/identity 2>/dev/null
        auxcred init --vault=/root/vault --recipient="$(age-keygen -y /root/identity)"
      `);
      const key = await operator.read('/root/.ssh/id_ed25519.pub');
      for (const host of [web1, web2]) {
        await host.shell('ssh-keygen -A; systemctl enable ssh.service');
        await host.write('/root/.ssh/authorized_keys', key, 0o600);
        for (const unit of ['web', 'api']) await host.write(`/etc/systemd/system/${unit}.service`, runsForEver);
        await operator.shell(`printf '%s %s\\n' ${host.name} "$(cut -d' ' -f1,2)" >> /root/.ssh/known_hosts`, {
          input: await host.read('/etc/ssh/ssh_host_ed25519_key.pub'),
        });
      }
      // The standard input of the hosts is recorded.
      await operator.write(
        '/usr/local/bin/tee-ssh',
        '#!/bin/bash\n' +
          'exec ssh -T -o BatchMode=yes -o ConnectTimeout=5 "$@" < <(exec tee -a /root/carried 2> /dev/null)\n',
        0o755,
      );
      await operator.write(
        '/root/vault/vault.toml',
        'ssh = ["tee-ssh"]\nidentity = ["/root/identity"]\n[host.web1]\ngroups = ["web"]\n' +
          '[host.web2]\ngroups = ["web"]\n',
      );
      await operator.write('/root/vault/all/web.toml', manifest);
      await operator.shell('mkdir -p /root/.local/share; ln -s /root/vault /root/.local/share/auxcred');
      for (const host of ['web1', 'web2'])
        await operator.run(['auxcred', 'put', `host/${host}/token`], { input: `first of ${host}` });
      await Promise.all([operator.boot(), web1.boot(), web2.boot()]);
    });
    after(async () => {
      await Promise.all(
        [operator, web1, web2].map(async (machine) => {
          await machine?.destroy();
        }),
      );
    });

    test('a dry run says what is missing, and changes nothing', async () => {
      const { hosts, status } = await pushed('--all', '--manifest', '--dry-run');
      assert.equal(status, 0);
      assert.deepEqual(
        hosts.map(({ host, result, sent }) => [host, result, sent.seeds, sent.fixed, sent.manifest]),
        [
          ['web1', 'would change', true, ['host/web1/token'], ['web.toml']],
          ['web2', 'would change', true, ['host/web2/token'], ['web.toml']],
        ],
      );
      assert.equal(
        (
          await web1.shell('ls -A /var/lib/auxcred /etc/auxcred/secrets.d 2>/dev/null | grep -v : || true')
        ).stdout.trim(),
        '',
      );
      assert.equal((await operator.shell('ls /root/vault/enrolled 2>&1 || true')).stdout.includes('web1'), false);
    });

    test('the first push seals, and units get their secrets', async () => {
      const { status, stdout, stderr } = await push('--all', '--manifest');
      assert.equal(status, 0, stderr);
      assert.match(
        stdout,
        /^HOST +RESULT +SENT +UNITS +SECONDS\nweb1 +done +seeds, 1 fixed, 1 manifest +- +\d+\.\d\nweb2 +done +seeds, 1 fixed, 1 manifest /,
      );
      assert.match(stderr, /web1: sealed the seed of host\/web1 to its ssh host key; key id /);
      assert.match(stderr, /web1 is enrolled by its ssh host key/);
      for (const host of [web1, web2]) {
        await host.systemctl('restart', 'web.service', 'api.service');
        assert.equal(await credential(host, 'api.service', 'token'), `first of ${host.name}`);
        assert.equal(
          await credential(host, 'web.service', 'session'),
          (await operator.run(['auxcred', 'get', 'session', `--host=${host.name}`])).stdout,
        );
      }
      assert.equal(await credential(web1, 'web.service', 'session'), await credential(web2, 'web.service', 'session'));
    });

    test('no seed or secret is visible in what ssh carries on standard input', async () => {
      const carried = (await operator.read('/root/carried')).toString('latin1');
      assert.match(carried, /age-encryption\.org\/v1\n-> ssh-ed25519 /);
      const { scopes }: { scopes: { seed: string }[] } = JSON.parse(
        (await operator.run(['auxcred', 'scopes', 'web1'])).stdout,
      );
      assert.equal(scopes.length, 2);
      for (const { seed } of scopes)
        for (const encoding of ['base64', 'hex', 'latin1'] as const)
          assert.ok(!carried.includes(Buffer.from(seed, 'base64').toString(encoding)));
      assert.ok(!carried.includes('first of web1'));
    });

    test('a second push does nothing and restarts nothing', async () => {
      const before = [await invocations(web1), await invocations(web2)];
      const { hosts, status } = await pushed('--all', '--manifest');
      assert.equal(status, 0);
      assert.deepEqual(
        hosts.map(({ result }) => result),
        ['nothing to do', 'nothing to do'],
      );
      assert.deepEqual([await invocations(web1), await invocations(web2)], before);
    });

    test('a changed fixed secret restarts the units that have it, and no other', async () => {
      const before = await invocations(web1);
      await operator.run(['auxcred', 'put', '--force', 'host/web1/token'], { input: 'second' });
      const { hosts, status } = await pushed('root@web1');
      assert.equal(status, 0);
      assert.deepEqual(hosts, [
        {
          ...hosts[0],
          host: 'web1',
          result: 'done',
          sent: { seeds: false, fixed: ['host/web1/token'], manifest: [], removed: [] },
          units: [{ unit: 'api.service', action: 'restart' }],
        },
      ]);
      await settled(web1);
      const now = await invocations(web1);
      assert.equal(now[0], before[0]);
      assert.notEqual(now[1], before[1]);
      assert.equal(await credential(web1, 'api.service', 'token'), 'second');
    });

    test('a unit that does not start again is named, and push ends with a status of its own', async () => {
      const broken = '/etc/systemd/system/api.service.d/broken.conf';
      await web1.write(broken, '[Service]\nExecStartPre=/bin/sh -c "exit 9"\n');
      await web1.systemctl('daemon-reload');
      await operator.run(['auxcred', 'put', '--force', 'host/web1/token'], { input: 'unlucky' });
      const { hosts, status, stderr } = await pushed('web1');
      assert.equal(status, exitStatus['unit-failed'], stderr);
      assert.deepEqual(
        hosts.map(({ failure }) => failure && [failure.code, failure.message]),
        [['unit-failed', 'api.service failed: exit-code, status 9']],
      );
      assert.match(stderr, /^auxcred: web1: hint: journalctl -b -u api\.service$/m);
      // All of it is active, so nothing is left to do.
      const again = await pushed('web1');
      assert.deepEqual([again.status, again.hosts[0]?.result], [0, 'nothing to do']);
      await web1.shell(`rm ${broken}; systemctl daemon-reload; systemctl restart api.service`);
      assert.equal(await credential(web1, 'api.service', 'token'), 'unlucky');
      await web1.write(broken, '[Service]\nExecStartPre=/bin/sh -c "exit 9"\n');
      await web1.systemctl('daemon-reload');
      await operator.run(['auxcred', 'put', '--force', 'host/web1/token'], { input: 'second' });
      assert.equal((await pushed('web1', '--no-wait')).status, 0);
      await settled(web1);
      await web1.shell(`rm ${broken}; systemctl daemon-reload; systemctl restart api.service`);
    });

    alike('a host that is down fails alone, and the next push finishes it', async () => {
      await web2.systemctl('stop', 'ssh.service');
      await operator.run(['auxcred', 'rekey', '--next', 'group/web']);
      const [session1, session2] = [
        await credential(web1, 'web.service', 'session'),
        await credential(web2, 'web.service', 'session'),
      ];
      const first = await pushed('--all');
      assert.equal(first.status, exitStatus.system);
      assert.deepEqual(
        first.hosts.map(({ host, result }) => [host, result]),
        [
          ['web1', 'done'],
          ['web2', 'failed'],
        ],
      );
      assert.match(first.stderr, /web2 can't be reached: ssh: connect to host web2 port 22: Connection refused/);
      assert.deepEqual(first.hosts[0]?.units, [{ unit: 'web.service', action: 'restart' }]);
      await settled(web1);
      assert.notEqual(await credential(web1, 'web.service', 'session'), session1);
      assert.equal(await credential(web2, 'web.service', 'session'), session2);
      await web2.systemctl('start', 'ssh.service');
      const second = await pushed('--all');
      assert.equal(second.status, 0);
      assert.deepEqual(
        second.hosts.map(({ host, result }) => [host, result]),
        [
          ['web1', 'nothing to do'],
          ['web2', 'done'],
        ],
      );
      await settled(web2);
      assert.equal(await credential(web2, 'web.service', 'session'), await credential(web1, 'web.service', 'session'));
    });

    alike('a connection that ends half-way changes nothing, and one that ends later is finished', async () => {
      await operator.run(['auxcred', 'put', '--force', 'host/web1/token'], { input: 'third' });
      const before = await web1.read('/var/lib/auxcred/fixed/host/web1/token.sealed');
      await operator.write(
        '/usr/local/bin/cut-ssh',
        '#!/bin/bash\nexec ssh -T -o BatchMode=yes "$@" < <(exec head -c 300)\n',
        0o755,
      );
      await operator.shell('sed -i s/tee-ssh/cut-ssh/ /root/vault/vault.toml');
      const { hosts, status } = await pushed('web1');
      assert.equal(status, exitStatus.system);
      assert.match(
        hosts[0]?.failure?.message ?? '',
        /the connection ended before everything had arrived, so nothing was changed/,
      );
      assert.deepEqual(await web1.read('/var/lib/auxcred/fixed/host/web1/token.sealed'), before);
      assert.equal(await credential(web1, 'api.service', 'token'), 'second');
      await operator.shell('sed -i s/cut-ssh/tee-ssh/ /root/vault/vault.toml');
      assert.equal((await pushed('web1')).hosts[0]?.result, 'done');
      await settled(web1);
      assert.equal(await credential(web1, 'api.service', 'token'), 'third');
    });

    alike('what a host could not activate is finished by the next push, with nothing to send', async () => {
      await web1.shell('mv /etc/auxcred/rendered /etc/auxcred/kept; mkdir -p /etc/auxcred/rendered/x');
      await operator.run(['auxcred', 'put', '--force', 'host/web1/token'], { input: 'fourth' });
      await operator.write('/root/vault/all/more.toml', '[secret.more]\nkind = "hex"\nunits = ["web.service"]\n');
      const failed = await pushed('web1', '--manifest');
      assert.equal(failed.hosts[0]?.result, 'failed', failed.stderr);
      await web1.shell('rm -r /etc/auxcred/rendered; mv /etc/auxcred/kept /etc/auxcred/rendered');
      const { hosts, status } = await pushed('web1', '--manifest');
      assert.equal(status, 0);
      assert.equal(hosts[0]?.result, 'done');
      assert.deepEqual(hosts[0]?.sent, { seeds: false, fixed: [], manifest: [], removed: [] });
      await settled(web1);
      assert.equal((await pushed('web1', '--manifest')).hosts[0]?.result, 'nothing to do');
    });

    alike(
      'ssh refuses a host whose key is not the known one, and auxcred one that is not the enrolled one',
      async () => {
        await operator.shell(
          'known=~/.ssh/known_hosts; cp $known ~/known; ' +
            'sed -i "s/^web2 .*/$(grep ^web1 ~/known | sed s/^web1/web2/ | sed "s,/,\\\\\\\\/,g")/" $known',
        );
        const wrong = await pushed('--all');
        assert.equal(wrong.status, exitStatus.system);
        assert.match(wrong.stderr, /^auxcred: web2: the ssh host key of web2 changed \(reinstalled\?\)$/m);
        assert.match(
          wrong.stderr,
          /: ssh-keygen -R web2; ssh root@web2 auxcred enroll \| auxcred enroll web2 --replace --from=-$/m,
        );
        assert.equal(wrong.hosts[0]?.result, 'nothing to do');
        await operator.shell('mv ~/known ~/.ssh/known_hosts');

        const { status, hosts } = await pushed('root@web2').then(async (result) => {
          assert.equal(result.status, 0);
          await operator.shell('cd ~/vault/enrolled; cp web2.json ~/kept; sed s/web1/web2/ web1.json > web2.json');
          return await pushed('root@web2');
        });
        assert.equal(status, exitStatus.refused);
        assert.match(
          hosts[0]?.failure?.message ?? '',
          /web2 has another ssh-ed25519 host key than the one that it is enrolled with/,
        );
        await operator.shell('mv ~/kept ~/vault/enrolled/web2.json');
      },
    );

    alike("a host does not accept another host's seeds", async () => {
      await operator.write(
        '/usr/local/bin/tee-ssh',
        '#!/bin/sh\nshift\nexec ssh -T -o BatchMode=yes root@web1 "$@"\n',
        0o755,
      );
      await operator.shell('mv ~/vault/enrolled/web2.json ~/kept');
      const { status, hosts } = await pushed('web2');
      assert.equal(status, exitStatus['not-pinned']);
      assert.match(hosts[0]?.failure?.message ?? '', /web2 is sealed as host\/web1/);
    });

    test('a root that copy filled boots with its secrets, and seals natively', async () => {
      const web3 = await auxcredMachine({ systemd: version, name: 'web3' });
      try {
        for (const unit of ['web', 'api']) await web3.write(`/etc/systemd/system/${unit}.service`, runsForEver);
        await web3.systemctl('enable', 'web.service', 'api.service');
        await operator.shell('printf "[host.web3]\\ngroups = [\\"web\\"]\\n" >> /root/vault/vault.toml');
        await operator.run(['auxcred', 'put', 'host/web3/token'], { input: 'of web3' });
        await operator.run(['auxcred', 'enroll', 'web3', '--from=-'], {
          input: (await web3.run(['auxcred', 'enroll'])).bytes,
        });
        const { stdout } = await operator.run(['auxcred', 'copy', 'web3', '--json']);
        const { pairs }: { pairs: { source: string; destination: string; mode: string; owner: string }[] } =
          JSON.parse(stdout);
        for (const { source, destination, mode, owner } of pairs) {
          await web3.write(destination, await operator.read(source), Number.parseInt(mode, 8));
          await web3.run(['chown', owner, destination]);
        }
        // As `--to=` leaves it in a root that has no group auxcred yet.
        await web3.shell('chown root:root /var/lib/auxcred/seeds.age; chmod 600 /var/lib/auxcred/seeds.age');
        const copied = await web3.read('/var/lib/auxcred/seeds.age');
        await web3.boot();
        await web3.waitFor('api.service', 'active');
        assert.equal(await credential(web3, 'api.service', 'token'), 'of web3');
        assert.equal(
          await credential(web3, 'web.service', 'session'),
          await credential(web1, 'web.service', 'session'),
        );
        for (
          let i = 0;
          i < 100 && (await web3.shell('ls /var/lib/auxcred/unbound 2>/dev/null || true')).stdout !== '';
          i++
        )
          await web3.shell('sleep 0.1');
        await web3.waitFor('auxcred-bind.service', ['inactive', 'failed']);
        assert.equal((await web3.properties('auxcred-bind.service', 'Result'))['Result'], 'success');
        assert.notDeepEqual(await web3.read('/var/lib/auxcred/seeds.age'), copied);
        assert.equal(
          (
            await web3.shell(
              'stat -c "%a %U:%G" /var/lib/auxcred/seeds.age; ls /var/lib/auxcred/unbound 2>/dev/null || true',
            )
          ).stdout,
          '640 root:auxcred\n',
        );
      } finally {
        await web3.destroy();
      }
    });

    alike('auxcred nixos-rebuild pushes between build and switch, with a stand-in for nixos-rebuild', async () => {
      // At each step it asks the host for the fixed secret.
      await operator.write(
        '/usr/local/bin/nixos-rebuild',
        '#!/bin/sh\nprintf "%s: " "$*"; ssh -o BatchMode=yes root@web1 auxcred get token < /dev/null; echo\n' +
          '[ "$1" = build ] || exit 42\n',
        0o755,
      );
      const before = (await web1.run(['auxcred', 'get', 'token'])).stdout;
      await operator.run(['auxcred', 'put', '--force', 'host/web1/token'], { input: 'of the deployment' });
      const { status, stdout, stderr } = await operator.run(
        ['auxcred', 'nixos-rebuild', 'switch', '--target-host', 'web1', '-v'],
        { check: false, timeoutMs: 120_000 },
      );
      assert.equal(stdout, 'switch --target-host web1 -v: of the deployment\n', stderr);
      assert.ok(stderr.includes(`build --target-host web1 -v: ${before}\n`), stderr);
      assert.equal(status, 42);
      assert.equal(await credential(web1, 'api.service', 'token'), 'of the deployment');
    });

    alike('a manifest file that was edited on the host is not overwritten', async () => {
      await operator.write('/usr/local/bin/tee-ssh', '#!/bin/sh\nexec ssh -T -o BatchMode=yes "$@"\n', 0o755);
      await web1.shell(`echo '# mine' >> ${manifestPath('web')}`);
      const { status, hosts } = await pushed('web1', '--manifest');
      assert.equal(status, exitStatus.refused);
      assert.match(hosts[0]?.failure?.message ?? '', /^web\.toml was put or edited on web1, not by a push$/);
      assert.equal((await pushed('web1', '--manifest', '--replace')).status, 0);
      assert.equal((await pushed('web1', '--manifest')).hosts[0]?.result, 'nothing to do');
    });
  });
}
