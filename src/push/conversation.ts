/** One ssh process and what is said through it. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { exitStatus, Failure, failureCodes } from '../failure.ts';
import { printable } from '../system/printable.ts';
import { Incoming } from './incoming.ts';
import {
  longestLine,
  longestResult,
  type Offer,
  parseOffer,
  parseResult,
  type Request,
  type Result,
} from './protocol.ts';

/** What a login that is not root's gets by sudo. In quotes that every login shell reads alike. */
const remoteCommand = 'sh -c \'test "$(id -u)" -eq 0 && exec auxcred receive; exec sudo -n auxcred receive\'';

/** Of what a host says on standard error: the lines that are passed on and that are held back, the characters of each, and the bytes after which it is given up. */
const mostLines = 500;
const mostHeld = 20;
const longestSaid = 1000;
const mostSaid = 4 << 20;

export interface Conversation {
  /** The host's name, for failures. */
  readonly host: string;
  /** The ssh program and its options. */
  readonly ssh: readonly string[];
  /** The destination, as ssh takes it. */
  readonly target: string;
  /** Milliseconds until the other side is given up. */
  readonly timeout: number;
  /** Hears what the other side, or ssh, says on standard error, line by line. */
  readonly hear: (line: string) => void;
}

/** What is to be sent: the request's line and the files behind it. */
export interface Shipment {
  readonly request: Request | undefined;
  readonly bytes: readonly Uint8Array[];
}

/**
 * Gets a host's offer, lets `decide` answer it, and waits for the result. Where `decide` throws, the host is told nothing, and changes nothing.
 * @throws Failure `timeout`, `malformed` for a host that floods, `system` where it can't be reached or goes away, and what `decide` throws
 */
export async function converse(
  conversation: Conversation,
  decide: (offer: Offer) => Promise<Shipment>,
): Promise<Result> {
  const connection = new Connection(conversation);
  try {
    const { request, bytes } = await decide(await connection.offer());
    connection.send(bytes);
    return await connection.result(request !== undefined);
  } finally {
    await connection.end();
  }
}

/** ssh to a host, and what came and went through it. */
class Connection {
  readonly #conversation: Conversation;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #ended: Promise<number | undefined>;
  readonly #incoming: Incoming;
  readonly #limit: NodeJS.Timeout;
  readonly #heard: ReturnType<typeof listen>;
  #reason: Failure | undefined;

  constructor(conversation: Conversation) {
    const { host, ssh, target, timeout, hear } = conversation;
    const [program = 'ssh', ...args] = ssh;
    this.#conversation = conversation;
    this.#child = spawn(program, [...args, target, remoteCommand], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#ended = once(this.#child, 'close').then(
      ([status]) => (typeof status === 'number' ? status : undefined),
      (error: unknown) => {
        throw notRun(program, error);
      },
    );
    this.#ended.catch(() => {});
    // A host that goes away is seen by the end of what it says.
    this.#child.stdin.on('error', () => {});
    this.#incoming = new Incoming(this.#child.stdout, host);
    this.#heard = listen(this.#child.stderr, hear, () => {
      const hint = 'what does its shell, or ssh, print there?';
      this.#break(new Failure('malformed', `${host} floods standard error`, { hint }));
    });
    this.#limit = setTimeout(() => {
      const hint = '--timeout=SECONDS; what was sent whole the host may still finish';
      this.#break(new Failure('timeout', `${host} did not finish within ${String(timeout / 1000)} s`, { hint }));
    }, timeout);
  }

  /** @throws Failure if the host makes none */
  async offer(): Promise<Offer> {
    const offer = await offerIn(this.#incoming, this.#conversation.host);
    if (offer) {
      this.#heard.release();
      return offer;
    }
    this.#child.stdin.destroy();
    const status = this.#reason ? undefined : await this.#ended;
    const failure = this.#reason ?? unreached(this.#conversation, status, this.#heard.said());
    this.#heard.release((line) => failure.message.endsWith(line) || line === `hint: ${failure.hint ?? ''}`);
    throw failure;
  }

  send(bytes: readonly Uint8Array[]): void {
    for (const part of bytes) this.#child.stdin.write(part);
    this.#child.stdin.end();
  }

  /** @param isAsked - whether the host was asked to change something. @throws Failure if it goes away without one */
  async result(isAsked: boolean): Promise<Result> {
    const { host } = this.#conversation;
    const result = await this.#incoming.line(longestResult);
    if (result) return parseResult(result, host);
    const hint = isAsked ? 'auxcred push again: what it got whole it may have made active' : 'auxcred push again';
    const last = lastOf(this.#heard.said());
    throw this.#reason ?? new Failure('system', `the connection to ${host} ended before it answered${last}`, { hint });
  }

  /** Waits until ssh has ended, for 2 s. */
  async end(): Promise<void> {
    clearTimeout(this.#limit);
    this.#heard.release();
    this.#child.stdin.destroy();
    this.#child.stdout.resume();
    const grace = setTimeout(() => {
      this.#break();
    }, 2000);
    await this.#ended.catch(() => undefined);
    clearTimeout(grace);
  }

  /** Its streams too: what ssh started itself may hold them open. */
  #break(reason?: Failure): void {
    this.#reason ??= reason;
    this.#child.kill('SIGKILL');
    this.#incoming.close();
    this.#child.stderr.destroy();
  }
}

const notRun = (program: string, error: unknown): Failure =>
  new Failure('system', `${program} can't be run: ${error instanceof Error ? error.message : ''}`, {
    hint: 'apt install openssh-client, or ssh = ["PROGRAM"] in vault.toml',
  });

/** The bytes go as soon as they are parsed: many hosts may be asked at once. */
async function offerIn(incoming: Incoming, host: string): Promise<Offer | undefined> {
  const line = await incoming.line(longestLine);
  return line && parseOffer(line, host);
}

/**
 * Cuts into lines what comes, without what a terminal would obey. Until `release` they are held back, since the last of them may be why there is no offer, and is said as that.
 * @param flooded - called when more comes than anybody has to say
 * @returns the last lines until now, and what lets those be heard that `but` does not keep back
 */
function listen(
  stream: NodeJS.ReadableStream,
  hear: (line: string) => void,
  flooded: () => void,
): { said: () => readonly string[]; release: (but?: (line: string) => boolean) => void } {
  const lines: string[] = [];
  let held: string[] | undefined = [];
  let rest = '';
  let heard = 0;
  let length = 0;
  const pass = (line: string): void => {
    heard++;
    if (heard <= mostLines) hear(line);
    else if (heard === mostLines + 1) hear('it says more, which is left out');
  };
  const take = (line: string): void => {
    const clean = printable(line.replace(/^auxcred: /, ''), longestSaid).trimEnd();
    if (clean === '') return;
    lines.push(clean);
    if (lines.length > mostHeld) lines.shift();
    const next = held ? [...held, clean] : [clean];
    held = held && next.splice(-mostHeld);
    for (const one of next) pass(one);
  };
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const parts = `${rest}${text}`.split('\n');
    rest = (parts.pop() ?? '').slice(0, longestSaid);
    for (const line of parts) take(line);
    length += text.length;
    if (length > mostSaid) flooded();
  });
  stream.on('end', () => {
    take(rest);
  });
  const release = (but = (_line: string): boolean => false): void => {
    for (const line of held ?? []) if (!but(line)) pass(line);
    held = undefined;
  };
  return { said: () => lines, release };
}

