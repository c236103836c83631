import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { auxcredMachine, manifestPath, secretToml } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { systemdVersions } from '../machine/root.ts';
import { probed, writeProbeUnit } from '../machine/units.ts';

/**
 * Connects to a socket under a name of its choice and prints how much came back, or that it was refused. With more
 * arguments it first moves into that control group below its own.
 */
const forger = `
use Socket;
my ($path, $name, $below) = @ARGV;
if ($below) {
    open(my $own, '<', '/proc/self/cgroup'); my ($group) = grep { s/^0::// } <$own>; chomp $group;
    mkdir "/sys/fs/cgroup$group/$below" or die "mkdir: $!";
    open(my $procs, '>', "/sys/fs/cgroup$group/$below/cgroup.procs") or die "$below: $!";
    print $procs $$;
    close($procs) or die "move: $!";
}
socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die;
bind($s, pack_sockaddr_un("\\0$name")) or die "bind: $!";
if (!connect($s, pack_sockaddr_un($path))) { print "denied\\n"; exit 0 }
shutdown($s, 1);
my $all = '';
while (sysread($s, my $part, 65536)) { $all .= $part }
print length($all), "\\n";
`;
const credentialSocket = '/run/auxcred/encrypted.sock';
const forgedName = 'deadbeef/unit/a.service/key-a';
/**
 * The answer for a unit's credential, and what systemd's own tool makes of it: whole, under another name, truncated,
 * and later.
 */
const judge = `#!/bin/sh
perl -e '
  use Socket;
  socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die;
  bind($s, pack_sockaddr_un("\\0cafe/unit/judge.service/key-judge")) or die;
  connect($s, pack_sockaddr_un("${credentialSocket}")) or die;
  shutdown($s, 1);
  while (sysread($s, my $part, 65536)) { print $part }
' > /run/answer
opens() { systemd-creds decrypt "$@" - - 2> /dev/null || echo closed; }
opens --name=key-judge < /run/answer > /run/judged-whole
opens --name=key-other < /run/answer > /run/judged-renamed
head -c -4 /run/answer | opens --name=key-judge > /run/judged-cut
opens --name=key-judge --timestamp=+2min < /run/answer > /run/judged-late
`;

