/** An OpenSSH private key file (openssh PROTOCOL.key) with one ed25519 key and no passphrase. */
import { Failure } from '../failure.ts';

export interface SshKeyPair {
  /** The Ed25519 seed, 32 bytes (RFC 8032). */
  readonly seed: Uint8Array;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
}

const begin = '-----BEGIN OPENSSH PRIVATE KEY-----';
const end = '-----END OPENSSH PRIVATE KEY-----';
const magic = Buffer.from('openssh-key-v1\0');

/** @throws Failure `no-recipient` for anything else, with the reason */
export function parseOpensshKey(file: Uint8Array): SshKeyPair {
  const text = Buffer.from(file).toString('latin1');
  const from = text.indexOf(begin);
  const to = text.indexOf(end);
  if (from === -1 || to < from) throw unusable('it is not an OpenSSH private key');
  const bytes = Buffer.from(text.slice(from + begin.length, to).replaceAll(/\s/g, ''), 'base64');
  try {
    if (!bytes.subarray(0, magic.length).equals(magic)) throw unusable('it is not an OpenSSH private key');
    const outer = new Fields(bytes.subarray(magic.length));
    if (outer.text() !== 'none') throw unusable('it has a passphrase');
    outer.skip(2);
    if (outer.number() !== 1) throw unusable('it does not hold exactly one key');
    outer.skip(1);
    const inner = new Fields(outer.field());
    if (inner.number() !== inner.number()) throw unusable('it is damaged');
    const type = inner.text();
    if (type !== 'ssh-ed25519') throw unusable(`it is of type ${type}`);
    const publicKey = Uint8Array.from(inner.field());
    const both = inner.field();
    if (publicKey.length !== 32 || both.length !== 64) throw unusable('it is damaged');
    return { seed: Uint8Array.from(both.subarray(0, 32)), publicKey };
  } finally {
    bytes.fill(0);
  }
}

const unusable = (why: string): Failure =>
  new Failure('no-recipient', `the ssh host key is not usable: ${why}`, { hint: 'auxcred needs the unencrypted ssh-ed25519 host key that ssh-keygen -A makes' });

/** The strings and numbers of RFC 4251 section 5. */
class Fields {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  number(): number {
    if (this.#offset + 4 > this.#bytes.length) throw unusable('it is cut off');
    this.#offset += 4;
    return this.#bytes.readUInt32BE(this.#offset - 4);
  }

  field(): Buffer {
    const length = this.number();
    if (this.#offset + length > this.#bytes.length) throw unusable('it is cut off');
    this.#offset += length;
    return this.#bytes.subarray(this.#offset - length, this.#offset);
  }

  text(): string {
    return this.field().toString('latin1');
  }

  skip(count: number): void {
    for (let i = 0; i < count; i++) this.field();
  }
}
