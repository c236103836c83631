/** What a boot waits for, measured in a booted machine: units that get their secrets, and the start of the broker. */
import { auxcredMachine, manifestPath, secretToml } from '../test/auxcred-machine.ts';
import type { Machine } from '../test/machine/machine.ts';
import { compare, median, report, reportLimit } from './report.ts';

export const count = 100;
const rounds = 9;

/** The ways in which a unit gets a secret, with the line of its unit file. */
export const ways = {
  file: 'LoadCredential=key:/etc/bench.secret',
  creds: 'LoadCredentialEncrypted=key:/etc/bench.cred',
  socket: '',
  stage: '',
} as const;
type Way = keyof typeof ways;
const names: readonly Way[] = ['file', 'creds', 'socket', 'stage'];

/** A machine with a seed that is sealed to its host key. */
export async function withMachine(work: (machine: Machine) => Promise<void>): Promise<void> {
  const machine = await auxcredMachine({ systemd: 'debian13', name: 'bench' });
  try {
    await machine.boot();
    await machine.run(['auxcred', 'seal', '--no-recovery']);
    await work(machine);
  } finally {
    await machine.destroy();
  }
}

/** The names of the units that {@link writeUnits} wrote. */
export const unitsOf = (way: string): string[] =>
  Array.from({ length: count }, (_, i) => `${way}-${String(i + 1)}.service`);

/** Writes 100 units for each way, and what they read. @param lines - what each has in its unit file */
export async function writeUnits(machine: Machine, lines: Readonly<Record<string, string>>): Promise<void> {
  for (const [way, line] of Object.entries(lines)) {
    const unit = `[Service]\\nType=oneshot\\nExecStart=/bin/true\\n${line}\\n`;
    await machine.shell(
      `for i in $(seq ${String(count)}); do printf '${unit}' > /etc/systemd/system/${way}-$i.service; done`,
    );
  }
  await machine.shell('printf %064d 1 > /etc/bench.secret');
  await machine.shell('systemd-creds --with-key=host --name=key encrypt /etc/bench.secret /etc/bench.cred');
}

/** 100 units with a secret each, started at once, alternating between four ways. */
export const benchDelivery = async (): Promise<void> =>
  await withMachine(async (machine) => {
    await writeUnits(machine, ways);
    const staged = { credential: 'key', delivery: 'stage' };
    const manifest = secretToml('key', unitsOf('socket')) + secretToml('staged', unitsOf('stage'), staged);
    await machine.write(manifestPath('bench'), manifest);
    await machine.run(['auxcred', 'apply']);
    const times: Record<Way | 'warm', number[]> = { file: [], creds: [], socket: [], stage: [], warm: [] };
    for (let round = 0; round < rounds; round++) {
      for (const way of names) {
        await machine.shell('systemctl stop auxcred.service; systemctl start auxcred.socket');
        times[way].push(await startTime(machine, unitsOf(way)));
        // Again, with the broker that the first round started.
        if (way === 'socket') times.warm.push(await startTime(machine, unitsOf(way)));
      }
    }
    const [file, creds, socket, warm, stage] = [
      median(times.file),
      median(times.creds),
      median(times.socket),
      median(times.warm),
      median(times.stage),
    ];
    const plain = { peer: 'LoadCredential= of a file', peerTook: file };
    const host = { peer: 'systemd-creds, host key', peerTook: creds, goal: 1.05 };
    const units = (by: string): string => `${String(count)} units, ${by}`;
    compare({ what: units('socket (broker runs)'), took: warm, ...host });
    compare({ what: units('socket (broker runs)'), took: warm, ...plain });
    compare({ what: units('socket (cold broker)'), took: socket, ...host });
    compare({ what: units('socket (cold broker)'), took: socket, ...plain });
    compare({ what: units('stage (cold broker)'), took: stage, ...plain });
    compare({ what: units('host key, from a file'), by: 'systemd-creds', took: creds, ...plain });
  });

/** Milliseconds until all of these units have started. */
async function startTime(machine: Machine, units: readonly string[]): Promise<number> {
  const command = `start=$(date +%s%N); systemctl start ${units.join(' ')}; echo $(( $(date +%s%N) - start ))`;
  const { stdout } = await machine.shell(command, { timeoutMs: 120_000 });
  return Number(stdout) / 1e6;
}

/**
 * Starts the broker on its own, as systemd would, and asks it as a unit that it knows. Prints both times in
 * milliseconds, one line per round.
 */
