/** Reads OpenSSH's file of a private ed25519 key (openssh PROTOCOL.key) without a passphrase. */
import { Failure } from '../failure.ts';
import { ed25519PublicKey, keyLength } from './curve25519.ts';

/** Both halves of an ssh-ed25519 key. */
export interface SshKeyPair {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** The Ed25519 seed, 32 bytes (RFC 8032). The caller wipes it. */
  readonly seed: Uint8Array;
}

const keyType = 'ssh-ed25519';
/** The types of other keys, safe to show. */
const anyType = /^(ssh-|ecdsa-|sk-)[\w@.-]{1,60}$/;
const begin = Buffer.from('-----BEGIN OPENSSH PRIVATE KEY-----\n');
const end = Buffer.from('-----END OPENSSH PRIVATE KEY-----');
const magic = Buffer.from('openssh-key-v1\0');
/** Without a cipher, the private part is padded with 1, 2, 3... to a multiple of this. */
const blockLength = 8;

/**
 * Parses an OpenSSH private key file and checks its two halves against each other. The caller wipes `file` and the
 * seed.
 * @throws Failure `no-recipient` for anything else, with the reason
 */
export function parseOpensshKey(file: Uint8Array): SshKeyPair {
  const text = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  const to = text.indexOf(end);
  if (!begin.equals(text.subarray(0, begin.length)) || to === -1) throw unusable('it is not an OpenSSH private key');
  const bytes = decodeLines(text.subarray(begin.length, to));
  try {
    if (!magic.equals(bytes.subarray(0, magic.length))) throw unusable('it is not an OpenSSH private key');
    const outer = new Fields(bytes.subarray(magic.length));
    const cipher = outer.text();
    outer.skip(2);
    if (outer.number() !== 1) throw unusable('it does not hold exactly one key');
    const publicKey = parseWireKey(outer.field());
    if (cipher !== 'none')
      throw unusable(
        'it has a passphrase',
        'nobody can type it during boot: remove it with ssh-keygen -p, or seal with another key',
      );
    const pair = parsePrivate(outer.field());
    if (outer.atEnd() && publicKey.equals(pair.publicKey)) return pair;
    pair.seed.fill(0);
    throw damaged();
  } finally {
    bytes.fill(0);
  }
}

/** Puts nothing that it reads into a message: if a length is damaged, any field may hold the seed. */
function parsePrivate(section: Buffer): SshKeyPair {
  const inner = new Fields(section);
  const [check, again] = [inner.number(), inner.number()];
  if (check !== again || inner.text() !== keyType) throw damaged();
  const publicKey = Uint8Array.from(inner.field());
  const both = inner.field();
  inner.skip(1);
  const padding = inner.rest();
  const seed = Uint8Array.from(both.subarray(0, keyLength));
  const whole =
    both.length === 2 * keyLength &&
    both.subarray(keyLength).equals(publicKey) &&
    section.length % blockLength === 0 &&
    padding.length < blockLength &&
    padding.every((byte, i) => byte === i + 1);
  if (whole && Buffer.from(ed25519PublicKey(seed)).equals(publicKey)) return { seed, publicKey };
  seed.fill(0);
  throw damaged();
}

/** Parses a public key (RFC 8709 section 4). It holds no secret, so messages may name its type. */
function parseWireKey(bytes: Buffer): Buffer {
  const fields = new Fields(bytes);
  const type = fields.text();
  if (type !== keyType) throw anyType.test(type) ? unusable(`it is of type ${type}`) : damaged();
  const publicKey = fields.field();
  if (publicKey.length !== keyLength || !fields.atEnd()) throw damaged();
  return publicKey;
}

/** Decodes base64 in lines from bytes to bytes, because a string can't be wiped. */
function decodeLines(lines: Uint8Array): Buffer {
  const bytes = Buffer.alloc(Math.floor((lines.length * 3) / 4));
  let length = 0;
  let buffer = 0;
  let bits = 0;
  let padding = 0;
  for (const character of lines) {
    if (character === 0x0a || character === 0x0d) continue;
    const value = sixBits(character);
    if (character === 0x3d) padding++;
    else if (value === undefined || padding > 0) {
      bytes.fill(0);
      throw damaged();
    } else {
      buffer = ((buffer << 6) | value) & 0x3fff;
      bits += 6;
      if (bits < 8) continue;
      bits -= 8;
      bytes[length++] = buffer >> bits;
    }
  }
  if (bits / 2 === padding && (buffer & ((1 << bits) - 1)) === 0) return bytes.subarray(0, length);
  bytes.fill(0);
  throw damaged();
}

function sixBits(character: number): number | undefined {
  if (character >= 0x41 && character <= 0x5a) return character - 0x41;
  if (character >= 0x61 && character <= 0x7a) return character - 0x61 + 26;
  if (character >= 0x30 && character <= 0x39) return character - 0x30 + 52;
  if (character === 0x2b) return 62;
  return character === 0x2f ? 63 : undefined;
}

const unusable = (
  why: string,
  hint = 'auxcred needs the unencrypted ssh-ed25519 host key that ssh-keygen -A makes',
): Failure => new Failure('no-recipient', `the ssh host key is not usable: ${why}`, { hint });

const damaged = (): Failure =>
  unusable('it is damaged', 'restore it from a backup, or make a new one with ssh-keygen -A and seal again');

/** Reads the strings and numbers of RFC 4251 section 5. */
class Fields {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  number(): number {
    if (this.#offset + 4 > this.#bytes.length) throw damaged();
    this.#offset += 4;
    return this.#bytes.readUInt32BE(this.#offset - 4);
  }

  field(): Buffer {
    const length = this.number();
    if (this.#offset + length > this.#bytes.length) throw damaged();
    this.#offset += length;
    return this.#bytes.subarray(this.#offset - length, this.#offset);
  }

  text(): string {
    return this.field().toString('latin1');
  }

  skip(count: number): void {
    for (let i = 0; i < count; i++) this.field();
  }

  rest(): Buffer {
    return this.#bytes.subarray(this.#offset);
  }

  atEnd(): boolean {
    return this.#offset === this.#bytes.length;
  }
}