for (const version of systemdVersions)
  describe(`isolation on systemd ${version}`, { skip: cannotBoot }, () => {
    let machine: Machine;
    /** Units whose control groups get other names from systemd. */
    const named = ['_under.service', 'memory.service', 'cgroup.x.service', 'tasks.service'];
    /** Runs the forger in a unit of its own. */
    const forge = async (
      name: string,
      properties: readonly string[] = [],
      { unit = 'forger.service', below = '' } = {},
    ): Promise<string> => {
      const { stdout } = await machine.run([
        'systemd-run',
        '--quiet',
        '--wait',
        '--pipe',
        '--collect',
        `--unit=${unit}`,
        ...properties.map((property) => `--property=${property}`),
        'perl',
        '/usr/local/lib/forger.pl',
        credentialSocket,
        name,
        below,
      ]);
      return stdout.trim();
    };
    before(async () => {
      machine = await auxcredMachine({ systemd: version, name: 'web1' });
      await writeProbeUnit(machine, 'a.service', {});
      await machine.write('/usr/local/lib/forger.pl', forger);
      for (const unit of named) await writeProbeUnit(machine, unit, {});
      await machine.write('/usr/local/lib/judge', judge, 0o755);
      await machine.write(
        '/etc/systemd/system/judge.service',
        '[Service]\nType=oneshot\nExecStart=/usr/local/lib/judge\n',
      );
      await machine.write(
        manifestPath('web'),
        secretToml('key-a', ['a.service']) +
          secretToml('key-named', named) +
          secretToml('key-judge', ['judge.service']),
      );
      await machine.run(['auxcred', 'seal', '--no-recovery']);
      await machine.run(['auxcred', 'apply']);
      await machine.boot();
      await machine.systemctl('start', 'a.service');
    });
    after(async () => {
      await machine?.destroy();
    });

    test('a unit that names a credential it was not given does not start, whatever its fallback', async () => {
      await writeProbeUnit(machine, 'thief.service', {
        service: [`LoadCredentialEncrypted=key-a:${credentialSocket}`, 'SetCredential=key-a:fallback'],
      });
      await machine.systemctl('daemon-reload');
      assert.notEqual((await machine.run(['systemctl', 'start', 'thief.service'], { check: false })).status, 0);
      assert.equal(await probed(machine, 'thief.service'), undefined);
      assert.equal((await machine.properties('thief.service', 'ExecMainStatus'))['ExecMainStatus'], '243');
      const [entry] = await machine.journal('-b', 'AUXCRED_OUTCOME=refused', 'AUXCRED_UNIT=thief.service');
      assert.match(String(entry?.['AUXCRED_REASON']), /no credential key-a is provisioned for thief\.service/);
    });

    test('a process without privileges can not even connect', async () => {
      assert.equal(await forge(forgedName, ['DynamicUser=yes']), 'denied');
      assert.equal(await forge(forgedName, ['User=nobody']), 'denied');
    });

    test("root in another unit is refused when it takes a unit's name", async () => {
      assert.equal(await forge(forgedName), '0');
      const entries = await machine.journal('-b', 'AUXCRED_OUTCOME=refused', 'AUXCRED_UNIT=a.service');
      assert.match(String(entries.at(-1)?.['AUXCRED_REASON']), /is not part of a\.service/);
    });

    test('a unit whose name only resembles another is not taken for it', async () => {
      assert.equal(await forge(forgedName, [], { unit: 'not-a.service' }), '0');
    });

    test('a unit that may make control groups can not make itself another', async () => {
      const delegated = ['Delegate=yes', 'CapabilityBoundingSet=', 'NoNewPrivileges=yes'];
      for (const below of ['a.service', 'init.scope', 'system.slice'])
        assert.equal(await forge(forgedName, delegated, { below }), '0', below);
      const [entry] = (await machine.journal('-b', 'AUXCRED_OUTCOME=refused', 'AUXCRED_UNIT=a.service')).slice(-1);
      assert.match(String(entry?.['AUXCRED_REASON']), /of forger\.service\) is not part of a\.service/);
    });

    test('units whose control groups have other names get their secrets', async () => {
      await machine.systemctl('start', ...named);
      const got = await Promise.all(
        named.map(async (unit) => (await probed(machine, unit))?.['key-named']?.toString() ?? ''),
      );
      for (const value of got) assert.match(value, /^[0-9a-f]{64}$/);
      assert.equal(new Set(got).size, 1);
    });

    test('an answer is what systemd-creds decrypts, under its own name, whole, and for a minute', async () => {
      await machine.systemctl('start', 'judge.service');
      const judged = async (how: string): Promise<string> => (await machine.read(`/run/judged-${how}`)).toString();
      assert.equal(await judged('whole'), (await machine.run(['auxcred', 'get', 'key-judge'])).stdout);
      for (const how of ['renamed', 'cut', 'late']) assert.equal(await judged(how), 'closed\n', how);
    });

    test('names that systemd would not send are refused', async () => {
      for (const name of [
        '',
        'x',
        'deadbeef/unit/a.service',
        'deadbeef/unit/a.service/key-a/more',
        'DEADBEEF/unit/a.service/key-a',
        'deadbeef/user/a.service/key-a',
        `deadbeef/unit/${'x'.repeat(60)}/y`,
      ]) {
        assert.equal(await forge(name), '0', name);
      }
    });

    test('the unit itself still gets its secret', async () => {
      await machine.systemctl('restart', 'a.service');
      assert.match((await probed(machine, 'a.service'))?.['key-a']?.toString('latin1') ?? '', /^[0-9a-f]{64}$/);
    });

    test('nobody but root and the broker can read the store', async () => {
      const { stdout } = await machine.shell(
        'stat -c "%n %U:%G %a" /var/lib/auxcred /var/lib/auxcred/seeds.age ' +
          '/var/lib/auxcred/provisioned/releases.json /run/auxcred/encrypted.sock /run/auxcred/stage.sock',
      );
      assert.equal(
        stdout.trim(),
        [
          '/var/lib/auxcred root:auxcred 750',
          '/var/lib/auxcred/seeds.age root:auxcred 640',
          '/var/lib/auxcred/provisioned/releases.json root:auxcred 640',
          '/run/auxcred/encrypted.sock root:root 600',
          '/run/auxcred/stage.sock root:root 600',
        ].join('\n'),
      );
    });

    test('the broker runs as nobody, without capabilities', async () => {
      await machine.systemctl('restart', 'a.service');
      const { MainPID } = await machine.properties('auxcred.service', 'MainPID');
      const status = (await machine.read(`/proc/${String(MainPID)}/status`)).toString();
      const user = (await machine.shell('id -u auxcred')).stdout.trim();
      assert.match(status, new RegExp(`^Uid:\\t${user}\\t${user}\\t${user}\\t${user}$`, 'm'));
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
        assert.match(status, new RegExp(`^${set}:\\t0{16}$`, 'm'));
      assert.match(status, /^NoNewPrivs:\t1$/m);
      assert.match((await machine.read(`/proc/${String(MainPID)}/limits`)).toString(), /^Max core file size +0 +0/m);
      // Its memory is root's, not that of its user: it can't be traced, and a core_pattern that is a program gets
      // nothing of it either.
      assert.equal((await machine.run(['stat', '-c', '%u', `/proc/${String(MainPID)}/mem`])).stdout, '0\n');
      const { MemorySwapMax } = await machine.properties('auxcred.service', 'MemorySwapMax');
      assert.equal(MemorySwapMax, '0');
    });
  });
