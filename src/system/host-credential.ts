/**
 * Encrypts credentials in systemd's own format under the host secret, as `systemd-creds --with-key=host encrypt` does,
 * but without a process (systemd src/shared/creds-util.c, unchanged from 250 to 262).
 */
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';

/** CRED_AES256_GCM_BY_HOST in systemd's src/shared/creds-util.h. */
const encryptedByHost = Buffer.from('5a1c6a86df9d4096b1d5a65e0862f19a', 'hex');
const keyLength = 32;
/** EVP_CIPHER_block_size() of AES-GCM, which is a stream cipher. */
const blockLength = 1;
const ivLength = 12;
const tagLength = 16;
/** Bytes of the type and four sizes, before the IV. */
const fixedHeaderLength = 32;
/** Bytes of two timestamps and the length of the name, before the name. */
const fixedMetadataLength = 20;
/**
 * Bytes in struct credential_host_secret_format of the hash of the machine id, which is not part of the key and comes
 * before it.
 */
const machineHashLength = 16;
const hostSecretLength = 4096;

/** systemd's file for the key of `--with-key=host`; `systemd-creds setup` makes it. */
export const hostSecretFile = '/var/lib/systemd/credential.secret';

/**
 * Watches the host secret's file, which needs no right to read it.
 * @returns whether the file is gone or another one since this was called
 */
export function hostSecretChange(path = hostSecretFile): () => boolean {
  const identity = (): string => {
    const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stats === undefined ? '' : [stats.dev, stats.ino, stats.size, stats.mtimeNs].join(' ');
  };
  const before = identity();
  return () => identity() !== before;
}

/**
 * Whether the file of a credential (base64) is encrypted under the host secret alone, whatever else was asked for: with
 * `--with-key=auto`, systemd-creds does without a TPM that it does not find, and then binds no PCR.
 */
export const isUnderHostSecret = (credential: Uint8Array): boolean =>
  Buffer.from(Buffer.from(credential).toString('latin1'), 'base64')
    .subarray(0, encryptedByHost.length)
    .equals(encryptedByHost);

const aligned = (length: number): number => Math.ceil(length / 8) * 8;

/** The time in which a credential opens, in milliseconds since 1970, and the IV. Only tests choose them. */
export interface Seal {
  readonly from: number;
  readonly until: number;
  /** 12 bytes, never used twice with one key. */
  readonly iv: Uint8Array;
}

/** The host secret, the key that encrypts credentials between broker and systemd. */
export class HostSecret {
  readonly #key: Uint8Array;

  /**
   * @param file - the bytes of {@link hostSecretFile}. The caller wipes them
   * @throws Failure `not-found` for anything else, such as the placeholder of a missing file
   */
  constructor(file: Uint8Array) {
    if (file.length !== machineHashLength + hostSecretLength)
      throw new Failure('not-found', `systemd's host secret is missing: ${hostSecretFile}`, {
        hint: 'systemctl restart auxcred-host-secret.service; journalctl -u auxcred-host-secret.service says why',
      });
    // sha256_hash_host_and_tpm2_key() without a TPM.
    this.#key = createHash('sha256').update(file.subarray(machineHashLength)).digest();
  }

  /**
   * Encrypts `value` so that systemd accepts it as the credential `name` only.
   * @param validity - milliseconds for which systemd accepts it
   * @param name - the credential's id, in ASCII
   * @returns base64 in ASCII
   */
  encrypt(name: string, value: Uint8Array, validity: number): Buffer {
    const from = Date.now();
    return this.encryptWith(name, value, { from, until: from + validity, iv: randomBytes(ivLength) });
  }

  /** As {@link encrypt}, with given times and IV. */
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

  /** Overwrites the key. Nothing can be encrypted afterwards. */
  wipe(): void {
    this.#key.fill(0);
  }
}

const microseconds = (milliseconds: number): bigint => BigInt(milliseconds) * 1000n;
