/**
 * The program of an attacker who took over the broker. It replaces the broker's script in the broker's unit, tries
 * every way out that it knows, logs which ones worked (HOSTILE_COULD), and then reports that it is ready. Its test
 * bundles it.
 *
 * VICTIMS names processes to attack, `NAME=PID` each.
 */
import { spawnSync } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  type Stats,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { DatagramSocket } from '../../src/system/datagram.ts';
import { type Argument, bind } from '../../src/system/ffi.ts';
import { journal } from '../../src/system/journal.ts';
import { notify } from '../../src/system/notify.ts';

/** Calls a function of libc; signatures are those of `bind`. */
function libc(name: string, signature: string, ...given: readonly Argument[]): number {
  const result = bind('libc.so.6', { [name]: signature })[name]?.(...given);
  return Number(result ?? -1);
}

/** System calls that libc has no function for, by the numbers of x86-64 and of the generic table (arm64 and newer). */
const systemCalls: Readonly<Record<string, readonly [number, number]>> = {
  add_key: [248, 217],
  bpf: [321, 280],
  clone: [56, 220],
  io_setup: [206, 0],
  io_uring_setup: [425, 425],
  kcmp: [312, 272],
  keyctl: [250, 219],
  memfd_secret: [447, 447],
  open_tree: [428, 428],
  perf_event_open: [298, 241],
  pidfd_getfd: [438, 438],
  pidfd_open: [434, 434],
  pivot_root: [155, 41],
  process_madvise: [440, 440],
  request_key: [249, 218],
  userfaultfd: [323, 282],
  fsopen: [430, 430],
  mount_setattr: [442, 442],
};
function systemCall(name: string, signature: string, ...given: readonly Argument[]): number {
  const number = systemCalls[name]?.[process.arch === 'x64' ? 0 : 1] ?? -1;
  return libc('syscall', `l:l${signature}`, number, ...given);
}

const tell = (worked: string): void => {
  journal({ MESSAGE: `could ${worked}`, HOSTILE_COULD: worked });
};
const works = (attempt: () => boolean): boolean => {
  try {
    return attempt();
  } catch {
    return false;
  }
};
const may = (path: string, mode: number): boolean =>
  works(() => {
    accessSync(path, mode);
    return true;
  });
const runs = (program: string, ...args: string[]): boolean =>
  spawnSync(program, args, { stdio: 'ignore' }).status === 0;

const victims = (process.env['VICTIMS'] ?? '')
  .split(' ')
  .filter((entry) => entry !== '')
  .map((entry): [string, number] => {
    const [name = '', pid = ''] = entry.split('=');
    return [name, Number(pid)];
  });

/** Attempts on another process. */
const attacks: Readonly<Record<string, (pid: number) => boolean>> = {
  'attach to': (pid) => libc('ptrace', 'l:iill', 0x4206, pid, 0, 0) === 0,
  'call process_vm_readv on': (pid) => processMemory('process_vm_readv', pid),
  'call process_vm_writev on': (pid) => processMemory('process_vm_writev', pid),
  'read the memory of': (pid) => {
    closeSync(openSync(`/proc/${String(pid)}/mem`, 'r'));
    return true;
  },
  'read the environment of': (pid) => readFileSync(`/proc/${String(pid)}/environ`).length > 0,
  'take a descriptor of': (pid) => systemCall('pidfd_getfd', 'iii', systemCall('pidfd_open', 'ii', pid, 0), 0, 0) >= 0,
  'compare itself with': (pid) => systemCall('kcmp', 'iiill', process.pid, pid, 1, 0, 0) >= 0,
  signal: (pid) => {
    process.kill(pid, 0);
    return true;
  },
};

/**
 * Reads one byte of a mapping that every process has; the address comes from the victim's maps, or else is arbitrary.
 */
