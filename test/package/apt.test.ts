import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { version } from '../../src/version.ts';
import { debianPackage } from '../auxcred-machine.ts';
import type { RunResult } from '../machine/container.ts';
import { cannotBoot, createMachine, type Machine } from '../machine/machine.ts';
import { thoroughVersions } from '../machine/root.ts';
import { scratch, succeed } from './built.ts';
import { emptyPackage, pooled, type Signer, signer, tamper, webServer, withVersion } from './repository.ts';
import { furnishOldMachine, oldValues } from './version-01.ts';

const url = 'http://127.0.0.1:8080/';
const server = `[Unit]
DefaultDependencies=no
[Service]
ExecStart=/usr/bin/node /usr/local/lib/server.cjs
`;
const web = `[Unit]
StartLimitIntervalSec=0
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c "rm -rf /run/web; cp -r $\${CREDENTIALS_DIRECTORY} /run/web"
[Install]
WantedBy=multi-user.target
`;

for (const systemd of thoroughVersions)
  describe(`a machine that has nothing but the apt repository, with systemd ${systemd}`, { skip: cannotBoot }, () => {
    const work = scratch();
    const repository = join(work.path, 'repo');
    const [ours, other] = [signer(), signer()];
    let machine: Machine;
    const publish = (by: Pick<Signer, 'publish'>, ...args: string[]): void => {
      const { status, stderr } = by.publish(`--output=${repository}`, `--url=${url}`, ...args);
      assert.equal(status, 0, stderr);
    };

    before(async () => {
      publish(
        ours,
        withVersion(debianPackage(), '0.1.0', work.path),
        emptyPackage('nodejs', '18.20.4+dfsg-1~deb12u1', work.path),
      );
      machine = await createMachine({ systemd, name: 'web1', readOnlyBinds: { '/srv/repository': repository } });
      furnishOldMachine(machine.root);
      await machine.write('/usr/local/lib/server.cjs', webServer('/srv/repository', 8080));
      await machine.write('/etc/systemd/system/repository.service', server);
      await machine.write('/etc/systemd/system/web.service', web);
      await machine.shell(
        'rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/preferences.d/* /var/lib/apt/lists/*',
      );
      await machine.boot();
      await machine.systemctl('start', 'repository.service');
      const ready =
        'for i in $(seq 400); do socat -u OPEN:/dev/null TCP:127.0.0.1:8080 && exit; sleep 0.05; done; exit 1';
      await machine.shell(`{ ${ready}; } 2> /dev/null`);
    });
    after(async () => {
      await machine?.destroy();
      ours[Symbol.dispose]();
      other[Symbol.dispose]();
      work.remove();
    });

    const apt = async (...args: string[]): Promise<RunResult> =>
      await machine.run(['apt-get', '--quiet', '--yes', '--no-install-recommends', ...args], {
        check: false,
        timeoutMs: 180_000,
      });
    const works = async (...args: string[]): Promise<string> => {
      const { status, stdout, stderr } = await apt(...args);
      assert.equal(status, 0, `${stdout}${stderr}`);
      return stdout;
    };
    const refuses = async (expected: RegExp, ...args: string[]): Promise<void> => {
      const { status, stdout, stderr } = await apt(...args);
      assert.notEqual(status, 0, `${stdout}${stderr}`);
      assert.match(stderr, expected);
    };
    // The root's own mirror may be a snapshot, so its apt is set to take lists that have expired.
    const update = ['update', '-o', 'APT::Update::Error-Mode=any', '-o', 'Acquire::Check-Valid-Until=true'];
    const installed = async (): Promise<string> =>
      (await machine.run(['dpkg-query', '--show', '--showformat=${Version}', 'auxcred'])).stdout;

    test('installs from it, with the two files that the repository names', async () => {
      await machine.shell(
        [
          'install -D -m 644 /srv/repository/auxcred.asc /etc/apt/keyrings/auxcred.asc',
          'install -D -m 644 /srv/repository/auxcred.sources /etc/apt/sources.list.d/auxcred.sources',
        ].join('\n'),
      );
      await works(...update);
      const said = await works('install', 'auxcred');
      assert.match(said, /^auxcred: next: auxcred apply {4}/m, 'it has a seed already');
      assert.equal(await installed(), '0.1.0');
    });

    test('says where a newer Node comes from, if it has an old one', async () => {
      // apt as it would be on a machine without Node and without auxcred.
      const without = `awk 'BEGIN { RS = ""; ORS = "\\n\\n" } !/^Package: (node|auxcred)/'`;
      await machine.shell(`${without} /var/lib/dpkg/status > /run/status`);
      const { status, stdout } = await apt('install', '--simulate', '-o', 'Dir::State::status=/run/status', 'auxcred');
      assert.notEqual(status, 0);
      assert.match(stdout, /auxcred : Depends: nodejs \(>= 20\.19\) but .* or$/m);
      assert.match(stdout, /\bnodejs-20-or-later-from-deb\.nodesource\.com\b/);
    });

    test('upgrades from it, and every secret of version 0.1.0 is what it was', async () => {
      publish(ours, debianPackage());
      await works(...update);
      const said = await works('upgrade');
      assert.doesNotMatch(said, /auxcred: next:/, 'only a first installation says what comes next');
      assert.equal(await installed(), version);
      await machine.systemctl('start', 'web.service');
      // The calendar may have changed that one meanwhile.
      for (const [name, value] of oldValues)
        if (!name.startsWith('session-key')) assert.deepEqual(await machine.read(`/run/web/${name}`), value, name);
      await machine.run(['auxcred', 'apply']);
      for (const name of ['admin-password', 'cookie', 'api-token'])
        assert.deepEqual(await machine.read(`/run/web/${name}`), oldValues.get(name), name);
      const { bytes } = await machine.run(['auxcred', 'get', '--at=2025-01', 'session-key']);
      assert.deepEqual(bytes, oldValues.get('session-key'));
    });

    test('refuses a package that somebody changed', async () => {
      const undo = tamper(pooled(repository, version));
      await machine.run(['apt-get', 'clean']);
      await refuses(/Hash Sum mismatch|unexpected size/, 'install', '--reinstall', 'auxcred');
      undo();
      await works('install', '--reinstall', 'auxcred');
    });

    test('refuses lists that somebody changed, or signed with another key', async () => {
      const release = join(repository, 'dists/stable/InRelease');
      const signed = readFileSync(release, 'utf8');
      const fresh = async (): Promise<void> => void (await machine.shell('rm -rf /var/lib/apt/lists/*'));
      writeFileSync(release, signed.replace('Label: auxcred', 'Label: auxcrad'));
      await fresh();
      await refuses(/signature|BADSIG/i, ...update);
      writeFileSync(release, signed);
      await works(...update);

      const architecture = succeed('dpkg', '--print-architecture').trim();
      const list = join(repository, 'dists/stable/main', `binary-${architecture}`);
      const [, hash = ''] =
        new RegExp(`^ (\\S+) \\d+ main/binary-${architecture}/Packages.xz$`, 'm').exec(signed) ?? [];
      const undo = [tamper(join(list, 'Packages.xz')), tamper(join(list, 'by-hash/SHA256', hash))];
      await fresh();
      await refuses(/Hash Sum mismatch|unexpected size/, ...update);
      for (const back of undo) back();

      publish(other);
      await fresh();
      await refuses(/NO_PUBKEY|not signed|[Mm]issing key|verification failed/, ...update);
    });

    test('keeps its lists rather than take older ones, and refuses those out of date', async () => {
      publish(ours);
      await works(...update);
      const dates = 'cat /var/lib/apt/lists/*InRelease | grep ^Date:';
      const { stdout: newest } = await machine.shell(dates);
      publish(ours.at(Math.floor(Date.now() / 1000) - 24 * 60 * 60));
      await works(...update);
      assert.equal((await machine.shell(dates)).stdout, newest);

      const threeDaysAgo = Math.floor(Date.now() / 1000) - 3 * 24 * 60 * 60;
      publish(ours.at(threeDaysAgo), '--valid-days=1');
      await machine.shell('rm -rf /var/lib/apt/lists/*');
      await refuses(/expired/, ...update);
      publish(ours.at(threeDaysAgo), '--valid-days=7');
      await works(...update);
    });
  });
