import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lock } from './lock.ts';

/**
 * Everything that a machine has on this host, found by the machine's id alone: folder, mounts, control groups.
 */
const folderOfLayers = '/run/auxcred-test';

/** A throw-away, writable layer over a cached root. */
export interface Layer {
  /** Unique on this host, begins with the owner's pid: what a killed test run left can be recognised. */
  readonly id: string;
  /** The machine's root folder as this host sees it. */
  readonly root: string;
  /** The folder of what was changed in it, which is the layer without the root below. */
  readonly changed: string;
  /**
   * A folder beside the root, for sockets that the machine and this host share. Absolute, short enough for a socket's
   * path.
   */
  readonly shared: string;
}

/** Mounts a tmpfs over folders, the topmost first, so that nothing is copied and nothing reaches the disk. */
export async function createLayer(below: readonly string[]): Promise<Layer> {
  mkdirSync(folderOfLayers, { recursive: true, mode: 0o700 });
  await discardLeft();

  const id = `${process.pid}-${startTime(process.pid) ?? 0}-${randomBytes(3).toString('hex')}`;
  const folder = join(folderOfLayers, id);
  const layer = { id, root: join(folder, 'root'), changed: join(folder, 'upper'), shared: join(folder, 'shared') };
  mkdirSync(folder);
  try {
    execute('mount', '-t', 'tmpfs', '-o', 'mode=0755', 'auxcred-test', folder);
    for (const name of ['upper', 'work', 'root', 'shared']) mkdirSync(join(folder, name), { mode: 0o755 });
    execute(
      'mount',
      '-t',
      'overlay',
      '-o',
      `lowerdir=${below.join(':')},upperdir=${layer.changed},workdir=${folder}/work`,
      'auxcred-test',
      layer.root,
    );
  } catch (error) {
    discardLayer(id);
    throw error;
  }
  return layer;
}

/** Discards what killed test runs left. Runs that start at the same time take turns. */
async function discardLeft(): Promise<void> {
  const left = () => [...readdirSync(folderOfLayers), ...networks()].filter((id) => !ownerLives(id));
  if (left().length === 0) return;
  await using _lock = await lock('/run/auxcred-test.lock');
  for (const id of left()) discardLayer(id);
}

/**
 * Ends every process of the machine and removes all that it left. Synchronous: it also runs while this process exits.
 */
export function discardLayer(id: string): void {
  for (const group of controlGroups(id)) killControlGroup(group);
  if (existsSync(networkPath(id))) spawnSync('ip', ['netns', 'delete', machineName(id)]);
  const folder = join(folderOfLayers, id);
  // systemd-nspawn, when killed, leaves the last two.
  for (const path of [
    join(folder, 'root'),
    folder,
    ...['propagate', 'unix-export'].map((name) => `/run/systemd/nspawn/${name}/${machineName(id)}`),
  ]) {
    if (!existsSync(path)) continue;
    if (spawnSync('umount', ['--quiet', path]).status !== 0) spawnSync('umount', ['--quiet', '--lazy', path]);
    if (path !== join(folder, 'root')) rmSync(path, { recursive: true });
  }
}

/** Unmounts what a killed mmdebstrap left in a folder. */
export function unmountBelow(folder: string): void {
  const mounted = readFileSync('/proc/mounts', 'utf8').matchAll(/^\S+ (\S+) /gm);
  for (const [, path = ''] of [...mounted].reverse())
    if (path.startsWith(`${folder}/`)) spawnSync('umount', ['--quiet', '--lazy', path]);
}

/** What systemd-nspawn, and systemd-run's scope, are called. */
export function machineName(id: string): string {
  return `auxcred-test-${id}`;
}

/** The path of a machine's network namespace, if one was made for it. */
export function networkPath(id: string): string {
  return `/run/netns/${machineName(id)}`;
}

/** The ids of all machines that have one. */
function networks(): string[] {
  const prefix = machineName('');
  return existsSync('/run/netns')
    ? readdirSync('/run/netns')
        .filter((name) => name.startsWith(prefix))
        .map((name) => name.slice(prefix.length))
    : [];
}

/** Makes a machine's network namespace, with a loopback that is up; it goes with the layer. */
export function createNetwork({ id }: Layer): void {
  execute('ip', 'netns', 'add', machineName(id));
  execute('ip', '-n', machineName(id), 'link', 'set', 'lo', 'up');
}

/**
 * A cable between two machines that have network namespaces, with an IPv4 address at each end.
 * @param port - the name of both interfaces, at most 15 bytes
 */
export function createCable(port: string, ends: readonly (readonly [Layer, string])[]): void {
  const [one, other] = ends.map(([{ id }]) => machineName(id));
  execute('ip', 'link', 'add', port, 'netns', one ?? '', 'type', 'veth', 'peer', 'name', port, 'netns', other ?? '');
  for (const [{ id }, address] of ends) {
    execute('ip', '-n', machineName(id), 'address', 'add', `${address}/30`, 'dev', port);
    execute('ip', '-n', machineName(id), 'link', 'set', port, 'up');
  }
}

/**
 * Where control groups of version 2 are mounted on this host, and systemd's own named hierarchy where the host still
 * has one.
 * @throws Error if the host has no version 2 hierarchy
 */
export function controlGroupMounts(): { readonly unified: string; readonly named: string | undefined } {
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '));
  const unified = mounts.find(([, , type]) => type === 'cgroup2')?.[1];
  if (unified === undefined) throw new Error('this host has no cgroup2 mount');
  const named = mounts.find(
    ([, , type, options]) => type === 'cgroup' && options?.split(',').includes('name=systemd'),
  )?.[1];
  return { unified, named };
}

function controlGroups(id: string): string[] {
  const { unified, named } = controlGroupMounts();
  return [
    join(unified, 'system.slice', `${machineName(id)}.scope`),
    join(unified, machineName(id)),
    ...(named === undefined ? [] : [join(named, machineName(id))]),
  ].filter((group) => existsSync(group));
}

function killControlGroup(group: string): void {
  const killSwitch = join(group, 'cgroup.kill');
  if (existsSync(killSwitch)) writeFileSync(killSwitch, '1');
  for (let tries = 0; tries < 500 && existsSync(group); tries++) {
    // A scope is systemd's to remove: if it vanished before systemd saw it empty, the unit would stay for ever.
    if (!group.endsWith('.scope') && removeTree(group)) return;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
  }
}

/** Removes a control group with its children; false while processes are left in one of them. */
function removeTree(group: string): boolean {
  try {
    for (const entry of readdirSync(group, { withFileTypes: true }))
      if (entry.isDirectory()) removeTree(join(group, entry.name));
    rmdirSync(group);
    return true;
  } catch {
    return !existsSync(group);
  }
}

function ownerLives(id: string): boolean {
  const [pid, started] = id.split('-');
  return startTime(Number(pid))?.toString() === started;
}

/** In clock ticks since this host booted; with the pid it names a process for good. */
function startTime(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
  } catch {
    return undefined;
  }
}

function execute(command: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? stderr.trim()}`);
}
