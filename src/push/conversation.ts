/** One ssh process and the conversation through it. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { longestMessage } from '../attestation/messages.ts';
import { exitStatus, Failure, failureCodes } from '../failure.ts';
import { printable } from '../system/printable.ts';
import { spawnProblem } from '../system/programs.ts';
import { waysOut } from '../system/ways-out.ts';
import { enrollCommand, quotedTarget } from '../vault/over-ssh.ts';
import type { Ask } from './attestation.ts';
import { Incoming } from './incoming.ts';
import {
  encodeRequest,
  longestLine,
  longestResult,
  type Offer,
  parseOffer,
  parseResult,
  type Request,
  type Result,
} from './protocol.ts';

/** Runs as root, or through sudo for other logins. Quoted so that every login shell reads it alike. */
const remoteCommand = 'sh -c \'test "$(id -u)" -eq 0 && exec auxcred receive; exec sudo -n auxcred receive\'';

/** Limits of a host's standard error: how many lines are passed on, and how many are held back before that. */
const mostLines = 500;
const mostHeld = 20;
/** Characters of a line, and of all lines before the host is given up. */
const longestSaid = 1000;
const floodAfter = 4 << 20;

export interface Conversation {
  /** The host's name, for failures. */
  readonly host: string;
  /** The ssh program and its options. */
  readonly ssh: readonly string[];
  /** The destination, as ssh takes it. */
  readonly target: string;
  /** Milliseconds until the host is given up. */
  readonly timeout: number;
  /** Called with each line that the host or ssh prints on standard error. */
  readonly hear: (line: string) => void;
}

/** What to send: the request's line, and the files behind it. */
export interface Shipment {
  readonly request: Request | undefined;
  readonly bytes: readonly Uint8Array[];
}

/** The shipment for a host that lacks nothing. */
export const nothingToDo: Shipment = { request: undefined, bytes: [encodeRequest(undefined)] };

/**
 * Gets a host's offer, lets `decide` answer it, after questions of its own, and waits for the result. If `decide`
 * throws, the host is told nothing, and changes nothing.
 * @throws Failure `timeout`, `malformed` for a host that floods, `system` if it can't be reached or disconnects, and
 * whatever `decide` throws
 */
export async function converse(
  conversation: Conversation,
  decide: (offer: Offer, ask: Ask) => Promise<Shipment>,
): Promise<Result> {
  const connection = new Connection(conversation);
  try {
    const { request, bytes } = await decide(await connection.offer(), async (line) => await connection.ask(line));
    connection.send(bytes);
    return await connection.result(request !== undefined);
  } finally {
    await connection.end();
  }
}

/** ssh to a host, and the data through it. */
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
    // A disconnected host is noticed by the end of its output.
    this.#child.stdin.on('error', () => {});
    this.#incoming = new Incoming(this.#child.stdout, host);
    this.#heard = listen(this.#child.stderr, hear, () => {
      const hint = 'check what its shell, or ssh, prints there';
      this.#break(new Failure('malformed', `${host} floods standard error`, { hint }));
    });
    this.#limit = setTimeout(() => {
      const hint = '--timeout=SECONDS; the host may still finish what it received completely';
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

  /** @throws Failure if the host disconnects instead of answering */
  async ask(line: Uint8Array): Promise<Uint8Array> {
    this.#child.stdin.write(line);
    const reply = await this.#incoming.line(longestMessage);
    if (reply) return reply;
    const { host } = this.#conversation;
    const last = lastOf(this.#heard.said());
    throw this.#reason ?? new Failure('system', `the connection to ${host} ended before it answered${last}`);
  }

  send(bytes: readonly Uint8Array[]): void {
    for (const part of bytes) this.#child.stdin.write(part);
    this.#child.stdin.end();
  }

  /** @param isAsked - whether the host was asked to change something. @throws Failure if it disconnects without one */
  async result(isAsked: boolean): Promise<Result> {
    const { host } = this.#conversation;
    const result = await this.#incoming.line(longestResult);
    if (result) return parseResult(result, host);
    const hint = isAsked
      ? 'auxcred push again: it may have activated what it received completely'
      : 'auxcred push again';
    const last = lastOf(this.#heard.said());
    throw this.#reason ?? new Failure('system', `the connection to ${host} ended before it answered${last}`, { hint });
  }

  /** Waits up to 2 s for ssh to end. */
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

  /** Closes its streams too: a process that ssh started may hold them open. */
  #break(reason?: Failure): void {
    this.#reason ??= reason;
    this.#child.kill('SIGKILL');
    this.#incoming.close();
    this.#child.stderr.destroy();
  }
}

