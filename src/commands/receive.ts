import { encodeAnswer, encodeStatement } from '../attestation/messages.ts';
import { Options } from '../cli/options.ts';
import { exitStatus, Failure, messageOf } from '../failure.ts';
import { openersOf } from '../machine/openers.ts';
import { Incoming } from '../push/incoming.ts';
import { offerOf } from '../push/offer.ts';
import {
  type Arrived,
  encodeOffer,
  encodeResult,
  longestLine,
  parseQuestion,
  parseRequest,
  type Question,
  type Request,
  type Result,
} from '../push/protocol.ts';
import { pathsUnder } from '../system/paths.ts';
import { writeAll } from '../system/patience.ts';
import { say, systemFailure } from '../terminal/say.ts';

/**
 * `auxcred receive`: run by `auxcred push` on a host. Reports on standard output what the host has, reads what it lacks
 * from standard input, checks all of it, seals and writes it, and then does what `auxcred apply` does. If the
 * connection ends before everything has arrived, nothing changes.
 */
export async function receive(argv: readonly string[]): Promise<number> {
  const options = new Options('receive', argv);
  options.exactly();
  const root = options.value('root') ?? '/';
  send(encodeOffer(offerOf(pathsUnder(root))));
  const incoming = new Incoming(process.stdin, 'the operator');
  try {
    const { line, isAttested } = await requested(incoming, async (question) => await repliedTo(question, options));
    if (!line) return 0;
    let isProved = false;
    const result = await resultOf(async () => {
      const request = parseRequest(line);
      if (request === undefined) {
        // Who asks about the TPM and then for nothing wants no more than the answers: there may be no seeds yet.
        if (isAttested) return nothingDone;
        isProved = true;
        const { proveOpening } = await import('../machine/opening.ts');
        await proveOpening(root, options.value('tpm2-device'));
        return nothingDone;
      }
      const arrived = await arriving(incoming, request);
      // Loaded only here: with nothing to do there is no need to wait for the age library.
      const { received } = await import('../machine/receiving.ts');
      return await received({ root, device: options.value('tpm2-device'), request, arrived });
    });
    answer(result);
    // A thread that waits for the TPM would block an ordinary exit.
    if (isProved && result.failure?.code === 'timeout') process.kill(process.pid, 'SIGKILL');
    return result.failure === undefined ? 0 : exitStatus[result.failure.code];
  } finally {
    incoming.close();
  }
}

const nothingDone: Result = { units: [], failure: undefined };

/** The request's line, after the questions before it are answered; undefined if the operator disconnects. */
async function requested(
  incoming: Incoming,
  reply: (question: Question) => Promise<Uint8Array>,
): Promise<{ readonly line: Uint8Array | undefined; readonly isAttested: boolean }> {
  for (let asked = 0; ; asked++) {
    const line = await incoming.line(longestLine);
    const question = line && asked < mostQuestions ? questionIn(line) : undefined;
    if (!question) return { line, isAttested: asked > 0 };
    send(await reply(question));
  }
}

/** An attestation takes two. */
const mostQuestions = 2;

/** Undefined for a request, and for a damaged line, which then is refused as one. */
function questionIn(line: Uint8Array): Question | undefined {
  try {
    return parseQuestion(line);
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}

/** What the TPM says. A failure is sent as a result. */
async function repliedTo(question: Question, options: Options): Promise<Uint8Array> {
  let said: Uint8Array | undefined;
  const result = await resultOf(async () => {
    const { answerTo, statementOf } = await import('../machine/attesting.ts');
    const paths = pathsUnder(options.value('root') ?? '/');
    const { device } = openersOf(paths, options.value('tpm2-device') ?? question.device);
    said =
      question.challenge === undefined
        ? encodeStatement(await statementOf(device))
        : encodeAnswer(await answerTo(question.challenge, paths, device));
    return nothingDone;
  });
  return said ?? encodeResult(result);
}

/** Failures go to the operator, not to standard error. */
async function resultOf(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    const failure = systemFailure(error) ?? error;
    if (!(failure instanceof Failure)) throw error;
    return { units: [], failure };
  }
}

function answer(result: Result): void {
  try {
    send(encodeResult(result));
  } catch (error) {
    // Only the host's journal is left to be told.
    say(`the operator disconnected: ${messageOf(error)}`);
  }
}

/** @throws Failure `system` if the connection ends first */
async function arriving(incoming: Incoming, { seeds, fixed, manifest }: Request): Promise<Arrived> {
  const next = async (length: number): Promise<Uint8Array> => {
    const bytes = await incoming.bytes(length);
    if (!bytes)
      throw new Failure('system', 'the connection ended before everything had arrived, so nothing was changed', {
        hint: 'auxcred push again',
      });
    return bytes;
  };
  const all = async (files: Request['fixed']): Promise<Map<string, Uint8Array>> => {
    const bytes = new Map<string, Uint8Array>();
    for (const { name, length } of files) bytes.set(name, await next(length));
    return bytes;
  };
  return { seeds: seeds && (await next(seeds.length)), fixed: await all(fixed), manifest: await all(manifest) };
}

/** To the operator, who may be gone. @throws if it can't be written */
const send = (bytes: Uint8Array): void => {
  writeAll(1, bytes);
};
