import { createServer, type Server, type Socket } from 'node:net';
import { duplicate } from '../system/activation.ts';
import { Connection } from './connection.ts';

/** As many as the kernel allows by default; a smaller one makes PID 1's clients wait in connect(2). */
const backlog = 4096;
/** Connections that are open at a time, far below the limit of descriptors: the others wait in the kernel. */
const mostOpen = 256;

export interface ListenerOptions {
  /** Called for each connection, which it answers or closes. */
  readonly accept: (connection: Connection) => void;
  /** Called when the last connection is gone. */
  readonly idle: () => void;
  /** {@link mostOpen} and the connections' patience, smaller in tests. */
  readonly most?: number;
  readonly patience?: number;
}

/** A listening socket that systemd passed, which stays open whether connections are accepted from it or not. */
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

  /** How many connections are open. */
  get open(): number {
    return this.#open;
  }

  /** Accepts no more: who connects from now on waits in the kernel for the next broker. */
  stop(): void {
    this.#isStopped = true;
    this.#pause();
  }

  #resume(): void {
    // allowHalfOpen: systemd shuts its writing side down at once, and Node would close the connection before the
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
