import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { bind } from './ffi.ts';

const solSocket = 1;
/** SO_PEERCRED; the same on every architecture that Node and systemd share, but not on MIPS or SPARC. */
const peerCredentials = 17;
/** struct ucred: pid, uid and gid, 4 bytes each. */
const credentialsLength = 12;
const addressLength = 110;

const libc = bind('libc.so.6', { getpeername: 'i:ipp', getsockopt: 'i:iiipp' });

/** Who is at the other end of a unix socket. */
export interface Peer {
  /** The abstract name it is bound to, without the NUL in front; undefined for none, or one in the file system. */
  readonly name: string | undefined;
  readonly pid: number;
  readonly uid: number;
  /** Its /proc/PID/cgroup; empty where it is gone. */
  readonly cgroup: string;
}

/** Asks the kernel about the peer of a connected socket (unix(7)). @throws Error where the connection is gone */
export function peerOf(socket: Socket): Peer {
  const fd = descriptorOf(socket);
  const address = Buffer.alloc(addressLength);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(addressLength);
  if (libc.getpeername(fd, address, length) !== 0) throw new Error('the connection is gone');
  const nameLength = length.readUInt32LE() - 2;
  const name = nameLength > 1 && address[2] === 0 ? address.toString('utf8', 3, 2 + nameLength) : undefined;

  const credentials = Buffer.alloc(credentialsLength);
  length.writeUInt32LE(credentialsLength);
  if (libc.getsockopt(fd, solSocket, peerCredentials, credentials, length) !== 0) throw new Error('the kernel does not say who is asking');
  const pid = credentials.readInt32LE(0);
  return { name, pid, uid: credentials.readUInt32LE(4), cgroup: cgroupOf(pid) };
}

function cgroupOf(pid: number): string {
  try {
    return readFileSync(`/proc/${String(pid)}/cgroup`, 'utf8');
  } catch {
    return '';
  }
}

/** Node has no public way to a socket's descriptor. */
function descriptorOf(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  if (typeof fd !== 'number' || fd < 0) throw new Error('the connection is closed');
  return fd;
}