const notRun = (program: string, error: unknown): Failure =>
  new Failure('system', `${program} can't be run: ${error instanceof Error ? spawnProblem(error) : ''}`, {
    hint: `${waysOut().install('ssh')}, or ssh = ["PROGRAM"] in vault.toml`,
  });

/** The bytes are released as soon as they are parsed: many hosts may be asked at once. */
async function offerIn(incoming: Incoming, host: string): Promise<Offer | undefined> {
  const line = await incoming.line(longestLine);
  return line && parseOffer(line, host);
}

/**
 * Splits output into lines, without terminal control characters. They are held back until `release`, since the last may
 * be the reason why there is no offer, and then goes into that failure.
 * @param flooded - called when there is far too much output
 * @returns the last lines so far, and a function that passes on those that `but` does not exclude
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
    else if (heard === mostLines + 1) hear('further output is left out');
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
    if (length > floodAfter) flooded();
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
        hint: 'ssh has to connect without asking anything; target = "root@NAME" in vault.toml sets the destination',
      })
    );
  if (status === 127 && /\bsudo\b/.test(lastOf(said)))
    return new Failure('system', `the login on ${host} is not root's, and there is no sudo`, {
      hint: 'target = "root@NAME" in vault.toml, or install sudo there',
    });
  if (status === 1 && /^: sudo: |\bsudoers\b/.test(lastOf(said)))
    return new Failure('system', `the login on ${host} is not root's, and may not run auxcred as root${lastOf(said)}`, {
      hint: 'NOPASSWD: /usr/bin/auxcred receive for it in /etc/sudoers.d there, or target = "root@NAME" in vault.toml',
    });
  if (status === 127)
    return new Failure('system', `auxcred is not installed on ${host}`, { hint: 'install it there first' });
  const code = failureCodes.find((candidate) => exitStatus[candidate] === status) ?? 'system';
  const hint = said.find((line) => line.startsWith('hint: '))?.slice('hint: '.length);
  return new Failure(
    code,
    `${host} can't receive a push${status === undefined ? '' : ` (status ${String(status)})`}${lastOf(said)}`,
    hint === undefined ? {} : { hint },
  );
}

/**
 * The failure for an ssh host key that is not in known_hosts: of a reinstalled host, of another machine, or of one
 * through which ssh connects.
 */
function strangeKey(host: string, target: string, said: readonly string[]): Failure | undefined {
  if (!said.some((line) => line.startsWith('Host key verification failed'))) return undefined;
  const once = `ssh ${quotedTarget(target)} once, and compare the fingerprint with what its console shows`;
  const enroll = enrollCommand({ name: host, target }, '--replace');
  const changed = said.some((line) => line.includes('REMOTE HOST IDENTIFICATION HAS CHANGED'));
  const remove = `ssh-keygen -R ${quotedTarget(changedName(said) ?? knownAs(target))}`;
  if (said.some(isProxyEnd))
    return changed
      ? new Failure('system', `the ssh host key of a machine on the way to ${host} changed (reinstalled?)`, {
          hint: `if you know that it was: ${remove}; then ${once}`,
        })
      : new Failure('system', `the ssh host key of a machine on the way to ${host} is not known here`, { hint: once });
  if (!changed)
    return new Failure('system', `the ssh host key of ${host} is not known here`, { hint: `${once}; then ${enroll}` });
  return new Failure('system', `the ssh host key of ${host} changed (reinstalled?)`, {
    hint: `if you know that it was: ${remove}; ${enroll}`,
  });
}

/** What ssh says once the ssh to a machine of `ProxyJump` or `ProxyCommand` has ended. */
const isProxyEnd = (line: string): boolean => line === 'Connection closed by UNKNOWN port 65535';

/** The name in known_hosts for which ssh found another key: `HostName`, `Port` and `HostKeyAlias` set it too. */
const changedName = (said: readonly string[]): string | undefined =>
  said
    .map((line) => /^Host key for (\[?[\w.:%-]+(?:\]:\d+)?) has changed /.exec(line)?.[1])
    .find((name) => name !== undefined);

/** A destination's name in known_hosts: `web1`, or `[web1]:2222` for a port, which only `ssh://` can name. */
function knownAs(target: string): string {
  const [, , name = target, port] = /^ssh:\/\/([^@]*@)?(\[[^\]]*\]|[^:/]*)(?::(\d+))?/.exec(target) ?? [];
  const bare = name.slice(name.lastIndexOf('@') + 1);
  return port === undefined ? bare : `[${bare.replace(/^\[(.*)\]$/, '$1')}]:${port}`;
}
