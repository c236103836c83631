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
 * `auxcred receive`: what `auxcred push` runs on a host. It says on standard output what is here, takes what is missing from standard input, checks all
 * of it, seals and writes it, and does what `auxcred apply` does. A connection that ends before everything is here changes nothing.
 */
export async function receive(argv: readonly string[]): Promise<number> {
  const options = new Options('receive', argv);
  options.exactly();
  // The operator may be gone before it is done: that is no reason to stop halfway.
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
      // Only here: where nothing is to be done nothing waits for the age library to load.
      const { received } = await import('../machine/receiving.ts');
      return await received({ root, device: options.value('tpm2-device'), request, arrived });
    });
    answer(result);
    return result.failure === undefined ? 0 : exitStatus[result.failure.code];
  } finally {
    incoming.close();
  }
}

/** What goes wrong on purpose goes to the operator, in place of standard error. */
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
    // Nobody is there to be told, but the host's journal.
    process.stderr.write(`auxcred: the operator went away: ${messageOf(error)}\n`);
  }
}

/** @throws Failure `system` where the connection ends before */
async function arriving(incoming: Incoming, { seeds, fixed, manifest }: Request): Promise<Arrived> {
  const next = async (length: number): Promise<Uint8Array> => {
    const bytes = await incoming.bytes(length);
    if (!bytes)
      throw new Failure('system', 'the connection ended before everything was here, so nothing was changed', {
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
