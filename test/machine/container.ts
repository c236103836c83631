import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { controlGroupMounts, type Layer, machineName } from './layer.ts';

/** The exit status with which systemd-nspawn says that the container wants to be started again. */
export const rebootStatus = 133;

/** glibc's SIGRTMIN + 4: systemd as PID 1 takes it as "power off". */
const powerOff = 38;

/** A running systemd-nspawn with systemd as its PID 1. */
export interface Container {
  /** The container's PID 1, as this host numbers it. */
  readonly leader: number;
  /** The container's root control group, as this host sees it. */
  readonly controlGroup: string;
  /** Everything that the container printed to its console. */
  console(): string;
  /** systemd-nspawn's exit status, or undefined if a signal ended it. */
  readonly exited: Promise<number | undefined>;
  powerOff(): void;
  /** Ends it as a power cut would. */
  kill(): void;
}

export interface ContainerOptions {
  readonly hostname: string;
  /** Folders that the container sees at the same path as this host. */
  readonly binds?: readonly string[];
  /** Folders of this host that the container can only read, by their path in the container. */
  readonly readOnlyBinds?: Readonly<Record<string, string>>;
  /** The program that becomes PID 1; the root's own systemd if not given. */
  readonly init?: string | undefined;
  /** The network namespace to run in; one of its own, without interfaces, if not given. */
  readonly network?: string | undefined;
  /** System calls that systemd-nspawn would refuse, such as those of a container in the container. */
  readonly systemCalls?: readonly string[];
  /** What a boot loader would append, such as `systemd.unit=rescue.target`. */
  readonly kernelArguments?: readonly string[];
}

/** Starts systemd in `layer` and waits until its PID 1 answers: boot has only begun then. */
export async function startContainer(layer: Layer, options: ContainerOptions, deadline: number): Promise<Container> {
  const name = machineName(layer.id);
  const [command, ...args] = inOwnControlGroup(name, [
    'systemd-nspawn',
    '--quiet',
    `--directory=${layer.root}`,
    `--machine=${name}`,
    `--hostname=${options.hostname}`,
    '--register=no',
    '--keep-unit',
    options.network === undefined ? '--private-network' : `--network-namespace-path=${options.network}`,
    '--console=pipe',
    '--settings=no',
    '--link-journal=no',
    '--resolv-conf=off',
    '--timezone=off',
    ...(options.binds ?? []).map((folder) => `--bind=${folder}`),
    ...Object.entries(options.readOnlyBinds ?? {}).map(([path, folder]) => `--bind-ro=${folder}:${path}`),
    ...(options.systemCalls === undefined ? [] : [`--system-call-filter=${options.systemCalls.join(' ')}`]),
    ...(options.init === undefined ? ['--boot'] : ['--', options.init]),
    ...(options.kernelArguments ?? []),
  ]);
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      LANG: 'C.UTF-8',
      SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1',
    },
  });
  const console = collect(child);
  const exited = exitStatus(child);
  let gone = false;
  exited.then(
    () => {
      gone = true;
    },
    () => {
      gone = true;
    },
  );

  for (;;) {
    const found = child.pid === undefined ? undefined : leaderOf(child.pid, name);
    if (found !== undefined && existsSync(`/proc/${found.leader}/root/run/systemd/private`)) {
      const { leader } = found;
      return {
        ...found,
        console,
        exited,
        powerOff: () => signal(leader, powerOff),
        kill: () => signal(leader, 'SIGKILL'),
      };
    }
    if (gone || Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`${name} did not start${gone ? '' : ' in time'}\n${console()}`);
    }
    await sleep(5);
  }
}

/**
 * systemd-nspawn divides its own control group between itself and the container, so that two of them can't share one.
 * Where the host runs systemd, a delegated scope is the way to get one; elsewhere the group is made here.
 */
function inOwnControlGroup(name: string, command: readonly [string, ...string[]]): [string, ...string[]] {
  if (existsSync('/run/systemd/system'))
    return [
      'systemd-run',
      '--quiet',
      '--collect',
      '--scope',
      '--property=Delegate=yes',
      `--unit=${name}`,
      '--',
      ...command,
    ];
  const { unified, named } = controlGroupMounts();
  const groups = [unified, ...(named === undefined ? [] : [named])].map((mount) => join(mount, name));
  for (const group of groups) mkdirSync(group, { recursive: true });
  const enter = groups.map((_, index) => `echo $$ >"$${index + 1}"/cgroup.procs`).join(' && ');
  return ['sh', '-c', `${enter} && shift ${groups.length} && exec "$@"`, 'sh', ...groups, ...command];
}

