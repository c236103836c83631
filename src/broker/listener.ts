import { createServer, type Server, type Socket } from 'node:net';
import { duplicate } from '../system/activation.ts';
import { Connection } from './connection.ts';

/** The kernel's default limit. With a smaller backlog, systemd would wait in connect(2). */
const backlog = 4096;
/** The most open connections, far below the limit of descriptors. Others wait in the kernel. */
const mostOpen = 256;

/** Options of a listener. */
export interface ListenerOptions {
  /** Called for each connection. Must answer or close it. */
  readonly accept: (connection: Connection) => void;
  /** Called when the last connection is closed. */
  readonly idle: () => void;
  /** Overrides {@link mostOpen}, and below the patience of connections, in tests. */
  readonly most?: number;
  readonly patience?: number;
}

/** A listening socket from systemd. The socket itself stays open when no more connections are accepted. */
export class Listener {
  readonly #descriptor: number;
  readonly #options: ListenerOptions;
  readonly #most: number;
  #server: Server | undefined;
  #open = 0;
  #isStopped = false;

  constructor(descriptor: number, options: ListenerOptions) {
    this.#descriptor = descriptor;
    this.#options = options;
    this.#most = options.most ?? mostOpen;
    this.#resume();
  }

  /** The number of open connections. */
  get open(): number {
    return this.#open;
  }

  /** Accepts no more connections. New ones wait in the kernel for the next broker. */
  stop(): void {
    this.#isStopped = true;
    this.#pause();
  }

  #resume(): void {
    // allowHalfOpen: systemd shuts down its writing side at once, upon which Node would close the connection before the
    // answer.
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#take(socket);
    });
    this.#server.listen({ fd: duplicate(this.#descriptor), backlog });
  }

  #pause(): void {
    this.#server?.close();
    this.#server = undefined;
  }

  #take(socket: Socket): void {
    this.#open++;
    if (this.#open >= this.#most) this.#pause();
    this.#options.accept(
      new Connection(
        socket,
        () => {
          this.#closed();
        },
        this.#options.patience,
      ),
    );
  }

  #closed(): void {
    this.#open--;
    if (!this.#isStopped && !this.#server && this.#open <= this.#most / 2) this.#resume();
    if (this.#open === 0) this.#options.idle();
  }
}
