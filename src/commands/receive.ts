import { Options } from '../cli/options.ts';
import { exitStatus, Failure, messageOf } from '../failure.ts';
import { Incoming } from '../push/incoming.ts';
import { offerOf } from '../push/offer.ts';
import {
  type Arrived,
  encodeOffer,
  encodeResult,
  longestLine,
  parseRequest,
  type Request,
  type Result,
} from '../push/protocol.ts';
import { pathsUnder } from '../system/paths.ts';
import { printBytes, systemFailure } from '../terminal/say.ts';

/**
 * `auxcred receive`: run by `auxcred push` on a host. Reports on standard output what the host has, reads what it lacks
 * from standard input, checks all of it, seals and writes it, and then does what `auxcred apply` does. If the
 * connection ends before everything has arrived, nothing changes.
 */
export async function receive(argv: readonly string[]): Promise<number> {
  const options = new Options('receive', argv);
  options.exactly();
  // The operator may disconnect before it is done: that is no reason to stop halfway.
  for (const stream of [process.stdout, process.stderr]) stream.removeAllListeners('error').on('error', () => {});
  const root = options.value('root') ?? '/';
  printBytes(encodeOffer(offerOf(pathsUnder(root))));
  const incoming = new Incoming(process.stdin, 'the operator');
  try {
    const line = await incoming.line(longestLine);
    if (!line) return 0;
    const result = await resultOf(async () => {
      const request = parseRequest(line);
      if (request === undefined) return { units: [], failure: undefined };
      const arrived = await arriving(incoming, request);
      // Loaded only here: with nothing to do there is no need to wait for the age library.
      const { received } = await import('../machine/receiving.ts');
      return await received({ root, device: options.value('tpm2-device'), request, arrived });
    });
    answer(result);
    return result.failure === undefined ? 0 : exitStatus[result.failure.code];
  } finally {
    incoming.close();
  }
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
    printBytes(encodeResult(result));
  } catch (error) {
    // Only the host's journal is left to be told.
    process.stderr.write(`auxcred: the operator disconnected: ${messageOf(error)}\n`);
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