function processMemory(name: string, pid: number): boolean {
  const start = works(() => readFileSync(`/proc/${String(pid)}/maps`, 'utf8').length > 0)
    ? parseInt(/^([0-9a-f]+)-\S+ rw/m.exec(readFileSync(`/proc/${String(pid)}/maps`, 'utf8'))?.[1] ?? '0', 16)
    : 4096;
  const remote = Buffer.alloc(16);
  remote.writeBigUInt64LE(BigInt(start), 0);
  remote.writeBigUInt64LE(1n, 8);
  const page = libc('mmap', 'l:lziiil', 0, 4096, 3, 0x22, -1, 0);
  const local = Buffer.alloc(16);
  local.writeBigUInt64LE(BigInt(page), 0);
  local.writeBigUInt64LE(1n, 8);
  return libc(name, 'l:ipzpzl', pid, local, 1, remote, 1, 0) >= 0;
}

const executable = 4;
const writable = 2;
const readable = 1;
const privateMapping = 2;
const anonymous = 0x20;

/** Maps a file with the right to execute it. */
function mapsExecutable(path: string): boolean {
  const fd = openSync(path, 'r');
  try {
    return libc('mmap', 'l:lziiil', 0, 4096, readable | executable, privateMapping, fd, 0) !== -1;
  } finally {
    closeSync(fd);
  }
}

function memoryFile(): number {
  const fd = libc('memfd_create', 'i:su', 'hostile', 0);
  if (fd < 0) throw new Error('denied');
  return fd;
}

const loads = (path: string): boolean => libc('dlopen', 'z:si', path, 2) !== 0;
/** Any library that is not loaded yet, to be copied. */
const library =
  ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib'].flatMap((folder) =>
    existsSync(folder)
      ? readdirSync(folder)
          .filter((name) => /^libz\.so/.test(name))
          .map((name) => join(folder, name))
      : [],
  )[0] ?? '';
const opensSocket = (family: number, type: number, protocol = 0): boolean =>
  libc('socket', 'i:iii', family, type, protocol) >= 0;

