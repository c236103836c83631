import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { bind } from './ffi.ts';
import { unitOfProcess } from './unit-name.ts';

const solSocket = 1;
/** SO_PEERCRED. It differs on MIPS and SPARC, for which Node or systemd does not exist. */
const peerCredentials = 17;
/** SO_PEERPIDFD, from Linux 6.5 on. */
const peerProcess = 77;
/** struct ucred: pid, uid and gid, 4 bytes each. */
const credentialsLength = 12;
const addressLength = 110;
/** Bytes in struct pollfd: the descriptor in 4, the requested and returned events in 2 each. */
const pollLength = 8;
const pollIn = 1;

const libc = bind('libc.so.6', {
  getpeername: 'i:ipp',
  getsockopt: 'i:iiipp',
  socketpair: 'i:iiip',
  poll: 'i:pli',
  close: 'i:i',
});

/** The process at the other end of a Unix socket. */
export interface Peer {
  /** The abstract name that it is bound to, without the leading NUL; undefined if it has none, or a path. */
  readonly name: string | undefined;
  readonly pid: number;
  readonly uid: number;
  /** The unit that it belongs to; undefined outside of every unit. */
  readonly unit: string | undefined;
}

/**
 * Asks the kernel about the peer of a connected socket (unix(7)).
 * @param hasProcess - whether the kernel has SO_PEERPIDFD
 * @throws Error if the peer is gone, because another process may have its id by now
 */
export function peerOf(socket: Socket, hasProcess = hasPeerProcess()): Peer {
  const fd = descriptorOf(socket);
  const address = Buffer.alloc(addressLength);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(addressLength);
  if (libc.getpeername(fd, address, length) !== 0) throw new Error('the connection is gone');
  const nameLength = length.readUInt32LE() - 2;
  const name = nameLength > 1 && address[2] === 0 ? address.toString('utf8', 3, 2 + nameLength) : undefined;

  const credentials = option(fd, peerCredentials, credentialsLength);
  if (!credentials) throw new Error('the kernel does not identify the peer');
  const pid = credentials.readInt32LE(0);
  return {
    name,
    pid,
    uid: credentials.readUInt32LE(4),
    unit: hasProcess ? unitWhileItLives(fd, pid) : unitWhileConnected(fd, pid),
  };
}

/** For kernels without SO_PEERPIDFD. The connection is closed when the last process that holds it ends. */
function unitWhileConnected(fd: number, pid: number): string | undefined {
  const unit = unitOf(pid);
  if (isReady(fd, 0)) throw new Error(gone);
  return unit;
}

/** The unit of process `pid`, which connected. Valid only if that process still lived when its unit was read. */
function unitWhileItLives(fd: number, pid: number): string | undefined {
  const process = option(fd, peerProcess, 4)?.readInt32LE(0);
  if (process === undefined) throw new Error(gone);
  try {
    const unit = unitOf(pid);
    if (isReady(process, pollIn)) throw new Error(gone);
    return unit;
  } finally {
    libc.close(process);
  }
}

const gone = 'the process that asked is gone';

function unitOf(pid: number): string | undefined {
  try {
    return unitOfProcess(readFileSync(`/proc/${String(pid)}/cgroup`, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Whether poll(2) returns at once, with one of `events` or because the peer closed. */
function isReady(fd: number, events: number): boolean {
  const request = Buffer.alloc(pollLength);
  request.writeInt32LE(fd, 0);
  request.writeInt16LE(events, 4);
  return libc.poll(request, 1, 0) !== 0;
}

function option(fd: number, name: number, size: number): Buffer | undefined {
  const value = Buffer.alloc(size);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(size);
  return libc.getsockopt(fd, solSocket, name, value, length) === 0 ? value : undefined;
}

let known: boolean | undefined;

/** Whether this kernel has SO_PEERPIDFD, tried on a pair of own sockets. */
function hasPeerProcess(): boolean {
  if (known !== undefined) return known;
  const pair = Buffer.alloc(8);
  const [afUnix, sockStream] = [1, 1];
  if (libc.socketpair(afUnix, sockStream, 0, pair) !== 0) return false;
  const [one, other] = [pair.readInt32LE(0), pair.readInt32LE(4)];
  const process = option(one, peerProcess, 4)?.readInt32LE(0);
  for (const fd of [one, other, ...(process === undefined ? [] : [process])]) libc.close(fd);
  known = process !== undefined;
  return known;
}

/** The descriptor of a socket, which Node does not make public. */
function descriptorOf(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  if (typeof fd !== 'number' || fd < 0) throw new Error('the connection is closed');
  return fd;
}
