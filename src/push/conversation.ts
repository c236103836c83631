/** One ssh process and what is said through it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { exitStatus, Failure, failureCodes } from '../failure.ts';
import { Incoming } from './incoming.ts';
import { longestLine, type Offer, parseOffer, parseResult, type Request, type Result } from './protocol.ts';
import { printable } from '../system/printable.ts';

/** What a login that is not root's gets by sudo. In quotes that every login shell reads alike. */
const remoteCommand = 'sh -c \'test "$(id -u)" -eq 0 && exec auxcred receive; exec sudo -n auxcred receive\'';

export interface Conversation {
  /** The host's name, for failures. */
  readonly host: string;
  /** The ssh program, its options and the destination. */
  readonly command: readonly string[];
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
 * @throws Failure `timeout`, `system` where the host can't be reached or goes away, and what `decide` throws
 */
export async function converse({ host, command: [program = 'ssh', ...args], timeout, hear }: Conversation, decide: (offer: Offer) => Promise<Shipment>): Promise<Result> {
  const child = spawn(program, [...args, remoteCommand], { stdio: ['pipe', 'pipe', 'pipe'] });
  const ended = once(child, 'close').then(([status]) => (typeof status === 'number' ? status : undefined), (error: unknown) => { throw new Failure('system', `${program} can't be run: ${error instanceof Error ? error.message : ''}`, { hint: 'apt install openssh-client, or ssh = ["PROGRAM"] in vault.toml' }); });
  ended.catch(() => {});
  // A host that goes away is seen by the end of what it says.
  child.stdin.on('error', () => {});
  const { said, release } = listen(child.stderr, hear);
  const incoming = new Incoming(child.stdout);
  let isLate = false;
  // Its streams too: what it started itself may hold them open.
  const end = (): void => {
    child.kill('SIGKILL');
    incoming.close();
    child.stderr.destroy();
  };
  const limit = setTimeout(() => {
    isLate = true;
    end();
  }, timeout);
  const late = (): Failure => new Failure('timeout', `${host} did not finish within ${String(timeout / 1000)} s`, { hint: '--timeout=SECONDS; what was sent whole the host may still finish' });
  try {
    const offer = await incoming.line(longestLine);
    if (!offer) {
      child.stdin.destroy();
      const failure = isLate ? late() : unreached(host, await ended, said());
      release((line) => failure.message.endsWith(line) || line === `hint: ${failure.hint ?? ''}`);
      throw failure;
    }
    release();
    const { request, bytes } = await decide(parseOffer(offer, host));
    for (const part of bytes) child.stdin.write(part);
    child.stdin.end();
    const result = await incoming.line(longestLine);
    if (!result) throw isLate ? late() : new Failure('system', `the connection to ${host} ended before it answered${lastOf(said())}`, { hint: request ? 'auxcred push again: what it got whole it may have put in force' : 'auxcred push again' });
    return parseResult(result, host);
  } finally {
    clearTimeout(limit);
    release();
    child.stdin.destroy();
    child.stdout.resume();
    const grace = setTimeout(end, 2000);
    await ended.catch(() => undefined);
    clearTimeout(grace);
  }
}

/**
 * Cuts into lines what comes, without what a terminal would obey. Until `release` they are held back, since the last of them may be why there is no offer, and is said as that.
 * @returns the last lines until now, and what lets those be heard that `but` does not keep back
 */
function listen(stream: NodeJS.ReadableStream, hear: (line: string) => void): { said: () => readonly string[]; release: (but?: (line: string) => boolean) => void } {
  const lines: string[] = [];
  let held: string[] | undefined = [];
  let rest = '';
  const take = (line: string): void => {
    const clean = printable(line.replace(/^auxcred: /, '')).trimEnd();
    if (clean === '') return;
    lines.push(clean);
    if (lines.length > 20) lines.shift();
    if (held && held.length < 20) held.push(clean);
    else hear(clean);
  };
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const parts = `${rest}${text}`.split('\n');
    rest = (parts.pop() ?? '').slice(0, 10_000);
    for (const line of parts) take(line);
  });
  stream.on('end', () => { take(rest); });
  const release = (but = (_line: string): boolean => false): void => {
    for (const line of held ?? []) if (!but(line)) hear(line);
    held = undefined;
  };
  return { said: () => lines, release };
}

const lastOf = (said: readonly string[]): string => {
  const last = said.filter((line) => !line.startsWith('hint: ')).at(-1);
  return last === undefined ? '' : `: ${last}`;
};

/** Why there was no offer. */
function unreached(host: string, status: number | undefined, said: readonly string[]): Failure {
  if (status === 255) return new Failure('system', `${host} can't be reached${lastOf(said)}`, { hint: 'ssh has to get there without asking anything; target = "root@NAME" in vault.toml says where it is' });
  if (status === 127 && /\bsudo\b/.test(lastOf(said))) return new Failure('system', `the login on ${host} is not root's, and there is no sudo`, { hint: 'target = "root@NAME" in vault.toml, or apt install sudo there' });
  if (status === 127) return new Failure('system', `auxcred is not installed on ${host}`, { hint: 'install it there first' });
  const code = failureCodes.find((candidate) => exitStatus[candidate] === status) ?? 'system';
  const hint = said.find((line) => line.startsWith('hint: '))?.slice('hint: '.length);
  return new Failure(code, `${host} offers nothing${status === undefined ? '' : ` (status ${String(status)})`}${lastOf(said)}`, hint === undefined ? {} : { hint });
}
