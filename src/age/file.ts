import { Failure, resealHint } from '../failure.ts';
import { fileKeyLength } from './file-key.ts';
import { type Header, malformed, parseHeader, type Stanza, verifyMac } from './header.ts';
import { decryptPayload } from './stream.ts';

/** A way to a file key. */
export interface Unwrapper {
  /** What a person calls it: `ssh host key`, `tpm2`. */
  readonly name: string;
  /** The file key (16 bytes), or undefined if none of the stanzas is meant for it. @throws Failure if one is, and does not open */
  unwrap(stanzas: readonly Stanza[]): Promise<Uint8Array | undefined>;
}

interface Attempt {
  readonly name: string;
  readonly failure: Failure;
}

/**
 * Opens an age file (C2SP age.md) with the first unwrapper that gets a file key out of it. Unknown stanzas are skipped.
 * A file key that does not fit the header's MAC or the payload ends it: no other unwrapper is asked for another one.
 * The caller wipes the plaintext.
 * @throws Failure `malformed`; the failure of the one unwrapper that had a stanza; `no-recipient`, which names each failure, if several or none had
 */
export async function openAgeFile(
  file: Uint8Array,
  unwrappers: readonly Unwrapper[],
): Promise<{ plaintext: Uint8Array; openedBy: string }> {
  const header = parseHeader(file);
  if (header.stanzas.length > 1 && header.stanzas.some(({ args }) => args[0] === 'scrypt'))
    throw malformed('a passphrase stanza that is not alone');
  const attempts: Attempt[] = [];
  for (const unwrapper of unwrappers) {
    const result = await attempt(unwrapper, header.stanzas);
    if (result instanceof Uint8Array) return { plaintext: opened(file, header, result), openedBy: unwrapper.name };
    if (result) attempts.push({ name: unwrapper.name, failure: result });
  }
  throw notOpened(header, attempts);
}

async function attempt(unwrapper: Unwrapper, stanzas: readonly Stanza[]): Promise<Uint8Array | Failure | undefined> {
  try {
    return await unwrapper.unwrap(stanzas);
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}

function opened(file: Uint8Array, header: Header, fileKey: Uint8Array): Uint8Array {
  try {
    if (fileKey.length !== fileKeyLength) throw malformed('a file key of another length');
    verifyMac(header, fileKey);
    return decryptPayload(file.subarray(header.length), fileKey);
  } finally {
    fileKey.fill(0);
  }
}

/** With the file's name, if its bytes are what is wrong; any other error as it is. */
export const damagedFile = (path: string, error: unknown): unknown =>
  error instanceof Failure && error.code === 'malformed'
    ? new Failure('malformed', `${path} is damaged: ${error.message}`, {
        hint: error.hint ?? 'restore it from a backup',
        cause: error,
      })
    : error;

function notOpened({ stanzas }: Header, attempts: readonly Attempt[]): Failure {
  const [only] = attempts;
  // A stanza that its own key does not open is damage, whatever the other keys are for.
  if (only && (attempts.length === 1 || attempts.every(({ failure }) => failure.code === 'malformed')))
    return only.failure;
  if (only) {
    const why = attempts.map(({ name, failure }) => `${name}: ${failure.message}`).join('; ');
    const hints = new Set(attempts.map(({ failure }) => failure.hint).filter((hint) => hint !== undefined));
    return new Failure('no-recipient', `none of this machine's keys opens the file: ${why}`, {
      hint: [...hints].join('; or ') || resealHint,
    });
  }
  // Types are whatever the file says: shown in part, so that a file can't fill the journal.
  const types = [...new Set(stanzas.map(({ args: [type = ''] }) => type.slice(0, 40)))].slice(0, 8).join(', ');
  return new Failure('no-recipient', `none of this machine's keys opens the file, which is for ${types}`, {
    hint: `the host key may have changed; ${resealHint}; if it did not, the file is damaged: restore it from a backup`,
  });
}