/** Attempts on the kernel and on itself. */
const attempts: Readonly<Record<string, () => boolean>> = {
  'run /bin/true': () => runs('/bin/true'),
  'run a script': () => runs('/usr/bin/which', 'sh') || runs('/usr/bin/ldd', '--version'),
  'have the dynamic linker run /bin/true': () =>
    ['/lib64/ld-linux-x86-64.so.2', '/lib/ld-linux-aarch64.so.1'].some((linker) => runs(linker, '/bin/true')),
  'run a program from memory': () => {
    const fd = memoryFile();
    writeFileSync(`/proc/self/fd/${String(fd)}`, readFileSync('/bin/true'));
    return runs(`/proc/${String(process.pid)}/fd/${String(fd)}`);
  },
  'load a library from memory': () => {
    const fd = memoryFile();
    writeFileSync(`/proc/self/fd/${String(fd)}`, readFileSync(library));
    return loads(`/proc/self/fd/${String(fd)}`);
  },
  'make a file in memory': () => memoryFile() >= 0,
  'make a secret file in memory': () => systemCall('memfd_secret', 'i', 0) >= 0,
  'map memory to write and execute': () =>
    libc('mmap', 'l:lziiil', 0, 4096, readable | writable | executable, privateMapping | anonymous, -1, 0) !== -1,
  'make memory executable': () => {
    const page = libc('mmap', 'l:lziiil', 0, 4096, readable | writable, privateMapping | anonymous, -1, 0);
    return libc('mprotect', 'i:lzi', page, 4096, readable | executable) === 0;
  },
  'make memory executable with a key': () => {
    const page = libc('mmap', 'l:lziiil', 0, 4096, readable | writable, privateMapping | anonymous, -1, 0);
    return libc('pkey_mprotect', 'i:lzii', page, 4096, readable | executable, -1) === 0;
  },
  'map a data file to execute': () => mapsExecutable('/etc/passwd'),
  'map a program to execute': () => mapsExecutable('/bin/true'),
  'change its personality': () => libc('personality', 'i:l', 0x0400000) >= 0,
  'make shared memory': () => libc('shmget', 'i:izi', 0, 4096, 0o1600) >= 0,
  'make a semaphore': () => libc('semget', 'i:iii', 0, 1, 0o1600) >= 0,
  'make a message queue': () => libc('msgget', 'i:ii', 0, 0o1600) >= 0,
  'open a POSIX message queue': () => libc('mq_open', 'i:siip', '/hostile', 0o102, 0o600, null) >= 0,
  'speak IPv4': () => opensSocket(2, 1),
  'speak IPv6': () => opensSocket(10, 2),
  'speak netlink': () => opensSocket(16, 3),
  'speak to a hypervisor': () => opensSocket(40, 1),
  "use the kernel's ciphers": () => opensSocket(38, 5),
  'make a user namespace': () => {
    const pid = systemCall('clone', 'lllll', 0x10000000 | 17, 0, 0, 0, 0);
    if (pid === 0) libc('_exit', 'v:i', 0);
    return pid > 0;
  },
  'make a mount namespace': () => libc('unshare', 'i:i', 0x20000) === 0,
  'enter a namespace': () => libc('setns', 'i:ii', openSync('/proc/1/ns/net', 'r'), 0) === 0,
  mount: () => libc('mount', 'i:sssls', 'tmpfs', '/mnt', 'tmpfs', 0, '') === 0 && libc('umount', 'i:s', '/mnt') === 0,
  'open a mount tree': () => systemCall('open_tree', 'isu', -100, '/', 1) >= 0,
  'make a file system': () => systemCall('fsopen', 'su', 'tmpfs', 0) >= 0,
  'change its root': () => libc('chroot', 'i:s', '/') === 0,
  'keep a key in the kernel': () => systemCall('add_key', 'sspzi', 'user', 'hostile', Buffer.from('x'), 1, -2) >= 0,
  'ask for a key': () => systemCall('keyctl', 'liiii', 0, -3, 0, 0, 0) >= 0,
  'load a BPF program': () => {
    const attributes = Buffer.alloc(128);
    attributes.writeUInt32LE(2, 0);
    attributes.writeUInt32LE(4, 4);
    attributes.writeUInt32LE(4, 8);
    attributes.writeUInt32LE(1, 12);
    return systemCall('bpf', 'lpi', 0, attributes, 128) >= 0;
  },
  'count events': () => {
    const attributes = Buffer.alloc(128);
    attributes.writeUInt32LE(1, 0);
    attributes.writeUInt32LE(128, 4);
    attributes.writeBigUInt64LE(0x61n, 40);
    return systemCall('perf_event_open', 'piiil', attributes, 0, -1, -1, 0) >= 0;
  },
  'handle page faults': () => systemCall('userfaultfd', 'i', 1) >= 0,
  'use io_uring': () => systemCall('io_uring_setup', 'up', 4, Buffer.alloc(120)) >= 0,
  'use asynchronous I/O': () => systemCall('io_setup', 'up', 4, Buffer.alloc(8)) >= 0,
  'watch a whole file system': () => libc('fanotify_init', 'i:uu', 0x200, 0) >= 0,
  'lock memory': () => libc('mlockall', 'i:i', 2) === 0,
  'take real-time priority': () => {
    const parameter = Buffer.alloc(4);
    parameter.writeInt32LE(1);
    return libc('sched_setscheduler', 'i:iip', 0, 1, parameter) === 0;
  },
  'raise its priority': () => libc('setpriority', 'i:iii', 0, 0, -20) === 0,
  'raise its limits': () => {
    const limit = Buffer.alloc(16, 0xff);
    return libc('setrlimit', 'i:ip', 4, limit) === 0;
  },
  'set the clock': () => {
    const now = Buffer.alloc(16);
    now.writeBigInt64LE(BigInt(Math.floor(Date.now() / 1000)));
    return libc('clock_settime', 'i:ip', 0, now) === 0;
  },
  'name the machine': () => libc('sethostname', 'i:sz', 'hostile', 7) === 0,
  "read the kernel's log": () =>
    libc('klogctl', 'i:ipi', 3, Buffer.alloc(4096), 4096) >= 0 || may('/dev/kmsg', constants.R_OK),
  "read the kernel's settings": () => readFileSync('/proc/sys/kernel/osrelease').length > 0,
  "see the machine's mounts and processes": () => readFileSync('/proc/1/mountinfo').length > 0,
  'start a hundred processes': () => countProcesses(100),
  'become another user': () => libc('setresuid', 'i:iii', 1, 1, 1) === 0,
};

