import type { Socket } from 'node:net';
import { type Peer, peerOf } from '../system/peer.ts';

/** Milliseconds that a connection waits for its request, and then for its answer to be read. */
const patience = 10_000;

/**
 * A connection that is answered once and closed in any case: when the kernel has the whole answer, or when the other
 * end neither asks nor reads for 10 s. What the kernel has, the other end can read after that. A connection that is
 * closed before its answer is whole fails what waits for it, since answers prove that they are whole.
 */
export class Connection {
  readonly #socket: Socket;
  #deadline: NodeJS.Timeout;
  #isAnswered = false;

  /**
   * @param closed - called once, when the connection is gone
   * @param limit - milliseconds instead of the 10 s
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

  /** Who is at the other end. @throws Error if it is gone */
  peer(): Peer {
    return peerOf(this.#socket);
  }

  /** Calls `done` with all that the other end sends; one that sends more than `limit` bytes is disconnected. */
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

  /** Sends `answer` and closes. Takes the bytes over and wipes them. */
  answer(answer: Uint8Array): void {
    this.#isAnswered = true;
    this.#deadline.refresh();
    this.#socket.end(answer, () => {
      answer.fill(0);
      this.#socket.destroy();
    });
    // What is not read is not noticed to have ended.
    this.#socket.resume();
  }

  /** Closes without an answer. */
  close(): void {
    this.#socket.destroy();
  }
}
