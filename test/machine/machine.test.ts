import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { cannotBoot, createMachine, type Machine } from './machine.ts';
import { systemdVersions } from './root.ts';
import { forgetProbes, probed, writeProbeUnit } from './units.ts';

const secret = Buffer.from([0, 255, 10, 32, 92, 0]);

for (const version of systemdVersions)
  describe(`a machine with systemd ${version}`, { skip: cannotBoot }, () => {
    let machine: Machine;
    before(async () => {
      machine = await createMachine({ systemd: version, name: `with-${version}` });
      await machine.write('/etc/probe.secret', secret, 0o600);
      await writeProbeUnit(machine, 'probe.service', {
        service: ['LoadCredential=value:/etc/probe.secret', 'User=nobody'],
        steps: ['ExecStartPre', 'ExecStart', 'ExecStartPost'],
      });
      // A sandbox hides the credentials from ExecStartPost= before systemd 256.
      await writeProbeUnit(machine, 'sandboxed.service', {
        service: ['LoadCredential=value:/etc/probe.secret', 'DynamicUser=yes', 'ReadWritePaths=/run/probe'],
        steps: ['ExecStartPre', 'ExecStart'],
      });
      await writeProbeUnit(machine, 'without.service');
      await machine.systemctl('enable', 'probe.service', 'sandboxed.service', 'without.service');
    });
    after(async () => {
      await machine?.destroy();
    });

    test('boots, with a Node that auxcred supports', async () => {
      assert.equal(await machine.boot(), 'running');
      const found = Number(/^systemd (\d+)/.exec((await machine.systemctl('--version')).stdout)?.[1]);
      // Debian testing moves on: there it is this version or a later one.
      assert.ok(version === '262' ? found >= Number(version) : found === Number(version), `systemd ${found}`);
      const [major = 0, minor = 0] = (await machine.run(['node', '--version'])).stdout.slice(1).split('.').map(Number);
      assert.ok(major > 20 || (major === 20 && minor >= 19), `node ${major}.${minor}`);
      assert.equal((await machine.run(['hostname'])).stdout, `with-${version}\n`);
    });

    test('gives a unit its credentials at every step', async () => {
      for (const step of ['ExecStartPre', 'ExecStart', 'ExecStartPost'] as const)
        assert.deepEqual(await probed(machine, 'probe.service', step), { value: secret }, step);
      for (const step of ['ExecStartPre', 'ExecStart'] as const)
        assert.deepEqual(await probed(machine, 'sandboxed.service', step), { value: secret }, step);
      assert.equal((await machine.properties('without.service', 'ActiveState'))['ActiveState'], 'active');
      assert.equal(await probed(machine, 'without.service'), undefined);
      await forgetProbes(machine);
      assert.equal(await probed(machine, 'probe.service'), undefined);
    });

    test('runs commands as root outside of any unit', async () => {
      const { stdout, bytes } = await machine.shell('id -u; sed -n s/^0:://p /proc/self/cgroup; cat', {
        input: secret,
      });
      assert.match(stdout, /^0\n\/user\.slice\/user-0\.slice\/session-test\.scope\n/);
      assert.deepEqual(bytes.subarray(-secret.length), secret);
      assert.equal((await machine.run(['sh', '-c', 'exit 7'], { check: false })).status, 7);
      await assert.rejects(machine.shell('echo why >&2; exit 7'), /exit status 7\nwhy/);
    });

    test('shows the journal and waits for units', async () => {
      await machine.run(['systemd-run', '--quiet', '--unit=talker', 'sh', '-c', 'echo "ein Wort"; exit 3']);
      assert.equal(await machine.waitFor('talker.service', 'failed'), 'failed');
      assert.ok((await machine.journal('--unit=talker.service')).some(({ MESSAGE }) => MESSAGE === 'ein Wort'));
      await assert.rejects(machine.waitFor('talker.service', 'active', 100), /talker\.service is failed, not active/);
      await machine.systemctl('reset-failed');
    });

    test('reboots, and keeps its disk but not its memory', async () => {
      const bootId = await machine.read('/proc/sys/kernel/random/boot_id');
      await machine.write('/run/gone', 'x');
      await machine.write('/root/kept', 'x');
      assert.equal(await machine.reboot(), 'running');
      assert.notDeepEqual(await machine.read('/proc/sys/kernel/random/boot_id'), bootId);
      assert.equal((await machine.run(['test', '-e', '/run/gone'], { check: false })).status, 1);
      assert.equal((await machine.read('/root/kept')).toString(), 'x');
      assert.deepEqual(await probed(machine, 'probe.service'), { value: secret });
    });

    test('can be switched off, or have its plug pulled', async () => {
      await machine.shutdown();
      assert.equal((await machine.read('/root/kept')).toString(), 'x');
      await machine.boot();
      await machine.kill();
      assert.equal(machine.leader, undefined);
    });
  });

