/** The audit chain in the journal of a real boot, and in copies of it that somebody has edited. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { auxcredMachine, firmware, manifestPath, secretToml } from '../auxcred-machine.ts';
import { auxcred } from '../cli.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { alikeOn, systemdVersions } from '../machine/root.ts';
import { probed, writeProbeUnit } from '../machine/units.ts';

interface Verdict {
  readonly intact: boolean;
  readonly records: number;
  readonly runs: number;
  readonly vouched: number;
  readonly attested: number;
  readonly findings: readonly { readonly kind: string; readonly text: string }[];
  readonly limits: readonly string[];
}

const remote = '/lib/systemd/systemd-journal-remote';

for (const version of systemdVersions)
  describe(`the audit of releases on systemd ${version}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(version);
    const power = firmware();
    let machine: Machine;
    let folder: string;
    const verified = async (...args: string[]): Promise<Verdict> =>
      JSON.parse((await machine.run(['auxcred', 'audit', '--verify', '--json', ...args], { check: false })).stdout);
    /** Starts a unit, and waits until the broker has nothing left to vouch for. */
    const started = async (unit: string): Promise<void> => {
      await machine.run(['systemctl', 'restart', unit], { check: false });
      await machine.run(['systemctl', 'stop', 'auxcred.service']);
    };

    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'audit-boot-'));
      machine = await auxcredMachine({ systemd: version, name: 'web1', tpm: power.start });
      await writeProbeUnit(machine, 'a.service', {});
      await writeProbeUnit(machine, 'b.service', {});
      await machine.write(
        '/etc/systemd/system/other.service',
        '[Service]\nType=oneshot\nLoadCredentialEncrypted=key-a:/run/auxcred/encrypted.sock\nExecStart=/bin/true\n',
      );
      await machine.write(manifestPath('web'), secretToml('key-a', ['a.service']) + secretToml('key-b', ['b.service']));
      await machine.shell('mkdir -p /var/log/journal');
      // A host that limits what services log still has all records. The limit grows with the room that is left.
      await machine.write('/etc/systemd/journald.conf.d/rate.conf', '[Journal]\nRateLimitBurst=1\n');
      await machine.run(['auxcred', 'seal', '--no-recovery']);
      await machine.run(['auxcred', 'apply']);
      await machine.boot();
    });
    after(async () => {
      await machine?.destroy();
      rmSync(folder, { recursive: true, force: true });
    });

    test('without a TPM: who got what, what was refused and why, and an intact chain over several runs', async () => {
      await started('a.service');
      await started('b.service');
      await started('other.service');
      const { stdout } = await machine.run(['auxcred', 'audit']);
      assert.match(stdout, /^WHEN +UNIT +CREDENTIAL +SECRET\n/);
      assert.match(stdout, /^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d {2}a\.service +key-a +host\/web1 hex key-a$/m);
      assert.match(stdout, /other\.service +key-a +refused\n +no credential key-a is provisioned for other\.service/);
      for (const line of stdout.split('\n')) assert.ok(line.length <= 100, line);
      const value = (await probed(machine, 'a.service'))?.['key-a']?.toString() ?? '';
      assert.match(value, /^[0-9a-f]{64}$/);
      assert.ok(!(await machine.run(['journalctl', '-o', 'export'])).stdout.includes(value));
      const only = async (...args: string[]): Promise<string[]> =>
        JSON.parse((await machine.run(['auxcred', 'audit', '--json', ...args])).stdout).map(
          (row: { unit: string; outcome: string }) => `${row.unit} ${row.outcome}`,
        );
      assert.deepEqual([...new Set(await only('--unit=b'))], ['b.service released']);
      assert.deepEqual([...new Set(await only('--secret=key-a'))], ['a.service released']);
      assert.deepEqual([...new Set(await only('--refused'))], ['other.service refused']);
      assert.deepEqual(await only('-n', '1'), ['other.service refused']);
      assert.deepEqual(await only('--until=yesterday'), []);
      const verdict = await verified();
      assert.deepEqual(verdict.findings, []);
      assert.ok(verdict.runs >= 3 && verdict.attested === 0);
      assert.equal(verdict.vouched, verdict.records);
    });

    test('nobody else can write records that count', async () => {
      await machine.shell(
        [
          "printf '%s\\n' 'MESSAGE=released key-b to evil.service' MESSAGE_ID=f0a0c2a48c3f4b0f9a5a7d2a54a2f6f1",
          'AUXCRED_OUTCOME=released AUXCRED_UNIT=evil.service _SYSTEMD_UNIT=auxcred.service |',
          'runuser -u nobody -- logger --journald',
        ].join(' '),
      );
      assert.ok(!(await machine.run(['auxcred', 'audit'])).stdout.includes('evil.service'));
      assert.deepEqual((await verified()).findings, []);
    });

    test('a broker that was killed, rotated journals and a reboot leave the chain whole', async () => {
      await machine.run(['systemctl', 'restart', 'a.service']);
      await machine.run(['systemctl', 'kill', '--signal=SIGKILL', 'auxcred.service']);
      await machine.run(['journalctl', '--rotate']);
      await machine.run(['systemctl', 'reset-failed'], { check: false });
      await started('b.service');
      const before = await verified();
      assert.deepEqual(before.findings, []);
      await machine.reboot();
      await started('a.service');
      const verdict = await verified();
      assert.deepEqual(verdict.findings, []);
      assert.ok(verdict.runs > before.runs);
      assert.equal(verdict.vouched, verdict.records);
    });

    test('records that were cut off at the end are found on the machine', async () => {
      const state = '/var/lib/auxcred-audit/chain';
      await machine.shell(`cp ${state} /root/state`);
      await machine.shell(`sed -i 's/ 0000000000000/ 0000000000009/' ${state}`);
      const verdict = await verified();
      assert.deepEqual(
        verdict.findings.map(({ kind }) => kind),
        ['cut-off'],
      );
      await machine.shell(`cat /root/state > ${state}`);
      assert.deepEqual((await verified()).findings, []);
    });

    test('with a TPM, it makes a statement in quiet moments, and counts', async () => {
      await machine.run([
        'auxcred',
        'reseal',
        '--with-key=tpm2',
        `--tpm2-device=${machine.tpm?.device ?? ''}`,
        '--tpm2-pcrs=7',
      ]);
      await machine.run(['systemctl', 'stop', 'auxcred.service']);
      for (const unit of ['a.service', 'b.service']) {
        await machine.run(['systemctl', 'restart', unit]);
        await machine.shell(`
          timeout 60 sh -c '
            until
              journalctl --sync
              journalctl -u auxcred.service -o cat --no-pager | tail -n 1 | grep -q "so did the TPM"
            do sleep 0.2; done
          '
        `);
      }
      await machine.run(['systemctl', 'stop', 'auxcred.service']);
      const verdict = await verified();
      assert.deepEqual(verdict.findings, []);
      assert.equal(verdict.attested, 2);
      assert.equal((await machine.run(['auxcred', 'audit', '--key'])).stdout.split('\n').length, 3);
    });

    test('an exported journal is checked elsewhere, and every edit of it is found', async () => {
      await machine.run(['journalctl', '--sync']);
      const keys = join(folder, 'keys');
      writeFileSync(keys, (await machine.run(['auxcred', 'audit', '--key'])).stdout);
      const exported = (
        await machine.run(['journalctl', '-o', 'export', '--no-pager', '_SYSTEMD_UNIT=auxcred.service'])
      ).stdout;
      const check = (entries: readonly string[], name: string): Verdict => {
        const file = join(folder, `${name}.journal`);
        rmSync(file, { force: true });
        execFileSync(remote, ['-o', file, '-'], {
          input: `${entries.join('\n\n')}\n\n`,
          stdio: ['pipe', 'ignore', 'ignore'],
        });
        const { stdout } = auxcred(['audit', '--verify', '--json', `--file=${file}`, `--public-key=${keys}`]);
        return JSON.parse(stdout);
      };
      const entries = exported.trimEnd().split('\n\n');
      const whole = check(entries, 'whole');
      assert.deepEqual(whole.findings, []);
      assert.equal(whole.attested, 2);
      const at = entries.findIndex(
        (entry) => entry.includes('AUXCRED_CREDENTIAL=key-b') && entry.includes('AUXCRED_RUN='),
      );
      const kinds = (verdict: Verdict): string[] => verdict.findings.map(({ kind }) => kind);
      const without = entries.filter((_, i) => i !== at);
      assert.ok(kinds(check(without, 'removed')).includes('missing'));
      const altered = entries.map((entry, i) => (i === at ? entry.replaceAll('b.service', 'c.service') : entry));
      assert.deepEqual(kinds(check(altered, 'altered')), ['altered']);
      assert.ok(kinds(check([...entries, entries[at] ?? ''], 'copied')).includes('duplicated'));
    });

    alike('the folder of a journal is read as it is', async () => {
      await machine.run(['journalctl', '--sync']);
      const { status, stdout } = await machine.shell(
        'auxcred audit --key > /root/keys && cp -r /var/log/journal /root/copy && ' +
          'auxcred audit --verify --public-key=/root/keys --directory=$(echo /root/copy/*)',
      );
      assert.equal(status, 0, stdout);
      assert.match(stdout, /^unknown {2}what root did without the broker/m);
      assert.match(
        stdout,
        /^intact {3}\d+ records of \d+ runs of the broker; signatures vouch for \d+, and 2 statements of the TPM fit$/m,
      );
    });

    test('whoever removes the state, or makes up a record, is found', async () => {
      await machine.run(['rm', '/var/lib/auxcred-audit/chain']);
      await started('a.service');
      const { status, stdout } = await machine.run(['auxcred', 'audit', '--verify'], { check: false });
      assert.equal(status, 22);
      assert.match(stdout, /^wrong {4}the chain begins again with run [0-9a-f]{8}/m);
      assert.match(stdout, /^not intact: /m);
    });
  });