const coldStart = `
use Socket; use Fcntl;
# clock_gettime(CLOCK_MONOTONIC); perl-base has no module for it.
sub now {
    my $t = pack('qq', 0, 0);
    syscall(${String(process.arch === 'arm64' ? 113 : 228)}, 1, $t);
    my ($s, $n) = unpack('qq', $t);
    return $s + $n / 1e9;
}
for my $round (1..25) {
    my $start = now(); system('/usr/bin/node', '-e', '0'); my $bare = now() - $start;
    my $path = "/run/cold.$round";
    socket(my $listener, AF_UNIX, SOCK_STREAM, 0) or die;
    bind($listener, pack_sockaddr_un($path)) or die;
    listen($listener, 8) or die;
    $start = now();
    my $pid = fork // die;
    if (!$pid) {
        # $^F and the close-on-exec flag would take the descriptor away from the broker.
        require POSIX; POSIX::dup2(fileno($listener), 3); open(my $keep, '+<&=', 3); fcntl($keep, F_SETFD, 0);
        %ENV = (PATH => '/usr/bin', LISTEN_PID => $$, LISTEN_FDS => 1, LISTEN_FDNAMES => 'encrypted');
        $ENV{CREDENTIALS_DIRECTORY} = '/run/cold';
        exec('/usr/bin/node', '--jitless', '/usr/lib/auxcred/auxcred-broker.cjs') or die;
    }
    socket(my $client, AF_UNIX, SOCK_STREAM, 0) or die;
    bind($client, pack_sockaddr_un("\\0ab$round/unit/cold.service/key")) or die;
    connect($client, pack_sockaddr_un($path)) or die; shutdown($client, 1);
    my $answer = ''; while (sysread($client, my $part, 65536)) { $answer .= $part }
    my $first = now() - $start;
    # The type of an encrypted credential, in base64.
    die $answer unless $answer =~ /^Whxqht/ && length($answer) > 64;
    kill 'TERM', $pid; waitpid $pid, 0; unlink $path;
    printf "%.3f %.3f\\n", $bare * 1000, $first * 1000;
}
`;

/** The broker's start, without systemd's own part. */
export const benchColdBroker = async (): Promise<void> =>
  await withMachine(async (machine) => {
    const unit = [
      '[Service]',
      'Type=oneshot',
      'ExecStart=/usr/bin/perl /usr/local/lib/cold.pl',
      'StandardOutput=truncate:/run/cold.out',
    ];
    await machine.write('/usr/local/lib/cold.pl', coldStart);
    await machine.write('/etc/systemd/system/cold.service', `${unit.join('\n')}\n`);
    await machine.write(manifestPath('cold'), secretToml('cold', ['cold.service'], { credential: 'key' }));
    await machine.shell('mkdir -p /run/cold; cp /etc/ssh/ssh_host_ed25519_key /run/cold/ssh-host-key');
    await machine.shell(
      'systemd-creds setup; cp /var/lib/systemd/credential.secret /run/cold/host-secret; auxcred apply',
    );
    await machine.run(['systemctl', 'start', 'cold.service'], { timeoutMs: 120_000 });
    const lines = (await machine.read('/run/cold.out')).toString().trim().split('\n');
    const times = lines.map((line) => line.split(' ').map(Number));
    const bare = median(times.map(([time = Number.NaN]) => time));
    const first = median(times.map(([, time = Number.NaN]) => time));
    await compareUnit(machine);
    compare({ what: 'broker, cold start to first answer', took: first, peer: 'node -e 0', peerTook: bare, goal: 1.3 });
  });

/** Loads the modules of Node that the broker needs, and prints its resident memory in KiB. */
const emptyProgram =
  'require("node:crypto"); require("node:net"); ' +
  'console.log(/VmRSS:\\s+(\\d+)/.exec(require("node:fs").readFileSync("/proc/self/status", "latin1"))[1])';

/** What a unit waits for if its broker does not run yet, and the memory that the broker takes once it answered. */
async function compareUnit(machine: Machine): Promise<void> {
  const probe = '[Service]\nType=oneshot\nExecStart=/bin/true\n';
  await machine.write('/etc/systemd/system/probe.service', probe);
  await machine.write(manifestPath('probe'), secretToml('probe', ['probe.service'], { credential: 'key' }));
  await machine.run(['auxcred', 'apply']);
  const cold: number[] = [];
  const warm: number[] = [];
  for (let round = 0; round < rounds; round++) {
    await machine.shell('systemctl stop auxcred.service; systemctl start auxcred.socket');
    cold.push(await startTime(machine, ['probe.service']));
    warm.push(await startTime(machine, ['probe.service']));
  }
  const { stdout } = await machine.shell(
    'grep VmRSS "/proc/$(systemctl show --value -p MainPID auxcred.service)/status" | tr -dc 0-9',
  );
  const empty = await machine.run(['node', '--jitless', '-e', emptyProgram]);
  const peer = { peer: 'a running broker', peerTook: median(warm) };
  compare({ what: 'one unit, cold broker', took: median(cold), ...peer });
  reportLimit('a cold broker adds to the start of a unit', median(cold) - median(warm), 100, 'ms');
  reportLimit('resident memory of the broker', Number(stdout) / 1024, 45, 'MiB');
  report({
    what: 'resident memory of the broker',
    measured: `auxcred ${(Number(stdout) / 1024).toFixed(0)} MiB`,
    against: `Node with its modules ${(Number(empty.stdout) / 1024).toFixed(0)} MiB`,
    ratio: `${(Number(stdout) / Number(empty.stdout)).toFixed(2)} x`,
    goal: '',
  });
}
