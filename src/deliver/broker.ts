/**
 * auxcred.service: opens the machine's seeds once, then answers each unit with that unit's own secrets.
 *
 * systemd takes whatever it can read before the connection closes for the secret, an empty answer included. So all that can fail
 * or take time comes before the first accept, an answer is computed and written in the turn of the event loop that accepted its
 * connection, and whatever goes wrong later is answered with a refusal, never with a closed connection.
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { exitStatus, Failure, messageOf } from '../failure.ts';
import { activatedSockets } from '../system/activation.ts';
import { journal } from '../system/journal.ts';
import { notify } from '../system/notify.ts';
import { pathsUnder } from '../system/paths.ts';
import { closeMemory } from '../system/process-memory.ts';
import { type Peer, peerOf } from '../system/peer.ts';
import { wipeScopes } from '../store/scope.ts';
import type { Release } from '../store/snapshot.ts';
import { givenMeans, type Opened, openReleases } from './opening.ts';
import { recordRefusal, recordRelease } from './record.ts';
import { refuse } from './refusal.ts';
import { ReleaseBook } from './releases.ts';
import { type CredentialRequest, mayAskFor, parsePeerName } from './request.ts';
import { encodeGrant, encodeRefusal } from './stage-message.ts';

/** How long opening the seeds may take: a TPM that hangs must not hold up the units that wait. */
const openingLimit = 20_000;
/** How long a broker that can't open the seeds refuses before it makes way for a fresh attempt. */
const refusingTime = 3_000;
const idleTime = 60_000;
/** As many as the kernel allows by default; a smaller one makes PID 1's clients wait in connect(2). */
const backlog = 4096;
/** A unit's name has at most 255 bytes. */
const stageRequestLimit = 256;
const stageRequestTime = 5_000;

/** Answers from the book, or, where the seeds could not be opened, the reason for every refusal. */
type Answers = { readonly opened: Opened; readonly book: ReleaseBook } | { readonly closed: Failure };

interface Granted {
  readonly request: CredentialRequest;
  readonly release: Release;
  readonly value: Uint8Array;
}

class Broker {
  #answers: Answers;
  readonly #servers: Server[] = [];
  readonly #connections = new Set<Socket>();
  #idle: NodeJS.Timeout | undefined;
  #exitCode: number | undefined;

  constructor(answers: Answers) {
    this.#answers = answers;
  }

  listen(sockets: ReadonlyMap<string, number>): void {
    this.#serve(sockets.get('credentials'), (socket) => { this.#answerSystemd(socket); });
    this.#serve(sockets.get('stage'), (socket) => { this.#answerStage(socket); });
    this.#watchIdle();
  }

  /** Accepts nothing more, finishes the refusals under way, then exits with `code`. */
  leave(code: number): void {
    if (this.#exitCode !== undefined) return;
    this.#exitCode = code;
    for (const server of this.#servers) server.close();
    this.#exitWhenDone();
  }

  #serve(fd: number | undefined, answer: (socket: Socket) => void): void {
    if (fd === undefined) return;
    // allowHalfOpen: systemd shuts its writing side down at once, and Node would close the connection before the answer.
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#connections.add(socket);
      clearTimeout(this.#idle);
      socket.on('error', () => { socket.destroy(); });
      socket.on('close', () => {
        this.#connections.delete(socket);
        this.#watchIdle();
        this.#exitWhenDone();
      });
      answer(socket);
    });
    server.listen({ fd, backlog });
    this.#servers.push(server);
  }

  #watchIdle(): void {
    clearTimeout(this.#idle);
    if (this.#connections.size === 0 && this.#exitCode === undefined) this.#idle = setTimeout(() => { this.leave(0); }, idleTime);
  }

  #exitWhenDone(): void {
    if (this.#exitCode !== undefined && this.#connections.size === 0) process.exit(this.#exitCode);
  }

  #answerSystemd(socket: Socket): void {
    let request: CredentialRequest | undefined;
    try {
      const peer = peerOf(socket);
      request = parsePeerName(peer.name);
      const granted = this.#grant(request, peer);
      socket.end(granted.value, () => { granted.value.fill(0); });
      // After the answer: who kills the broker now costs the journal a line, and not the unit its secret.
      recordRelease(granted.request, granted.release);
    } catch (error) {
      recordRefusal(request, messageOf(error));
      refuse(socket);
    }
    socket.resume();
  }