describe('what machines leave on this host', { skip: cannotBoot }, () => {
  test('is nothing, however they end', async () => {
    const one = await createMachine({ systemd: '257' });
    const two = await createMachine({ systemd: '257' });
    await Promise.all([one.boot(), two.boot()]);
    const leader = one.leader;
    assert.ok(leader !== undefined && existsSync(`/proc/${leader}`));
    assert.ok(traces(process.pid).length > 0);
    await Promise.all([one.destroy(), two.destroy()]);
    await one.destroy();
    assert.deepEqual(traces(process.pid), []);
    assert.ok(!existsSync(`/proc/${leader}`));
  });

  test('is nothing when their process is told to end', async () => {
    const child = await owner();
    child.kill('SIGTERM');
    await once(child, 'exit');
    assert.deepEqual(traces(child.pid), []);
  });

  test('goes with the next machine when their process was killed', async () => {
    const child = await owner();
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.ok(traces(child.pid).length > 0);
    await (await createMachine({ systemd: '257' })).destroy();
    assert.deepEqual(traces(child.pid), []);
  });

  test('goes, also when several machines are made at once', async () => {
    const child = await owner();
    child.kill('SIGKILL');
    await once(child, 'exit');
    const script = `
      const { createMachine } = await import(${JSON.stringify(new URL('machine.js', import.meta.url).href)});
      await (await createMachine({ systemd: '257' })).destroy();`;
    const exits = Array.from({ length: 4 }, async () => {
      const next = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: 'inherit' });
      return (await once(next, 'exit'))[0];
    });
    assert.deepEqual(await Promise.all(exits), [0, 0, 0, 0]);
    assert.deepEqual(traces(child.pid), []);
  });
});

/** A process of its own with a running machine. */
async function owner() {
  const script = `
    const { createMachine } = await import(${JSON.stringify(new URL('machine.js', import.meta.url).href)});
    await (await createMachine({ systemd: '257' })).boot();
    console.log('booted');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [said] = await once(child.stdout, 'data');
  assert.equal(String(said), 'booted\n');
  return child;
}

/** Mounts, processes and folders of machines that belong to `pid`. */
function traces(pid: number | undefined): string[] {
  const id = new RegExp(`(auxcred-test[-/])${pid}-`);
  const processes = readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((entry) => {
      try {
        // A zombie has ended; it waits for this host's init to take note.
        return (
          id.test(readFileSync(`/proc/${entry}/cgroup`, 'utf8')) &&
          !/^State:\tZ/m.test(readFileSync(`/proc/${entry}/status`, 'utf8'))
        );
      } catch {
        return false;
      }
    });
  const folders = ['/run/auxcred-test', '/run/systemd/nspawn/propagate', '/run/systemd/nspawn/unix-export']
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder).map((name) => `${folder}/${name}`));
  const groups = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , type]) => type === 'cgroup' || type === 'cgroup2')
    .flatMap(([, folder = '']) => [folder, `${folder}/system.slice`])
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder).map((name) => `${folder}/${name}`));
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return [...mounts, ...folders, ...groups].filter((text) => id.test(text)).concat(processes);
}
