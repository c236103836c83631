import { bind, type NativeFunction } from './ffi.ts';

const afUnix = 1;
const sockDatagram = 2;
const closeOnExec = 0o2000000;
const nonBlocking = 0o4000;
const noSignal = 0x4000;
/** sizeof(struct sockaddr_un): two bytes of family, then the path. */
const longestPath = 107;

const signatures = { socket: 'i:iii', sendto: 'l:ipzipu', close: 'i:i' } as const;

let library: Record<keyof typeof signatures, NativeFunction> | undefined;
/** Loaded on first use: code that only imports the names of journal records needs no library. */
const libc = (): Record<keyof typeof signatures, NativeFunction> => (library ??= bind('libc.so.6', signatures));

/** Encodes a struct sockaddr_un for a path. A leading `@` stands for the abstract name space (unix(7)). */
function addressOf(path: string): Buffer {
  const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : path);
  if (name.length > longestPath) throw new RangeError(`the socket path ${path} is too long`);
  const address = Buffer.alloc(2 + name.length + (path.startsWith('@') ? 0 : 1));
  address.writeUInt16LE(afUnix);
  name.copy(address, 2);
  return address;
}

/**
 * A Unix datagram socket, which Node lacks, for the journal and sd_notify. Sending never blocks.
 */
export class DatagramSocket {
  readonly #fd: number;
  readonly #address: Buffer;

  constructor(path: string) {
    this.#address = addressOf(path);
    this.#fd = Number(libc().socket(afUnix, sockDatagram | closeOnExec | nonBlocking, 0));
  }

  /** Sends one datagram. @returns whether the receiver got it */
  send(message: Uint8Array): boolean {
    return (
      this.#fd >= 0 &&
      Number(libc().sendto(this.#fd, message, message.length, noSignal, this.#address, this.#address.length)) ===
        message.length
    );
  }

  close(): void {
    if (this.#fd >= 0) libc().close(this.#fd);
  }
}
