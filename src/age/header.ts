/**
 * The header of an age file (C2SP age.md), parsed as strictly as the specification asks, so that a header that parses
 * encodes to the same bytes again.
 *
 *     age-encryption.org/v1
 *     -> TYPE ARGUMENT...
 *     BODY in base64 without padding, 64 columns a line, the last line shorter
 *     --- MAC
 */
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { Failure } from '../failure.ts';

/** One recipient's part of the header. */
export interface Stanza {
  /** The type, then its arguments. */
  readonly args: readonly string[];
  readonly body: Uint8Array;
}

/** A parsed header. */
export interface Header {
  readonly stanzas: readonly Stanza[];
  /** 32 bytes. */
  readonly mac: Uint8Array;
  /** The bytes that the MAC covers: up to and including `---`. */
  readonly authenticated: Uint8Array;
  /** Bytes in the whole header, from the start of the file to the payload. */
  readonly length: number;
}

const magic = 'age-encryption.org/v1';
const columns = 64;
/** Bytes. A header with hundreds of recipients takes a tenth of this. */
const longestHeader = 1024 * 1024;

/** The Failure `malformed` of an age file; `what` says what is wrong. */
export const malformed = (what: string): Failure =>
  new Failure('malformed', `not a valid age file: ${what}`, { hint: 'restore it from a backup' });

/** Parses the header at the start of `file`, of which it reads at most 1 MiB. @throws Failure `malformed` */
export function parseHeader(file: Uint8Array): Header {
  const lines = new HeaderLines(file.subarray(0, longestHeader));
  if (lines.next() !== magic) throw malformed('it does not begin with age-encryption.org/v1');
  const stanzas: Stanza[] = [];
  for (;;) {
    const start = lines.offset;
    const line = lines.next();
    if (line.startsWith('-> ')) {
      stanzas.push({ args: parseArguments(line.slice(3)), body: parseBody(lines) });
      continue;
    }
    if (!line.startsWith('--- ')) throw malformed("a stanza or the header's end is missing");
    if (stanzas.length === 0) throw malformed('it has no recipient');
    const mac = decodeBase64(line.slice(4));
    if (mac.length !== 32) throw malformed('its MAC is not 32 bytes');
    return { stanzas, mac, authenticated: file.subarray(0, start + 3), length: lines.offset };
  }
}

/** Writes a header: the exact bytes that {@link parseHeader} read. */
export function encodeHeader({ stanzas, mac }: Pick<Header, 'stanzas' | 'mac'>): Uint8Array {
  const lines = [magic];
  for (const { args, body } of stanzas) {
    const text = encodeBase64(body);
    lines.push(`-> ${args.join(' ')}`, ...(text.match(/.{1,64}/g) ?? []));
    if (text.length % columns === 0) lines.push('');
  }
  return Buffer.from(`${lines.join('\n')}\n--- ${encodeBase64(mac)}\n`, 'latin1');
}

/** Checks that the header was made with `fileKey` (16 bytes). @throws Failure `malformed` */
export function verifyMac({ authenticated, mac }: Header, fileKey: Uint8Array): void {
  const key = Buffer.from(hkdfSync('sha256', fileKey, new Uint8Array(0), 'header', 32));
  const expected = createHmac('sha256', key).update(authenticated).digest();
  key.fill(0);
  if (!timingSafeEqual(expected, mac)) throw malformed('its header was changed');
}

/** Decodes base64 (RFC 4648 section 4) without padding. @throws Failure `malformed` unless it is canonical */
export function decodeBase64(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'base64');
  if (encodeBase64(bytes) !== text) throw malformed('base64 that is not canonical');
  return new Uint8Array(bytes);
}

/** Base64 (RFC 4648 section 4) without padding. */
export const encodeBase64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64').replace(/=+$/, '');

function parseArguments(text: string): string[] {
  const args = text.split(' ');
  if (!args.every((argument) => /^[\x21-\x7e]+$/.test(argument)))
    throw malformed('a stanza with an argument that is empty or not printable');
  return args;
}

function parseBody(lines: HeaderLines): Uint8Array {
  let text = '';
  for (;;) {
    const line = lines.next();
    if (line.length > columns) throw malformed('a stanza line that is too long');
    text += line;
    if (line.length < columns) return decodeBase64(text);
  }
}

/** Reads the header's lines in order. */
class HeaderLines {
  readonly #bytes: Buffer;
  offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  next(): string {
    const end = this.#bytes.indexOf(0x0a, this.offset);
    if (end === -1)
      throw malformed(this.#bytes.length < longestHeader ? 'its header is cut off' : 'its header is longer than 1 MiB');
    const line = this.#bytes.toString('latin1', this.offset, end);
    this.offset = end + 1;
    return line;
  }
}
