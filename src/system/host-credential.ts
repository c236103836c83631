/**
 * Encrypted credentials in systemd's own format, under the host secret: what `systemd-creds --with-key=host encrypt`
 * writes, made here without a process (systemd src/shared/creds-util.c, the same from 250 to 262).
 */
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';

/** CRED_AES256_GCM_BY_HOST in systemd's src/shared/creds-util.h. */
const encryptedByHost = Buffer.from('5a1c6a86df9d4096b1d5a65e0862f19a', 'hex');
const keyLength = 32;
/** What EVP_CIPHER_block_size() says of AES-GCM, which is a stream cipher. */
const blockLength = 1;
const ivLength = 12;
const tagLength = 16;
/** The type and four sizes, before the IV. */
const fixedHeaderLength = 32;
/** Two timestamps and the length of the name, before the name. */
const fixedMetadataLength = 20;
/** struct credential_host_secret_format: the hash of the machine id, which is not part of the key, and then the key. */
const machineHashLength = 16;
const hostSecretLength = 4096;

/** Where systemd keeps the secret behind `--with-key=host`; `systemd-creds setup` makes it. */
export const hostSecretFile = '/var/lib/systemd/credential.secret';

const aligned = (length: number): number => Math.ceil(length / 8) * 8;

/** Milliseconds since 1970 between which a credential opens, and the IV; all of it is chosen here but in tests. */
export interface Seal {
  readonly from: number;
  readonly until: number;
  /** 12 bytes, never twice under one key. */
  readonly iv: Uint8Array;
}

/** The key under which credentials travel from the broker to systemd. */
export class HostSecret {
  readonly #key: Uint8Array;

  /**
   * @param file - the bytes of {@link hostSecretFile}; not kept
   * @throws Failure `not-found` for anything else, such as what stands in for a file that is missing
   */
  constructor(file: Uint8Array) {
    if (file.length !== machineHashLength + hostSecretLength)
      throw new Failure('not-found', `systemd's host secret is missing: ${hostSecretFile}`, {
        hint: 'systemctl restart auxcred-host-secret.service; journalctl -u auxcred-host-secret.service says why',
      });
    // sha256_hash_host_and_tpm2_key() without the part of a TPM.
    this.#key = createHash('sha256').update(file.subarray(machineHashLength)).digest();
  }

  /**
   * Encrypts `value` so that systemd takes it for the credential `name`, and for no other.
   * @param validity - milliseconds for which it opens
   * @param name - the credential's id, in ASCII
   * @returns base64 in ASCII
   */
  encrypt(name: string, value: Uint8Array, validity: number): Buffer {
    const from = Date.now();
    return this.encryptWith(name, value, { from, until: from + validity, iv: randomBytes(ivLength) });
  }

  /** With everything given that {@link encrypt} chooses. */
  encryptWith(name: string, value: Uint8Array, { from, until, iv }: Seal): Buffer {
    const header = Buffer.alloc(aligned(fixedHeaderLength + ivLength));
    encryptedByHost.copy(header);
    for (const [i, size] of [keyLength, blockLength, ivLength, tagLength].entries())
      header.writeUInt32LE(size, encryptedByHost.length + 4 * i);
    header.set(iv, fixedHeaderLength);
    const id = utf8(name);
    const metadata = Buffer.alloc(aligned(fixedMetadataLength + id.length));
    metadata.writeBigUInt64LE(microseconds(from), 0);
    metadata.writeBigUInt64LE(microseconds(until), 8);
    metadata.writeUInt32LE(id.length, 16);
    metadata.set(id, fixedMetadataLength);
    const cipher = createCipheriv('aes-256-gcm', this.#key, iv, { authTagLength: tagLength });
    cipher.setAAD(header);
    const whole = Buffer.concat([
      header,
      cipher.update(metadata),
      cipher.update(value),
      cipher.final(),
      cipher.getAuthTag(),
    ]);
    return Buffer.from(whole.toString('base64'), 'latin1');
  }

  wipe(): void {
    this.#key.fill(0);
  }
}

const microseconds = (milliseconds: number): bigint => BigInt(milliseconds) * 1000n;