/** The container's PID 1 and root control group, once systemd has made its own `init.scope` there. */
function leaderOf(nspawn: number, name: string): { leader: number; controlGroup: string } | undefined {
  const { unified } = controlGroupMounts();
  try {
    const line = readFileSync(`/proc/${nspawn}/cgroup`, 'utf8')
      .split('\n')
      .find((entry) => entry.startsWith('0::'));
    const path = line?.slice('0::'.length) ?? '/';
    const end = path.indexOf(name);
    if (end < 0) return undefined;
    const own = path.slice(0, path.indexOf('/', end) < 0 ? path.length : path.indexOf('/', end));
    const controlGroup = join(unified, own, 'payload');
    const leader = Number(readFileSync(join(controlGroup, 'init.scope/cgroup.procs'), 'utf8').split('\n')[0]);
    return leader > 0 ? { leader, controlGroup } : undefined;
  } catch {
    return undefined;
  }
}

export interface RunOptions {
  /** Standard input; empty if not given. */
  readonly input?: string | Uint8Array;
  /** Throw if the status isn't 0 (default). */
  readonly check?: boolean;
  /** 60 s if not given. */
  readonly timeoutMs?: number;
}

export interface RunResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Standard output as it came. */
  readonly bytes: Buffer;
}

const rootEnvironment = [
  'env',
  '-i',
  'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  'HOME=/root',
  'USER=root',
  'LOGNAME=root',
  'SHELL=/bin/sh',
  'LANG=C.UTF-8',
  'TERM=dumb',
  'SYSTEMD_PAGER=',
  'DEBIAN_FRONTEND=noninteractive',
];

/** Runs a command as root's login shell in the container would: all namespaces, a session's control group, no unit. */
export async function runInContainer(
  container: Container,
  command: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const session = join(container.controlGroup, 'user.slice/user-0.slice/session-test.scope');
  mkdirSync(session, { recursive: true });
  return await run(
    [
      'sh',
      '-c',
      'echo $$ >"$1"/cgroup.procs && shift && exec nsenter "$@"',
      'sh',
      session,
      '-t',
      String(container.leader),
      '-m',
      '-u',
      '-i',
      '-n',
      '-p',
      '-C',
      '-r',
      '-w',
      '--',
      ...rootEnvironment,
      ...command,
    ],
    command,
    options,
  );
}

/** Runs a command as root in a machine that is switched off, without network. */
export async function runInRoot(
  root: string,
  command: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  return await run(
    [
      'unshare',
      '--mount',
      '--pid',
      '--net',
      '--fork',
      '--kill-child',
      `--mount-proc=${join(root, 'proc')}`,
      'chroot',
      root,
      ...rootEnvironment,
      ...command,
    ],
    command,
    options,
  );
}

async function run(
  wrapped: readonly [string, ...string[]],
  command: readonly string[],
  options: RunOptions,
): Promise<RunResult> {
  const [program, ...args] = wrapped;
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: options.timeoutMs ?? 60_000,
    killSignal: 'SIGKILL',
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  // A command that doesn't read its input is no error.
  child.stdin.on('error', () => {});
  child.stdin.end(options.input);
  const status = await exitStatus(child, 'close');
  const bytes = Buffer.concat(stdout);
  const result = { status: status ?? -1, stdout: bytes.toString(), stderr: Buffer.concat(stderr).toString(), bytes };
  if (result.status !== 0 && options.check !== false)
    throw new Error(
      `${command.join(' ')}: ${status === undefined ? 'timed out' : `exit status ${status}`}\n` +
        `${result.stderr}${result.stdout}`,
    );
  return result;
}

async function exitStatus(child: ChildProcess, event: 'exit' | 'close' = 'exit'): Promise<number | undefined> {
  const [status] = await once(child, event);
  return typeof status === 'number' ? status : undefined;
}

function collect(child: ChildProcess): () => string {
  const chunks: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString();
}

function signal(pid: number, which: NodeJS.Signals | number): void {
  try {
    process.kill(pid, which);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
