import { Failure } from '../failure.ts';
import { malformed, parseHeader, type Stanza, verifyMac } from './header.ts';
import { decryptPayload } from './stream.ts';

/** A way to a file key. */
export interface Unwrapper {
  /** What a person calls it: `ssh host key`, `tpm2`. */
  readonly name: string;
  /** The file key (16 bytes), or undefined where none of the stanzas is meant for it. @throws Failure where one is, and does not open */
  unwrap(stanzas: readonly Stanza[]): Promise<Uint8Array | undefined>;
}

const fileKeyLength = 16;

/**
 * Opens an age file (C2SP age.md) with the first unwrapper that has a stanza in it. Unknown stanzas are skipped.
 * The caller wipes the plaintext.
 * @throws Failure of the first unwrapper whose stanza did not open; `no-recipient` where none had one; `malformed`
 */
export async function openAgeFile(file: Uint8Array, unwrappers: readonly Unwrapper[]): Promise<{ plaintext: Uint8Array; openedBy: string }> {
  const header = parseHeader(file);
  if (header.stanzas.length > 1 && header.stanzas.some(({ args }) => args[0] === 'scrypt')) throw malformed('a passphrase stanza that is not alone');
  let failure: unknown;
  for (const { name, unwrap } of unwrappers) {
    try {
      const fileKey = await unwrap(header.stanzas);
      if (fileKey) return { plaintext: opened(file, header, fileKey), openedBy: name };
    } catch (error) {
      failure ??= error;
    }
  }
  if (failure !== undefined) throw failure instanceof Error ? failure : malformed(String(failure));
  const types = [...new Set(header.stanzas.map(({ args }) => args[0]))].join(', ');
  throw new Failure('no-recipient', `none of this machine's keys opens the file, which is for ${types}`, { hint: 'the host key may have changed; open it with a recovery identity and seal again' });
}

function opened(file: Uint8Array, header: ReturnType<typeof parseHeader>, fileKey: Uint8Array): Uint8Array {
  try {
    if (fileKey.length !== fileKeyLength) throw malformed('a file key of another length');
    verifyMac(header, fileKey);
    return decryptPayload(file.subarray(header.length), fileKey);
  } finally {
    fileKey.fill(0);
  }
}
