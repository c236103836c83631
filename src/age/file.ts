import { Failure, resealHint } from '../failure.ts';
import { LaterFormat } from '../system/json.ts';
import { fileKeyLength } from './file-key.ts';
import { type Header, malformed, parseHeader, type Stanza, verifyMac } from './header.ts';
import { decryptPayload } from './stream.ts';

/** Something that may get the file key out of a header's stanzas, and may find out more while it does. */
export interface Unwrapper<Found = never> {
  /** Its name in messages: `ssh host key`, `tpm2`. */
  readonly name: string;
  /**
   * @returns undefined if no stanza is meant for it
   * @throws Failure if one is meant for it and does not open
   */
  unwrap(stanzas: readonly Stanza[]): Promise<Unwrapped<Found> | undefined>;
}

/** What an {@link Unwrapper} got out of a stanza. */
export interface Unwrapped<Found = never> {
  /** 16 bytes. */
  readonly fileKey: Uint8Array;
  readonly found?: Found;
}

/** An opened age file. */
export interface OpenedFile<Found = never> {
  readonly plaintext: Uint8Array;
  /** The name of the unwrapper that opened it. */
  readonly openedBy: string;
  /** What that unwrapper found beside the file key. */
  readonly found: Found | undefined;
}

interface Attempt {
  readonly name: string;
  readonly failure: Failure;
}

/**
 * Opens an age file (C2SP age.md) with the first unwrapper that yields a file key. Unknown stanzas are skipped.
 * If that file key does not match the header's MAC or the payload, the file is damaged, and no other unwrapper is
 * tried.
 * The caller wipes the plaintext.
 * @throws Failure `malformed` for a damaged file; the unwrapper's own failure if only one had a stanza;
 * `no-recipient`, which names each failure, if several had one or none had
 */
export async function openAgeFile<Found = never>(
  file: Uint8Array,
  unwrappers: readonly Unwrapper<Found>[],
): Promise<OpenedFile<Found>> {
  const header = parseHeader(file);
  if (header.stanzas.length > 1 && header.stanzas.some(({ args }) => args[0] === 'scrypt'))
    throw malformed('a passphrase stanza that is not alone');
  const attempts: Attempt[] = [];
  for (const unwrapper of unwrappers) {
    const result = await attempt(unwrapper, header.stanzas);
    if (result instanceof Failure) attempts.push({ name: unwrapper.name, failure: result });
    else if (result)
      return {
        plaintext: decryptedPayload(file, header, result.fileKey),
        openedBy: unwrapper.name,
        found: result.found,
      };
  }
  throw notOpened(header, attempts);
}

async function attempt<Found>(
  unwrapper: Unwrapper<Found>,
  stanzas: readonly Stanza[],
): Promise<Unwrapped<Found> | Failure | undefined> {
  try {
    return await unwrapper.unwrap(stanzas);
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}

function decryptedPayload(file: Uint8Array, header: Header, fileKey: Uint8Array): Uint8Array {
  try {
    if (fileKey.length !== fileKeyLength) throw malformed('a file key of another length');
    verifyMac(header, fileKey);
    return decryptPayload(file.subarray(header.length), fileKey);
  } finally {
    fileKey.fill(0);
  }
}

/** Adds the file's name to a Failure `malformed`; returns any other error, and a later format, as it is. */
export const damagedFile = (path: string, error: unknown): unknown =>
  error instanceof Failure && error.code === 'malformed' && !(error instanceof LaterFormat)
    ? new Failure('malformed', `${path} is damaged: ${error.message}`, {
        hint: error.hint ?? 'restore it from a backup',
        cause: error,
      })
    : error;

function notOpened({ stanzas }: Header, attempts: readonly Attempt[]): Failure {
  const [only] = attempts;
  // A stanza that its own key does not open is damaged, whether or not other keys have stanzas.
  if (only && (attempts.length === 1 || attempts.every(({ failure }) => failure.code === 'malformed')))
    return only.failure;
  if (only) {
    const why = attempts.map(({ name, failure }) => `${name}: ${failure.message}`).join('; ');
    const hints = new Set(attempts.map(({ failure }) => failure.hint).filter((hint) => hint !== undefined));
    return new Failure('no-recipient', `none of this machine's keys opens the file: ${why}`, {
      hint: [...hints].join('; or ') || resealHint,
    });
  }
  // The types are untrusted input: shortened, so that a file can't fill the journal.
  const types = [...new Set(stanzas.map(({ args: [type = ''] }) => type.slice(0, 40)))].slice(0, 8).join(', ');
  return new Failure('no-recipient', `none of this machine's keys opens the file, which is for ${types}`, {
    hint: `the host key may have changed; ${resealHint}; if it did not, the file is damaged: restore it from a backup`,
  });
}
