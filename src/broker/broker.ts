/** Answers each unit with its own secrets, from one snapshot and the seeds that it was made with. */
import { Failure, messageOf } from '../failure.ts';
import type { Release } from '../snapshot/snapshot.ts';
import { type HostSecret, hostSecretFile } from '../system/host-credential.ts';
import { type JournalFields, journal } from '../system/journal.ts';
import type { Peer } from '../system/peer.ts';
import { waysOut } from '../system/ways-out.ts';
import type { Connection } from './connection.ts';
import { refusalRecord, releaseRecord } from './journal-record.ts';
import { Listener } from './listener.ts';
import { ReleaseBook } from './release-book.ts';
import { type CredentialRequest, mayAskFor, parsePeerName } from './request.ts';
import type { ServedSecrets } from './served-secrets.ts';
import { encodeGrant, encodeRefusal } from './stage-message.ts';

const idleTime = 60_000;
/** Milliseconds for which systemd accepts an answer. It reads answers at once. */
const validity = 60_000;
/** Bytes. The name of a unit has at most 255. */
const stageRequestLimit = 256;

/** The source of answers; if it could not be opened, the reason for refusing every request. */
export type Answers =
  | {
      readonly opened: ServedSecrets;
      readonly secret: HostSecret;
      /** Whether systemd has another host secret by now, with which it can't open the answers. */
      readonly isSecretStale: () => boolean;
      /** Whether nobody can open the seeds again before the next boot, so that this broker stays until then. */
      readonly isLast: boolean;
    }
  | { readonly closed: Failure };

/** The names of the descriptors of auxcred.socket and auxcred-stage.socket. */
export const socketNames = { credentials: 'encrypted', stage: 'stage' } as const;

interface Granted {
  readonly request: CredentialRequest;
  readonly release: Release;
  readonly value: Uint8Array;
}

/** The broker: answers the connections of its sockets until it is told to leave. */
export class Broker {
  #answers: Answers;
  #book: ReleaseBook | undefined;
  readonly #exit: (code: number) => void;
  readonly #record: (fields: JournalFields) => void;
  readonly #listeners: Listener[] = [];
  #idle: NodeJS.Timeout | undefined;
  #exitCode: number | undefined;

  /**
   * @param exit - ends the process. Called once, when no connection is open any more
   * @param record - writes a record of each release and refusal, after its answer
   */
  constructor(
    answers: Answers,
    exit: (code: number) => void,
    record: (fields: JournalFields) => void = (fields) => {
      journal(fields);
    },
  ) {
    this.#answers = answers;
    this.#exit = exit;
    this.#record = record;
  }

