import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { auxcredMachine, firmware, secretToml } from '../auxcred-machine.ts';
import type { RunResult } from '../machine/container.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { alikeOn, thoroughVersions } from '../machine/root.ts';
import { probed, writeProbeUnit } from '../machine/units.ts';
import { pushHere, writeNoSsh } from './pushed-host.ts';

const pushedTo = '/var/lib/auxcred/fixed/host/web1/token.sealed';

for (const version of thoroughVersions)
  describe(`what is pushed to a machine that locked its seeds, on systemd ${version}`, { skip: cannotBoot }, () => {
    const alike = alikeOn(version);
    let machine: Machine;
    const power = firmware();
    const put = async (value: string): Promise<void> => {
      await machine.run(['auxcred', 'put', '--vault=/root/vault', '--force', 'host/web1/token'], { input: value });
    };
    const push = async (): Promise<RunResult & { result: string }> => await pushHere(machine);
    const token = async (unit: string): Promise<string | undefined> =>
      (await probed(machine, unit))?.['token']?.toString();
    const written = async (): Promise<string> => (await machine.run(['cat', '/run/auxcred/files/of-file'])).stdout;

    before(async () => {
      machine = await auxcredMachine({ systemd: version, name: 'web1', tpm: power.start });
      for (const unit of ['asks.service', 'reads.service']) await writeProbeUnit(machine, unit);
      await machine.boot();
      await machine.systemctl('enable', 'asks.service', 'reads.service');
      const device = machine.tpm?.device ?? '';
      await writeNoSsh(machine);
      await machine.shell(`
        mkdir -p -m 700 /root/vault/all
        age-keygen -o /root/identity 2>/dev/null
        auxcred init --vault=/root/vault --recipient="$(age-keygen -y /root/identity)"
      `);
      await machine.write(
        '/root/vault/vault.toml',
        'ssh = ["no-ssh"]\nidentity = ["/root/identity"]\n' +
          '[host.web1]\nwith-key = "tpm2"\ntpm2-pcrs = "7"\nlock-after-unseal = true\n',
      );
      const fixed = { kind: 'fixed', path: 'token' };
      await machine.write(
        '/root/vault/all/web.toml',
        secretToml('token', ['asks.service'], fixed) +
          secretToml('of-store', ['reads.service'], { ...fixed, credential: 'token', delivery: 'credstore' }) +
          secretToml('of-file', [], { ...fixed, delivery: 'file' }).replace('units = []\n', ''),
      );
      await machine.shell(
        `auxcred enroll --tpm2-device=${device} > /root/enrollment
         auxcred enroll web1 --vault=/root/vault --from=/root/enrollment`,
      );
      await put('first');
      const { result, stderr } = await push();
      assert.equal(result, 'done', stderr);
      // The broker locks the seeds as soon as it runs.
      await machine.systemctl('restart', 'asks.service');
    });
    after(async () => {
      await machine?.destroy();
    });

    test('a new value is active after the next boot, and then nothing is left to do', async () => {
      await put('second');
      assert.equal((await push()).result, 'at next boot');
      await machine.systemctl('restart', 'asks.service');
      assert.equal(await token('asks.service'), 'first');
      await machine.reboot();
      assert.deepEqual(
        [await token('asks.service'), await token('reads.service'), await written()],
        ['second', 'second', 'second'],
      );
      const { result, stderr } = await push();
      assert.equal(result, 'nothing to do', stderr);
    });

    alike('a push that failed half-way is not finished by a broker that starts while its units run', async () => {
      const lock = async (on: boolean): Promise<void> => {
        await machine.shell(`sed -i 's/^lock.*/lock-after-unseal = ${String(on)}/' /root/vault/vault.toml`);
      };
      await lock(false);
      assert.equal((await pushHere(machine, '--reseal')).result, 'done');
      await machine.reboot();
      await lock(true);
      await put('half');
      await machine.run(['mkdir', '/var/lib/auxcred/pending.json']);
      const { result, stdout } = await pushHere(machine, '--reseal');
      assert.equal(result, 'failed', stdout);
      await machine.shell(`
        rmdir /var/lib/auxcred/pending.json
        systemctl daemon-reload
        kill "$(systemctl show --property=MainPID --value auxcred.service)"
        while systemctl --quiet is-active auxcred.service; do sleep 0.1; done
        systemctl restart asks.service
      `);
      assert.equal(await token('reads.service'), 'second');
      const again = await push();
      assert.equal(again.result, 'at next boot', again.stderr);
      await machine.reboot();
      assert.deepEqual([await token('asks.service'), await token('reads.service')], ['half', 'half']);
      assert.equal((await push()).result, 'nothing to do');
    });

    alike('what no boot could activate is refused, and nothing is written', async () => {
      await put('third');
      await machine.shell(
        'f=$(find /root/vault -name token.sealed); ' +
          'printf XXXX | dd of="$f" bs=1 seek=$(($(stat -c %s "$f") - 4)) conv=notrunc',
      );
      const before = await machine.read(pushedTo);
      const damaged = await push();
      assert.equal(damaged.status, exitStatus.malformed, damaged.stderr);
      assert.match(damaged.stderr, /host\/web1\/token does not open: it was changed/);
      assert.deepEqual(await machine.read(pushedTo), before);

      await put('third');
      await machine.write('/root/vault/all/shared.toml', secretToml('shared', ['asks.service'], { share: 'nobody' }));
      const lacking = await push();
      assert.equal(lacking.status, exitStatus['not-found'], lacking.stderr);
      assert.match(lacking.stderr, /shared is shared by group\/nobody, whose seed is not available/);
      assert.deepEqual(await machine.read(pushedTo), before);
      await machine.run(['rm', '/root/vault/all/shared.toml']);
    });
  });