const lastOf = (said: readonly string[]): string => {
  const last = said.filter((line) => !line.startsWith('hint: ')).at(-1);
  return last === undefined ? '' : `: ${last}`;
};

/** Why there was no offer. */
function unreached(
  { host, target }: { readonly host: string; readonly target: string },
  status: number | undefined,
  said: readonly string[],
): Failure {
  if (status === 255)
    return (
      strangeKey(host, target, said) ??
      new Failure('system', `${host} can't be reached${lastOf(said)}`, {
        hint: 'ssh has to get there without asking anything; target = "root@NAME" in vault.toml says where it is',
      })
    );
  if (status === 127 && /\bsudo\b/.test(lastOf(said)))
    return new Failure('system', `the login on ${host} is not root's, and there is no sudo`, {
      hint: 'target = "root@NAME" in vault.toml, or apt install sudo there',
    });
  if (status === 127)
    return new Failure('system', `auxcred is not installed on ${host}`, { hint: 'install it there first' });
  const code = failureCodes.find((candidate) => exitStatus[candidate] === status) ?? 'system';
  const hint = said.find((line) => line.startsWith('hint: '))?.slice('hint: '.length);
  return new Failure(
    code,
    `${host} offers nothing${status === undefined ? '' : ` (status ${String(status)})`}${lastOf(said)}`,
    hint === undefined ? {} : { hint },
  );
}

/** A host whose ssh host key is not the one that known_hosts has: one that was reinstalled, or another machine. */
function strangeKey(host: string, target: string, said: readonly string[]): Failure | undefined {
  if (!said.some((line) => line.startsWith('Host key verification failed'))) return undefined;
  const enroll = `ssh ${quoted(target)} auxcred enroll | auxcred enroll ${host} --replace --from=-`;
  const changed = said.some((line) => line.includes('REMOTE HOST IDENTIFICATION HAS CHANGED'));
  if (!changed)
    return new Failure('system', `the ssh host key of ${host} is not known here`, {
      hint: `ssh ${quoted(target)} once, and compare the fingerprint with what its console shows; then ${enroll}`,
    });
  return new Failure('system', `the ssh host key of ${host} changed (reinstalled?)`, {
    hint: `if you know that it was: ssh-keygen -R ${quoted(knownAs(target))}; ${enroll}`,
  });
}

/** For a shell: a destination has no quotes in it, but it may have brackets. */
const quoted = (word: string): string => (/[[\]]/.test(word) ? `'${word}'` : word);

/** What known_hosts calls a destination: `web1`, or `[web1]:2222` with a port that only `ssh://` can name. */
function knownAs(target: string): string {
  const [, , name = target, port] = /^ssh:\/\/([^@]*@)?(\[[^\]]*\]|[^:/]*)(?::(\d+))?/.exec(target) ?? [];
  const bare = name.slice(name.lastIndexOf('@') + 1);
  return port === undefined ? bare : `[${bare.replace(/^\[(.*)\]$/, '$1')}]:${port}`;
}
