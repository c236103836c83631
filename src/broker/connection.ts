import type { Socket } from 'node:net';
import { type Peer, peerOf } from '../system/peer.ts';

/** Milliseconds that a connection waits for its request, and then for its answer to be read. */
const patience = 10_000;

/**
 * A connection that is answered at most once, and always closed: when the kernel has the whole answer, or when the peer
 * neither asks nor reads for 10 s. The peer can still read what the kernel has. If the answer is cut off, the peer
 * notices, because answers prove that they are complete.
 */
export class Connection {
  readonly #socket: Socket;
  #deadline: NodeJS.Timeout;
  #isAnswered = false;

  /**
   * @param closed - called once, when the connection is closed
   * @param limit - milliseconds to wait for the peer
   */
  constructor(socket: Socket, closed: () => void, limit = patience) {
    this.#socket = socket;
    const expire = (): void => {
      socket.destroy();
    };
    this.#deadline = setTimeout(expire, limit);
    socket.on('error', expire);
    socket.on('close', () => {
      clearTimeout(this.#deadline);
      closed();
    });
  }

  /** Identifies the peer. @throws Error if it is gone */
  peer(): Peer {
    return peerOf(this.#socket);
  }

  /** Calls `done` with all that the peer sends. Disconnects a peer that sends more than `limit` bytes. */
  onRequest(limit: number, done: (request: Buffer) => void): void {
    const parts: Buffer[] = [];
    let length = 0;
    this.#socket.on('data', (part) => {
      parts.push(part);
      length += part.length;
      if (length > limit) this.#socket.destroy();
    });
    this.#socket.on('end', () => {
      if (!this.#isAnswered) done(Buffer.concat(parts));
    });
  }

  /** Sends `answer` and closes. Takes ownership of the bytes and wipes them. */
  answer(answer: Uint8Array): void {
    this.#isAnswered = true;
    this.#deadline.refresh();
    this.#socket.end(answer, () => {
      answer.fill(0);
      this.#socket.destroy();
    });
    // Node notices the end of a stream only while it reads.
    this.#socket.resume();
  }

  /** Closes without an answer. */
  close(): void {
    this.#socket.destroy();
  }
}