  /** Starts to accept connections. @param sockets - descriptors by name, from {@link socketNames} */
  listen(sockets: ReadonlyMap<string, number>): void {
    this.#serve(sockets.get(socketNames.credentials), (connection) => {
      this.#answerSystemd(connection);
    });
    this.#serve(sockets.get(socketNames.stage), (connection) => {
      connection.onRequest(stageRequestLimit, (request) => {
        this.#answerStage(connection, request.toString('utf8'));
      });
    });
    this.#settle();
  }

  /** Accepts no more connections, finishes the open ones, then exits with `code`. */
  leave(code: number): void {
    if (this.#exitCode !== undefined) return;
    this.#exitCode = code;
    for (const listener of this.#listeners) listener.stop();
    this.#settle();
  }

  #serve(descriptor: number | undefined, answer: (connection: Connection) => void): void {
    if (descriptor === undefined) return;
    const accept = (connection: Connection): void => {
      clearTimeout(this.#idle);
      answer(connection);
    };
    this.#listeners.push(
      new Listener(descriptor, {
        accept,
        idle: () => {
          this.#settle();
        },
      }),
    );
  }

  /** Called when no connection is open: waits for the next one, or exits if {@link leave} was called. */
  #settle(): void {
    clearTimeout(this.#idle);
    if (this.#listeners.some(({ open }) => open > 0)) return;
    if (this.#exitCode !== undefined) this.#exit(this.#exitCode);
    else if (!this.#isLast())
      this.#idle = setTimeout(() => {
        this.leave(0);
      }, idleTime);
  }

  #isLast(): boolean {
    return 'opened' in this.#answers && this.#answers.isLast;
  }

  /** Leaves, unless no other broker could take over. */
  #makeRoom(): void {
    if (!this.#isLast()) this.leave(0);
  }

  #answerSystemd(connection: Connection): void {
    let request: CredentialRequest | undefined;
    try {
      const peer = connection.peer();
      request = parsePeerName(peer.name);
      if (!request) throw new Failure('refused', 'the peer is not systemd asking for a credential');
      const { release, value } = this.#grant(request, peer);
      connection.answer(this.#encrypted(request.credential, value));
      this.#record(releaseRecord(request, release));
    } catch (error) {
      this.#record(refusalRecord(request, messageOf(error)));
      connection.close();
    }
  }

  /**
   * Encrypts `value` for this credential only, in systemd's format. Wipes `value`. If systemd could not open that, this
   * broker leaves, and the next one gets the present host secret.
   * @throws Failure, the reason for refusing the request
   */
  #encrypted(credential: string, value: Uint8Array): Uint8Array {
    try {
      if ('closed' in this.#answers) throw this.#answers.closed;
      if (this.#answers.isSecretStale()) {
        this.#makeRoom();
        const way = this.#isLast() ? 'reboot, since only this broker has the seeds' : 'start the unit again';
        throw new Failure('refused', `${hostSecretFile} was replaced while the broker ran: ${way}`);
      }
      return this.#answers.secret.encrypt(credential, value, validity);
    } finally {
      value.fill(0);
    }
  }

  #answerStage(connection: Connection, unit: string): void {
    const granted: Granted[] = [];
    let request: CredentialRequest | undefined;
    try {
      const peer = connection.peer();
      const requests = this.#current().staged(unit);
      if (requests.length === 0)
        throw new Failure(
          'refused',
          `no staged credential is provisioned for ${unit}: declare it, then run ${waysOut().apply}`,
        );
      const credentials = requests.map(({ unit: declared, credential }) => {
        request = { unit, credential };
        const one = this.#grant(request, peer);
        granted.push(one);
        return { unit: declared, credential, value: one.value };
      });
      connection.answer(encodeGrant(credentials));
      for (const one of granted) this.#record(releaseRecord(one.request, one.release));
    } catch (error) {
      this.#record(refusalRecord(request ?? { unit, credential: '' }, messageOf(error)));
      connection.answer(encodeRefusal(messageOf(error)));
    } finally {
      for (const { value } of granted) value.fill(0);
    }
  }

  /**
   * Reads the active releases again: another snapshot may have become active while this broker was starting, and then
   * nobody ended it. If the seeds do not match that one, this broker leaves, and the next one opens those that do.
   * @throws Failure, the reason for refusing every request
   */
  #current(): ReleaseBook {
    if ('closed' in this.#answers) throw this.#answers.closed;
    try {
      const opened = this.#answers.opened.reread();
      if (opened) {
        this.#answers = { ...this.#answers, opened };
        this.#book = undefined;
      }
      return (this.#book ??= new ReleaseBook(this.#answers.opened.releases, this.#answers.opened.sources));
    } catch (error) {
      this.#makeRoom();
      throw error;
    }
  }

  /** Judges a request. @throws Failure, the reason for refusing it */
  #grant(request: CredentialRequest, peer: Peer): Granted {
    if (!mayAskFor(request.unit, peer))
      throw new Failure(
        'refused',
        `the peer (pid ${String(peer.pid)}, uid ${String(peer.uid)}, of ${peer.unit ?? 'no unit'}) ` +
          `is not part of ${request.unit}`,
      );
    const book = this.#current();
    const release = book.find(request);
    if ('opened' in this.#answers && this.#answers.opened.isOutdated(release)) throw withheld(request);
    return { request, release, value: book.value(release) };
  }
}

/** The unit was restarted for a value that was not provisioned. */
const withheld = ({ unit, credential }: CredentialRequest): Failure =>
  new Failure(
    'refused',
    `the configuration has changed ${credential} of ${unit}, and that was not provisioned: auxcred provision says why`,
  );
