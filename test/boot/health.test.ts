import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { auxcredMachine, firmware, manifestPath, secretToml } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { alikeOn, thoroughVersions } from '../machine/root.ts';
import { doctorOn } from './doctor.ts';
import { explainOtherBoots } from './other-boots.ts';

const service = (...lines: string[]): string =>
  `[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nRemainAfterExit=yes\n${lines.join('\n')}\n` +
  `ExecStart=/bin/sh -c 'test -s "$$CREDENTIALS_DIRECTORY"/key'\n[Install]\nWantedBy=multi-user.target\n`;

for (const version of thoroughVersions)
  describe(`status and doctor on systemd ${version}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(version);
    let machine: Machine;
    const power = firmware();
    before(async () => {
      machine = await auxcredMachine({ systemd: version, name: 'web1', tpm: power.start });
      await machine.write('/etc/systemd/system/web.service', service());
      await machine.write('/etc/systemd/system/site@.service', service());
      await machine.write(
        '/etc/systemd/system/slow.service',
        service('ExecStartPre=/bin/sleep 600').replace('WantedBy=multi-user.target', ''),
      );
      await machine.write(manifestPath('web'), secretToml('key', ['web.service', 'site@.service', 'slow.service']));
      await machine.shell(
        'systemctl enable web.service site@blue.service; age-keygen -o /root/recovery.txt 2> /dev/null',
      );
      await machine.boot();
      const recipient = /age1\w+/.exec((await machine.read('/root/recovery.txt')).toString())?.[0] ?? '';
      await machine.run([
        'auxcred',
        'seal',
        '--with-key=tpm2',
        '--tpm2-pcrs=7+14',
        `--tpm2-device=${machine.tpm?.device ?? ''}`,
        `--recipient=${recipient}`,
      ]);
      await machine.run(['auxcred', 'apply']);
      await machine.reboot();
    });
    after(async () => {
      await machine?.destroy();
    });

    const { call, wrong, mend } = doctorOn(() => machine);

    test('all is well after a boot', async () => {
      assert.equal(await wrong(), '');
      const { status, stdout } = await call('status');
      assert.equal(status, 0, stdout);
      assert.match(
        stdout,
        /^seed +sealed to tpm2 with PCR 7\+14, 1 recovery recipient\n +opens with tpm2 in \d+ ms: host\/web1$/m,
      );
      assert.match(stdout, /^units +2 run, 1 is stopped$/m);
      assert.match(
        stdout,
        /^broker +auxcred.socket listens, auxcred-stage.socket listens; the broker (?:runs|is idle)$/m,
      );
      assert.match(
        stdout,
        /^tpm +IBM SW TPM, firmware [0-9.]+, at swtpm:path=\S+, the one that the seed is sealed to$/m,
      );
      assert.match(stdout, /^all is well$/m);
      const report: unknown = JSON.parse((await call('status', '--json')).stdout);
      assert.deepEqual(typeof report === 'object' && report !== null ? Reflect.get(report, 'units') : undefined, [
        { unit: 'slow.service', declared: 'slow.service', state: 'stopped', lacksSecret: false },
        { unit: 'web.service', declared: 'web.service', state: 'runs', lacksSecret: false },
        { unit: 'site@blue.service', declared: 'site@.service', state: 'runs', lacksSecret: false },
      ]);
    });

    alike(
      "what a user logs in the broker's name is not believed, and the broker's own entries are shown as text",
      async () => {
        const id = '3a5f6c0be2ce4f3f8a1f8b3f5d1b9c57';
        await machine.shell(`
          printf 'MESSAGE_ID=${id}\\nMESSAGE=refused\\nAUXCRED_OUTCOME=refused\\n' > /tmp/forged
          printf 'AUXCRED_UNIT=web.service\\nAUXCRED_CREDENTIAL=key\\n' >> /tmp/forged
          printf 'AUXCRED_REASON=\\033[2Jforged\\n' >> /tmp/forged
          setpriv --reuid=daemon --clear-groups logger --journald < /tmp/forged
        `);
        assert.equal(
          (await machine.journal('-b', `MESSAGE_ID=${id}`, 'AUXCRED_UNIT=web.service')).length,
          1,
          'it is in the journal',
        );
        assert.doesNotMatch((await call('status', '--no-open')).stdout, /last refused|forged/);
        assert.deepEqual(
          await machine.journal('-b', '-u', 'auxcred.service', 'AUXCRED_OUTCOME=refused'),
          [],
          'as the README searches for refusals',
        );
        await machine.shell(
          "printf 'we\\033[2Jb\\233.service' | socat -t 5 - UNIX-CONNECT:/run/auxcred/stage.sock > /dev/null",
        );
        assert.equal((await machine.journal('-b', '-u', 'auxcred.service', 'AUXCRED_OUTCOME=refused')).length, 1);
        for (const option of [[], ['--json']]) {
          const { stdout } = await call('status', '--no-open', ...option);
          assert.match(stdout, /no staged credential is provisioned for we ?.{0,3}\[2Jb|no valid/);
          assert.doesNotMatch(stdout, /[\x00-\x09\x0b-\x1f\x7f-\x9f]|\\u001b/);
        }
      },
    );

    test("files that override auxcred's drop-in, as systemd sees it", async () => {
      await machine.write(
        manifestPath('staged'),
        secretToml('staged', ['slow.service'], { delivery: 'stage' }) +
          secretToml('file', ['slow.service'], { delivery: 'file' }),
      );
      const warned = async (): Promise<string> => (await machine.run(['auxcred', 'apply'])).stderr;
      assert.doesNotMatch(await warned(), /warning/);
      /** A unit's properties according to systemd's bus. */
      const has = async (
        unit: string,
        property: 'Asserts' | 'ExecStartPre' | 'LoadCredential' | 'LoadCredentialEncrypted' | 'SetCredentialEncrypted',
        text: string,
      ): Promise<boolean> => {
        const path = `/org/freedesktop/systemd1/unit/${unit.replace('@', '_40').replace('.', '_2e')}`;
        const kind = property === 'Asserts' ? 'Unit' : 'Service';
        return (
          await machine.run([
            'busctl',
            '--json=short',
            'get-property',
            'org.freedesktop.systemd1',
            path,
            `org.freedesktop.systemd1.${kind}`,
            property,
          ])
        ).stdout.includes(text);
      };
      const slow = '/etc/systemd/system/slow.service.d';
      const [loads, loadsEncrypted, runs, asserts] = [
        ['LoadCredential', '"auxcred.'],
        ['LoadCredentialEncrypted', '"key"'],
        ['ExecStartPre', '"stage"'],
        ['Asserts', '/run/auxcred/files/file'],
      ] as const;
      const web = '/etc/systemd/system/web.service.d';
      // Each round's files override different units, or different properties.
      const rounds = [
        [
          ['web.service', `${web}/90.conf`, '[Service]\nLoadCredential=\n', loadsEncrypted],
          [
            'site@blue.service',
            '/etc/systemd/system/site@.service.d/90.conf',
            '[Service]\nLoadCredential=\n',
            loadsEncrypted,
          ],
          ['slow.service', `${slow}/90.conf`, '[Service]\nExecStartPre=\n', runs],
        ],
        [
          [
            'web.service',
            '/run/systemd/system/service.d/90.conf',
            '[Service]\nLoadCredentialEncrypted=\n',
            loadsEncrypted,
          ],
          ['slow.service', `${slow}/91.conf`, '[Unit]\nAssertPathExists=\n', asserts],
        ],
        [
          ['web.service', `${web}/50-auxcred.conf`, '[Service]\n', loadsEncrypted],
          ['slow.service', `${slow}/90.conf`, '[Service]\nLoadCredential=staged:/etc/hostname\n', loads],
        ],
      ] as const;
      for (const round of rounds) {
        for (const [unit, file, text, [property, what]] of round) {
          assert.ok(await has(unit, property, what), `${unit} ${property}`);
          await machine.write(file, text);
        }
        await machine.systemctl('daemon-reload');
        const [found, told] = [await wrong(), await warned()];
        for (const [unit, file, text, [property, what]] of round) {
          assert.equal(await has(unit, property, what), false, `${file} ${text}`);
          const path = file.replaceAll('.', '\\.');
          const taken = `takes .*${unit.replace(/^(site@)blue/, '$1\\w*')}.*`;
          assert.match(found, new RegExp(`^problem: ${path} ${taken}\\[overrides\\]$`, 'm'));
          assert.match(told, new RegExp(`warning: ${path} (?:replaces|takes)`));
        }
        await machine.shell(`rm ${round.map(([, file]) => file).join(' ')}; systemctl daemon-reload`);
        assert.equal(await wrong(), '');
      }
      await machine.write(`${slow}/90.conf`, '[Service]\nSetCredential=staged:fallback\n');
      await machine.systemctl('daemon-reload');
      assert.match(
        await wrong(),
        /^warning: \S+90\.conf sets its own value for a credential of slow\.service: SetCredential=staged \[own-credential\]$/m,
      );
      await machine.write('/run/systemd/system/web.service.d/90.conf', '[Service]\nSetCredential=key:fallback\n');
      assert.ok(await has('web.service', 'SetCredentialEncrypted', '"key"'));
      await machine.systemctl('daemon-reload');
      assert.equal(await has('web.service', 'SetCredentialEncrypted', '"key"'), false, 'one id, one value');
      assert.match(
        await wrong(),
        /^warning: \S+web\.service\.d\/90\.conf sets its own value for a credential of web\.service: SetCredential=key \[own-credential\]$/m,
      );
      await machine.shell(`
        rm ${manifestPath('staged')} ${slow}/90.conf /run/systemd/system/web.service.d/90.conf
        auxcred apply
        systemctl daemon-reload
      `);
      assert.equal(await wrong(), '');
    });

    test('a unit under an alias', async () => {
      await machine.shell('ln -s web.service /etc/systemd/system/www.service; systemctl daemon-reload');
      await machine.write(
        '/run/systemd/system/page.service',
        '[Service]\nExecStart=/bin/true\n[Install]\nAlias=pages.service\n',
      );
      await machine.write(manifestPath('alias'), secretToml('alias', ['www.service', 'pages.service']));
      const { status, stdout } = await machine.run(['auxcred', 'check'], { check: false });
      assert.equal(status, exitStatus['invalid-manifest']);
      assert.match(stdout, /secret\.alias\.units: www\.service is an alias of web\.service/);
      assert.match(stdout, /secret\.alias\.units: pages\.service is an alias of page\.service/);
      assert.match(await wrong(), /^problem: www\.service is declared, but is an alias of web\.service \[aliases\]$/m);
      await machine.shell(`
        rm ${manifestPath('alias')} /etc/systemd/system/www.service /run/systemd/system/page.service
        systemctl daemon-reload
      `);
      assert.equal(await wrong(), '');
    });

    test('a unit that is still starting is waiting', async () => {
      await machine.systemctl('start', '--no-block', 'slow.service');
      await machine.waitFor('slow.service', 'activating');
      assert.match((await call('status', '--no-open')).stdout, /^units +2 run, 1 waits\n +waiting: slow.service$/m);
      await machine.systemctl('stop', 'slow.service');
      await machine.systemctl('reset-failed', 'slow.service');
    });

    test('a unit that failed for another reason than its secret is not well', async () => {
      const file = '/etc/systemd/system/web.service.d/broken.conf';
      await machine.write(file, '[Service]\nExecStartPre=/bin/sh -c "exit 9"\n');
      await machine.shell('systemctl daemon-reload; ! systemctl restart web.service');
      const { status, stdout } = await call('status');
      assert.equal(status, exitStatus.unwell);
      assert.match(stdout, /^units +1 runs, 1 failed, 1 is stopped\n +web\.service failed: exit-code, status 9$/m);
      assert.match(stdout, /^1 warning: auxcred doctor says what to do$/m);
      assert.equal(
        await wrong(),
        'warning: web.service failed: exit-code, status 9 [units]\n    it has its secrets, but does not run\n' +
          '    $ journalctl -b -u web.service\n    or $ systemctl restart web.service\n',
      );
      await machine.shell(`rm ${file}; systemctl daemon-reload; systemctl restart web.service`);
      assert.equal(await wrong(), '');
    });

    test('a drop-in that systemd lacks, a timer and a socket that are off, a unit that does not exist', async () => {
      await machine.shell('rm -r /run/systemd/generator/web.service.d');
      assert.match(
        await wrong(),
        /^warning: systemd does not have the drop-ins of web.service as they were applied \[generator\]$/m,
      );
      await mend(/generator/);
      await machine.systemctl('disable', '--now', 'auxcred-rotate.timer');
      await mend(/auxcred-rotate.timer does not run \[timer\]/);
      await machine.systemctl('stop', 'auxcred.socket', 'auxcred.service');
      await mend(/auxcred.socket does not listen/);
      await machine.shell(`
        systemctl mask --now --runtime auxcred-stage.socket 2>&1
        systemctl unmask --runtime auxcred-stage.socket 2>&1
        systemctl disable auxcred-stage.socket 2>&1
        systemctl start auxcred-stage.socket
      `);
      await mend(/auxcred-stage.socket is not enabled/);
      await machine.write(manifestPath('typo'), secretToml('typo', ['wbe.service', 'wbe@.service']));
      await machine.run(['auxcred', 'apply']);
      const typo = await wrong();
      assert.match(
        typo,
        /^warning: wbe.service, wbe@.service are declared, but do not exist on this machine \[units\]$/m,
      );
      await machine.shell(`rm ${manifestPath('typo')}; auxcred apply`);
      assert.equal(await wrong(), '');
      await machine.shell('mv /etc/systemd/system/site@.service /root; systemctl daemon-reload');
      assert.match(
        await wrong(),
        /^warning: site@.service is declared, but does not exist on this machine \[units\]$/m,
        'where no template that is declared exists',
      );
      await machine.shell('mv /root/site@.service /etc/systemd/system; systemctl daemon-reload');
    });

    test('a start limit that was hit', async () => {
      // A busy machine may not manage five starts in ten seconds.
      await machine.shell(`
        mkdir -p /run/systemd/system/auxcred.service.d
        printf "[Unit]\\nStartLimitIntervalSec=300\\nStartLimitBurst=5\\n" > /run/systemd/system/auxcred.service.d/limit.conf
        systemctl daemon-reload
      `);
      await machine.shell(
        `
        for i in $(seq 30); do systemctl start auxcred.service || break; systemctl kill --signal=KILL auxcred.service; done
        for i in 1 2 3; do systemctl start --no-block auxcred.service || true; done
      `,
        { check: false },
      );
      await machine.run(['systemctl', 'start', 'slow.service', '--no-block'], { check: false });
      await machine.waitFor('auxcred.socket', 'failed');
      assert.match(
        await wrong(),
        /^problem: auxcred.socket failed \((?:(?:service-)?start-limit-hit|trigger-limit-hit|resources)\) \[sockets\]$/m,
      );
      await machine.systemctl('stop', 'slow.service');
      await mend(/auxcred.socket failed/);
      await machine.shell(`
        rm /run/systemd/system/auxcred.service.d/limit.conf
        systemctl daemon-reload
        systemctl reset-failed
        systemctl start auxcred.socket auxcred-stage.socket
      `);
      assert.equal(await wrong(), '');
    });

    alike('other measurements: which PCR, which units, and the fix', async () => {
      power.measured[14]?.push('01'.repeat(32));
      await machine.reboot();
      await machine.waitFor('web.service', 'failed');
      await machine.waitFor('auxcred.service', ['failed', 'inactive']);
      const { status, stdout } = await call('status');
      assert.equal(status, exitStatus.unwell);
      assert.match(
        stdout,
        /^seed +sealed to tpm2 with PCR 7\+14, 1 recovery recipient; does not open\n +the machine did not boot as it did when it was sealed: PCR 14 /m,
      );
      assert.match(
        stdout,
        /^ +failed because a secret was missing: (?:web.service, site@blue.service|site@blue.service, web.service)$/m,
      );
      assert.match(
        stdout,
        /^ +last refused \d{4}-\d\d-\d\d \d\d:\d\dZ: key for (?:web|site@blue).service: the machine did not boot as it did/m,
      );
      const said = await wrong();
      assert.match(
        said,
        /^problem: PCR 14 is [0-9a-f]{16}, and was [0-9a-f]{16} when the seed was sealed \[pcrs\]\n.*\n {4}\$ auxcred reseal --identity=RECOVERY-KEY$/m,
      );
      assert.doesNotMatch(said, /PCR 7 |\[opening\]/);
      // A broker that is refusing exits at once.
      await machine.run(['systemctl', 'restart', 'web.service'], { check: false });
      await machine.shell('auxcred reseal --identity=/root/recovery.txt');
      await machine.run(['systemctl', 'restart', 'web.service', 'site@blue.service']);
      assert.equal(await wrong(), '');
    });

    alike('other measurements with a log: which component, by doctor and by measured', async () => {
      await explainOtherBoots({ machine, power, call, wrong });
    });

    alike('a PCR that nothing is measured into', async () => {
      await machine.run(['auxcred', 'reseal', '--tpm2-pcrs=6+7']);
      assert.match(await wrong(), /^warning: PCR 6 is bound, but nothing was ever measured into it \[pcrs\]$/m);
      await machine.run(['auxcred', 'reseal', '--tpm2-pcrs=7+14']);
      assert.equal(await wrong(), '');
    });

    alike('a TPM library that is missing', async () => {
      await machine.shell('for file in /usr/lib/*/libtss2-esys.so.0*; do mv "$file" "$file.away"; done');
      assert.match(await wrong(), /^problem: the TPM library libtss2 is not installed \[libtss2\]$/m);
      await machine.shell('for file in /usr/lib/*/libtss2-esys.so.0*.away; do mv "$file" "${file%.away}"; done');
    });

    alike('a TPM that hangs is said to hang', async () => {
      await machine.run(['systemctl', 'stop', 'auxcred.service'], { check: false });
      power.tpm?.signal('SIGSTOP');
      try {
        const limits = { check: false, timeoutMs: 60_000 };
        const [{ status, stdout }, received] = await Promise.all([
          machine.run(['auxcred', 'status'], limits),
          machine.run(['auxcred', 'receive'], { ...limits, input: '{"do":"nothing","protocol":1}\n' }),
        ]);
        assert.notEqual(status, 0);
        assert.match(stdout, /the TPM does not answer within 20 s/);
        assert.match(received.stdout, /"the seeds could not be opened within 20 s"/);
      } finally {
        power.tpm?.signal('SIGCONT');
      }
    });
  });