  #answerStage(socket: Socket): void {
    const received: Buffer[] = [];
    const limit = setTimeout(() => { socket.destroy(); }, stageRequestTime);
    socket.on('close', () => { clearTimeout(limit); });
    socket.on('data', (chunk) => {
      received.push(chunk);
      if (received.reduce((length, part) => length + part.length, 0) > stageRequestLimit) socket.destroy();
    });
    socket.on('end', () => {
      clearTimeout(limit);
      this.#grantStage(socket, Buffer.concat(received).toString('utf8'));
    });
  }

  #grantStage(socket: Socket, unit: string): void {
    const granted: Granted[] = [];
    let request: CredentialRequest | undefined;
    try {
      const peer = peerOf(socket);
      const requests = this.#book().staged(unit);
      if (requests.length === 0) throw new Failure('refused', `no staged credential is provisioned for ${unit}: declare it, then run auxcred apply`);
      const credentials = requests.map(({ unit: declared, credential }) => {
        request = { unit, credential };
        const one = this.#grant(request, peer);
        granted.push(one);
        return { unit: declared, credential, value: one.value };
      });
      const answer = encodeGrant(credentials);
      socket.end(answer, () => { answer.fill(0); });
      for (const one of granted) recordRelease(one.request, one.release);
    } catch (error) {
      recordRefusal(request ?? { unit, credential: '' }, messageOf(error));
      socket.end(encodeRefusal(messageOf(error)));
    } finally {
      for (const { value } of granted) value.fill(0);
    }
  }

  /**
   * What is in force now: something may have been put in force while this broker was starting, and then nobody ends it. Seeds that do not go with it are of no use
   * any more, and the next broker opens those that do.
   * @throws Failure with the reason for every refusal
   */
  #book(): ReleaseBook {
    if ('closed' in this.#answers) throw this.#answers.closed;
    try {
      const opened = this.#answers.opened.reread();
      if (opened) this.#answers = { opened, book: new ReleaseBook(opened.releases, opened.sources) };
      return this.#answers.book;
    } catch (error) {
      this.leave(0);
      throw error;
    }
  }

  /** @throws Failure with the reason for a refusal */
  #grant(request: CredentialRequest | undefined, peer: Peer): Granted {
    if (!request) throw new Failure('refused', 'the peer is not systemd asking for a credential');
    if (!mayAskFor(request.unit, peer)) throw new Failure('refused', `the peer (pid ${String(peer.pid)}, uid ${String(peer.uid)}) is not part of ${request.unit}`);
    const book = this.#book();
    const release = book.find(request);
    return { request, release, value: book.valueOf(release) };
  }
}

/**
 * Goes through a whole answer once, over a socket of its own: the first one takes milliseconds, in which a SIGKILL would leave
 * a unit with an empty secret, and those that follow a fraction of it.
 */
async function rehearse(book: ReleaseBook, releases: readonly Release[]): Promise<void> {
  const [release] = releases;
  if (!release) return;
  const name = `\0auxcred-rehearsal-${String(process.pid)}`;
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const peer = peerOf(socket);
    mayAskFor(parsePeerName(peer.name ?? '0/unit/none.service/none')?.unit ?? '', peer);
    const value = book.valueOf(release);
    socket.end(value, () => { value.fill(0); });
    socket.resume();
  });
  try {
    server.listen(name);
    await once(server, 'listening');
    const client = connect(name);
    client.end();
    client.resume();
    await once(client, 'close');
  } finally {
    server.close();
  }
}

async function within<T>(limit: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => { reject(new Failure('timeout', `the seeds could not be opened within ${String(limit / 1000)} s`, { hint: 'is the TPM answering? auxcred unseal shows where it hangs' })); }, limit);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function main(): Promise<void> {
  closeMemory();
  const sockets = activatedSockets(process.env);
  if (!sockets.has('credentials')) throw new Failure('usage', 'the broker is started by auxcred.socket', { hint: 'systemctl start auxcred.socket' });
  let broker: Broker;
  try {
    const opened = await within(openingLimit, openReleases(pathsUnder('/'), givenMeans(process.env)));
    process.on('exit', () => { wipeScopes(opened.scopes); });
    const book = new ReleaseBook(opened.releases, opened.sources);
    broker = new Broker({ opened, book });
    await rehearse(book, opened.releases);
  } catch (error) {
    const closed = error instanceof Failure ? error : new Failure('system', messageOf(error));
    journal({ MESSAGE: `the seeds stay closed: ${closed.message}${closed.hint === undefined ? '' : ` (${closed.hint})`}`, PRIORITY: '3', AUXCRED_REASON: closed.code });
    broker = new Broker({ closed });
    setTimeout(() => {
      // A thread that waits for a TPM for ever would also hold up an ordinary exit.
      if (closed.code === 'timeout') process.kill(process.pid, 'SIGKILL');
      broker.leave(exitStatus[closed.code]);
    }, refusingTime);
  }
  process.on('SIGTERM', () => { broker.leave(0); });
  process.on('uncaughtException', (error) => {
    journal({ MESSAGE: `stopping after an unexpected error: ${messageOf(error)}`, PRIORITY: '2' });
    broker.leave(1);
  });
  broker.listen(sockets);
  notify('READY=1');
}

main().catch((error: unknown) => {
  process.stderr.write(`auxcred: ${messageOf(error)}\n`);
  process.exitCode = error instanceof Failure ? exitStatus[error.code] : 1;
});