/** Whether that many children can exist at once. They end immediately, but count until they are waited for. */
function countProcesses(many: number): boolean {
  for (let i = 0; i < many; i++) {
    const pid = libc('fork', 'i:');
    if (pid === 0) libc('_exit', 'v:i', 0);
    if (pid < 0) return false;
  }
  return true;
}

/** Every readable path below `folder`, without following links; of processes only its own. */
function* everything(folder: string): Generator<[string, Stats]> {
  let names: string[] = [];
  try {
    names = readdirSync(folder);
  } catch {
    return;
  }
  for (const name of names) {
    const path = join(folder, name);
    const stats = lstatSync(path, { throwIfNoEntry: false });
    if (!stats) continue;
    yield [path, stats];
    if (stats.isDirectory() && !/^\/proc\/(?:\d+|self)$/.test(path) && path !== '/sys/devices') yield* everything(path);
  }
}

const connects = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createConnection(path);
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => {
      resolve(works(() => new DatagramSocket(path).send(Buffer.alloc(0))));
    });
  });

function tryFolder(folder: string): void {
  const path = join(folder, `hostile-${String(process.pid)}`);
  if (
    !works(() => {
      writeFileSync(path, '');
      return true;
    })
  )
    return;
  tell(`write in ${folder}`);
  if (
    works(() => {
      copyFileSync('/bin/true', path);
      chmodSync(path, 0o755);
      return runs(path);
    })
  )
    tell(`run a program in ${folder}`);
  if (
    works(() => {
      copyFileSync(library, path);
      return loads(path);
    })
  )
    tell(`load a library in ${folder}`);
  if (
    works(() => {
      chmodSync(path, 0o4755);
      return true;
    })
  )
    tell(`make a program of its user in ${folder}`);
  works(() => {
    unlinkSync(path);
    return true;
  });
}

async function tryFiles(): Promise<void> {
  tryFolder('/');
  for (const [path, entry] of everything('/')) {
    if (entry.isDirectory()) tryFolder(path);
    else if (entry.isSocket()) {
      if (await connects(path)) tell(`connect to ${path}`);
    } else if (entry.isCharacterDevice() || entry.isBlockDevice()) {
      if (
        works(() => {
          closeSync(openSync(path, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY));
          return true;
        })
      )
        tell(`open ${path}`);
    } else if (entry.isFile() && !path.startsWith('/proc/') && !path.startsWith('/sys/')) {
      if (may(path, constants.W_OK)) tell(`write ${path}`);
      if (may(path, constants.X_OK)) tell(`execute ${path}`);
    }
  }
}

async function main(): Promise<void> {
  const started = Date.now();
  for (const [name, pid] of victims)
    for (const [attack, attempt] of Object.entries(attacks)) if (works(() => attempt(pid))) tell(`${attack} ${name}`);
  if (process.env['HOSTILE_FILES'] !== 'no') await tryFiles();
  for (const [name, attempt] of Object.entries(attempts)) if (works(attempt)) tell(name);
  journal({
    MESSAGE: `tried everything in ${String(Date.now() - started)} ms`,
    HOSTILE_TRIED: Object.keys(attempts).join(', '),
  });
  notify('READY=1');
}

void main();
setInterval(() => undefined, 1000);
