import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { version } from '../../src/version.ts';
import { cannotBoot, createMachine, type Machine } from '../machine/machine.ts';
import { alikeOn, onlyInTestAll, systemdVersions } from '../machine/root.ts';
import { program, run, scratch, succeed } from './built.ts';

const built = scratch();
const dist = join(built.path, 'dist');
let deb = '';
before(() => {
  succeed(process.execPath, program('bundle'), `--dist=${dist}`);
  deb = succeed(process.execPath, program('deb'), `--dist=${dist}`).trim();
});
after(() => {
  built.remove();
});

describe('the Debian package', () => {
  const field = (name: string): string => succeed('dpkg-deb', '--field', deb, name).trim();

  test('is the same bytes when built again, in another folder, by another user, at another time', () => {
    for (const architecture of [process.arch, process.arch === 'arm64' ? 'x64' : 'arm64']) {
      const [one = '', other = ''] = ['one', 'other'].map((name, index) => {
        const folder = join(built.path, `${name}-${architecture}`);
        cpSync(dist, folder, { recursive: true });
        const command = `umask ${index === 0 ? '022' : '077'}; exec "$0" "$@"`;
        const [builder, args] = [program('deb'), [`--dist=${folder}`, `--arch=${architecture}`]];
        const zone = index === 0 ? 'TZ=UTC' : 'TZ=Asia/Tokyo';
        return succeed('env', zone, 'LC_ALL=C.UTF-8', 'sh', '-c', command, process.execPath, builder, ...args).trim();
      });
      assert.notEqual(other, one);
      assert.ok(readFileSync(other).equals(readFileSync(one)), architecture);
    }
  });

  onlyInTestAll('has nothing that lintian minds, but what is explained in it', async () => {
    const said = succeed('lintian', '--allow-root', '--fail-on=error,warning', '--display-info', deb);
    assert.match(said, /^I: /m, 'it looked');
    assert.doesNotMatch(said, /^[EW]:|unused-override|mismatched-override/m);
  });

  test('says what it is and what it needs', () => {
    assert.equal(field('Package'), 'auxcred');
    assert.equal(field('Version'), version);
    assert.equal(field('Architecture'), succeed('dpkg', '--print-architecture').trim());
    const depends = field('Depends').split(', ');
    for (const wanted of [
      'nodejs (>= 20.19) | nodejs-20-or-later-from-deb.nodesource.com',
      'systemd (>= 252)',
      'libtss2-esys-3.0.2-0 | libtss2-esys-3.0.2-0t64',
      'libtss2-tctildr0 | libtss2-tctildr0t64',
    ])
      assert.ok(depends.includes(wanted), wanted);
    assert.match(field('Recommends'), /libtss2-tcti-device0 \| libtss2-tcti-device0t64/);
    assert.ok(Number(field('Installed-Size')) > statSync(join(dist, 'koffi.node')).size / 1024);
  });

  test('contains files that root owns, checksums and no conffile', () => {
    const lines = succeed('dpkg-deb', '--contents', deb).trim().split('\n');
    for (const line of lines) assert.match(line, /^(?:drwxr-xr-x|-rw-r--r--|-rwxr-xr-x|lrwxrwxrwx) root\/root /);
    const paths = lines.map((line) => line.split(/\s+/)[5] ?? '');
    for (const path of [
      './usr/bin/auxcred',
      './usr/lib/auxcred/koffi.node',
      './usr/lib/auxcred/secrets.d/',
      './usr/lib/systemd/system/auxcred.socket',
      './usr/lib/systemd/system-generators/auxcred-generator',
      './usr/share/doc/auxcred/README.md',
      './usr/share/doc/auxcred/copyright',
      './usr/share/doc/auxcred/changelog.gz',
      './usr/share/man/man1/auxcred.1.gz',
      './usr/share/doc/auxcred/docs/guide.md',
      './usr/share/doc/auxcred/docs/flow.svg',
    ])
      assert.ok(paths.includes(path), path);
    const hooks = ['initramfs/post-update.d', 'kernel/postinst.d', 'kernel/postrm.d'].map(
      (folder) => `/etc/${folder}/zzz-auxcred`,
    );
    assert.deepEqual(
      paths.filter((path) => !path.startsWith('./usr/') && !path.endsWith('/')),
      hooks.map((hook) => `.${hook}`),
    );

    using unpacked = scratch();
    succeed('dpkg-deb', '--raw-extract', deb, unpacked.path);
    assert.deepEqual(readdirSync(join(unpacked.path, 'DEBIAN')).sort(), [
      'conffiles',
      'control',
      'md5sums',
      'postinst',
      'postrm',
      'prerm',
      'triggers',
    ]);
    const sums = readFileSync(join(unpacked.path, 'DEBIAN/md5sums'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split('  '));
    assert.equal(sums.length, lines.filter((line) => line.startsWith('-')).length - hooks.length);
    const kept = readFileSync(join(unpacked.path, 'DEBIAN/conffiles'), 'utf8').trim().split('\n');
    assert.deepEqual(kept.sort(), hooks);
    for (const hook of hooks)
      assert.match(readFileSync(join(unpacked.path, hook), 'utf8'), /^\/usr\/bin\/auxcred reseal --installed/m);
    for (const [sum, path = ''] of sums)
      assert.equal(
        createHash('md5')
          .update(readFileSync(join(unpacked.path, path)))
          .digest('hex'),
        sum,
        path,
      );
    assert.equal(readFileSync(join(unpacked.path, 'DEBIAN/triggers'), 'utf8'), 'interest-noawait /usr/bin/node\n');
    for (const script of ['postinst', 'postrm', 'prerm'])
      assert.equal(run('sh', '-n', join(unpacked.path, 'DEBIAN', script)).status, 0, script);
    assert.equal(
      readFileSync(join(unpacked.path, 'usr/lib/auxcred/auxcred.cjs'), 'utf8').split('\n')[0],
      '#!/usr/bin/node --disable-warning=ExperimentalWarning',
    );
  });
});

for (const systemd of systemdVersions)
  describe(`the Debian package with systemd ${systemd}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(systemd);
    let machine: Machine;
    before(async () => {
      machine = await createMachine({ systemd, name: 'packaged' });
    });
    after(async () => {
      await machine?.destroy();
    });

    const isActive = async (...names: string[]): Promise<string[]> =>
      (await machine.run(['systemctl', 'is-active', ...names], { check: false })).stdout.trim().split('\n');

    test('can be installed while systemd does not run, and serves from the next boot on', async () => {
      await machine.write(`/var/tmp/${basename(deb)}`, readFileSync(deb));
      const install = 'apt-get install --quiet --yes --no-install-recommends -o APT::Sandbox::User=root';
      const { stdout } = await machine.shell(`${install} /var/tmp/${basename(deb)}`);
      const steps = stdout
        .trim()
        .split('\n')
        .filter((line) => !/^(?:Processing triggers for|W: |N: )/.test(line));
      assert.match(steps.at(-1) ?? '', /^auxcred: next: auxcred seal --print-words {4}\(man auxcred; /);
      assert.equal((await machine.run(['dpkg', '--verify', 'auxcred'])).stdout, '');
      assert.equal((await machine.shell('stat -c "%U:%G %a" /var/lib/auxcred')).stdout, 'root:auxcred 750\n');
      await machine.write('/etc/auxcred/secrets.d/web.toml', '[secret.key]\nkind = "hex"\nunits = ["web.service"]\n');
      await machine.write(
        '/etc/systemd/system/web.service',
        '[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nRemainAfterExit=yes\n' +
          'ExecStart=/bin/sh -c "wc -c < $${CREDENTIALS_DIRECTORY}/key > /run/web"\n' +
          '[Install]\nWantedBy=multi-user.target\n',
      );
      await machine.shell('auxcred seal --no-recovery; auxcred apply; systemctl enable web.service');
      assert.equal(await machine.boot(), 'running');
      assert.equal((await machine.read('/run/web')).toString().trim(), '64');
      assert.deepEqual(await isActive('auxcred.socket', 'auxcred-stage.socket', 'auxcred.service'), [
        'active',
        'active',
        'active',
      ]);
    });

    test('systemd accepts its units without warnings', async () => {
      const { stderr } = await machine.run([
        'systemd-analyze',
        'verify',
        '--man=no',
        'auxcred.service',
        'auxcred.socket',
        'auxcred-stage.socket',
        'auxcred-provision.service',
        'auxcred-files.service',
        'auxcred-user-files.service',
        'auxcred-bind.service',
        'auxcred-rotate.timer',
        'auxcred-rotate.service',
      ]);
      assert.equal(stderr, '');
      await machine.run(['systemd-analyze', 'security', '--no-pager', '--threshold=9', 'auxcred.service']);
    });

    test('its broker is not ordered after anything that could wait for it', async () => {
      const { After = '' } = await machine.properties('auxcred.service', 'After');
      const allowed = new Set([
        'auxcred.socket',
        'auxcred-stage.socket',
        'auxcred-host-secret.service',
        'systemd-sysusers.service',
        'systemd-journald.socket',
        'system.slice',
        '-.mount',
      ]);
      // The mount of its own credentials, from systemd 254 on.
      assert.deepEqual(
        After.split(' ').filter((unit) => !allowed.has(unit) && unit !== 'run-credentials-auxcred.service.mount'),
        [],
      );
    });

    test('its broker has no access to what it does not need', async () => {
      await machine.systemctl('restart', 'web.service');
      const { MainPID = '' } = await machine.properties('auxcred.service', 'MainPID');
      const of = async (what: string): Promise<string> => (await machine.shell(what.replaceAll('PID', MainPID))).stdout;
      assert.match(await of('cat /proc/PID/status'), /^Seccomp:\t2$/m);
      assert.notEqual(await of('readlink /proc/PID/ns/net'), await of('readlink /proc/1/ns/net'));
      const mounts = await of('cat /proc/PID/mountinfo');
      assert.match(mounts, / \/ \/ ro\b/, 'the file system is read-only');
      for (const folder of ['/tmp', '/root', '/home'])
        assert.match(
          mounts,
          new RegExp(`/inaccessible/dir ${folder} |systemd/inaccessible/dir ${folder} | ${folder} ro`),
          folder,
        );
      assert.doesNotMatch(await of('cat /proc/PID/maps'), /^\S+ rwx/m, 'no memory is both writable and executable');
    });

    alike('each socket can be restarted while the broker runs, again and again', async () => {
      // More often than systemd lets units restart by default: five times in ten seconds.
      for (const socket of Array.from({ length: 6 }, () => ['auxcred-stage.socket', 'auxcred.socket']).flat()) {
        await machine.systemctl('restart', 'web.service');
        await machine.systemctl('restart', socket);
        await machine.systemctl('restart', 'web.service');
        assert.deepEqual(await isActive('auxcred.socket', 'auxcred-stage.socket'), ['active', 'active']);
      }
    });

    alike('an upgrade ends the broker and keeps what the administrator switched off', async () => {
      await machine.systemctl('restart', 'web.service');
      await machine.systemctl('disable', 'auxcred-stage.socket');
      // As version 0.1.0 left it.
      await machine.shell(
        [
          "cd /etc/auxcred/rendered; sed -i '/^#/d; / .*units/d' manifest; rm /run/web",
          'cd units/web.service.d',
          "printf '[Service]\\nLoadCredential=key:/run/auxcred/credentials.sock\\n' > 50-auxcred.conf",
          "printf 'SetCredential=key:fallback\\n' >> 50-auxcred.conf",
        ].join('\n'),
      );
      await machine.install(deb);
      assert.deepEqual(await isActive('auxcred.socket', 'auxcred.service'), ['active', 'inactive']);
      assert.equal(
        (await machine.run(['systemctl', 'is-enabled', 'auxcred-stage.socket'], { check: false })).stdout,
        'disabled\n',
      );
      await machine.systemctl('restart', 'web.service');
      assert.equal((await machine.read('/run/web')).toString().trim(), '64', 'old drop-ins are rendered again');
      await machine.run(['auxcred', 'apply']);
    });

    alike('a version whose socket has another name finds none that listens', async () => {
      const prerm = async (version: string): Promise<readonly string[]> => {
        await machine.run(['/var/lib/dpkg/info/auxcred.prerm', 'upgrade', version]);
        return await isActive('auxcred.socket', 'auxcred-stage.socket', 'auxcred.service');
      };
      await machine.systemctl('start', 'auxcred.socket', 'auxcred-stage.socket', 'auxcred.service');
      assert.deepEqual(await prerm('0.2.1'), ['active', 'active', 'active']);
      assert.deepEqual(await prerm('0.1.0'), ['inactive', 'inactive', 'inactive']);
      await machine.run(['/var/lib/dpkg/info/auxcred.postinst', 'abort-upgrade', '0.1.0']);
    });

    alike('it caches its code for the Node that is installed, again when dpkg replaces that one', async () => {
      const written = 'ls /usr/lib/auxcred/code-cache | cut -d- -f1; ls /usr/lib/auxcred/code-cache/* | wc -l';
      const expected = (await machine.shell('node --version; ls /usr/lib/auxcred/parts | wc -l')).stdout;
      assert.equal((await machine.shell(written)).stdout, expected);
      const replace = 'dpkg-trigger --by-package=nodejs /usr/bin/node; dpkg --triggers-only --pending';
      await machine.shell(`mv /usr/lib/auxcred/code-cache/v* /usr/lib/auxcred/code-cache/v1; ${replace}`);
      assert.equal((await machine.shell(written)).stdout, expected);
      // Debian's Node has V8 in a library.
      const engine = "$(ldd /usr/bin/node | grep -o '/[^ ]*libnode[^ ]*' || echo /usr/bin/node)";
      await machine.shell(`touch --date=@7 ${engine}; ${replace}`);
      assert.match((await machine.shell('ls /usr/lib/auxcred/code-cache')).stdout, /^v[^\n]*-7\n$/);
      // As dpkg does once a new version could not be unpacked: prerm has removed the cache.
      await machine.shell('rm -r /usr/lib/auxcred/code-cache; /var/lib/dpkg/info/auxcred.postinst abort-upgrade 0.3.0');
      assert.equal((await machine.shell(written)).stdout, expected);
      assert.equal((await machine.shell('find /usr/lib/auxcred -perm /022')).stdout, '');
    });

    alike('removed and installed again, it writes the files of a unit that starts', async () => {
      await machine.write(
        '/etc/auxcred/secrets.d/file.toml',
        '[secret.in-file]\nkind = "hex"\ndelivery = "file"\nunits = ["file.service"]\n',
      );
      await machine.write('/etc/systemd/system/file.service', '[Service]\nExecStart=sleep infinity\n');
      await machine.shell('systemctl daemon-reload; auxcred apply; systemctl start auxcred-files.service file.service');
      const value = (await machine.read('/run/auxcred/files/in-file')).toString();
      await machine.run(['apt-get', 'remove', '--yes', '--quiet', 'auxcred']);
      assert.deepEqual(await isActive('file.service', 'auxcred-files.service'), ['active', 'inactive']);
      assert.equal((await machine.shell('ls /run/auxcred/files')).stdout, '');
      await machine.install(deb);
      await machine.systemctl('restart', 'file.service');
      assert.equal((await machine.read('/run/auxcred/files/in-file')).toString(), value);
      await machine.shell('systemctl stop file.service; rm /etc/auxcred/secrets.d/file.toml; auxcred apply');
    });

    alike('removing and purging it keep the sealed seed', async () => {
      const seeds = await machine.read('/var/lib/auxcred/seeds.age');
      const removed = await machine.run(['apt-get', 'remove', '--yes', '--quiet', 'auxcred']);
      assert.match(
        removed.stdout,
        /^auxcred: these units no longer get secrets, and those that need them will not start: .*\bweb\.service\b/m,
      );
      assert.deepEqual(await isActive('auxcred.socket', 'auxcred-stage.socket', 'auxcred.service'), [
        'inactive',
        'inactive',
        'inactive',
      ]);
      assert.equal(
        (
          await machine.shell(
            'find /usr /run/auxcred -name "*auxcred*" -not -path "/usr/share/doc/*"; find /run/auxcred -type s',
          )
        ).stdout.replace('/run/auxcred\n', ''),
        '',
      );
      assert.ok(existsSync(join(machine.root, 'etc/auxcred/scopes.json')));
      const { stdout } = await machine.run(['apt-get', 'purge', '--yes', '--quiet', 'auxcred']);
      assert.match(stdout, /the sealed seed stays in \/var\/lib\/auxcred/);
      const removal =
        /^auxcred: this removes it for ever, with every secret that comes from it: (rm .*)$/m.exec(stdout)?.[1] ??
        'false';
      assert.ok((await machine.read('/var/lib/auxcred/seeds.age')).equals(seeds));
      assert.equal(
        (
          await machine.shell(
            'ls -A /etc/auxcred; ls /etc/systemd/system/sockets.target.wants 2>/dev/null | grep auxcred || true',
          )
        ).stdout,
        'scopes.json\nsecrets.d\n',
      );

      await machine.install(deb);
      await machine.run(['auxcred', 'apply']);
      await machine.systemctl('restart', 'web.service');
      assert.equal((await machine.read('/run/web')).toString().trim(), '64', 'installed again, it opens the same seed');

      await machine.run(['apt-get', 'purge', '--yes', '--quiet', 'auxcred']);
      await machine.shell(removal);
      assert.equal(
        (await machine.shell('ls -d /var/lib/auxcred* /etc/auxcred* /etc/systemd/system/auxcred* 2> /dev/null || true'))
          .stdout,
        '',
      );
    });
  });
