/** The scrypt stanza of age (C2SP age.md): `-> scrypt SALT LOGN`, a file key wrapped under a passphrase. */
import { randomBytes, scrypt } from 'node:crypto';
import { promisify } from 'node:util';
import { utf8 } from '../bytes.ts';
import type { Unwrapper } from './file.ts';
import { openFileKey, sealFileKey } from './file-key.ts';
import { decodeBase64, encodeBase64, malformed, type Stanza } from './header.ts';

const type = 'scrypt';
const label = 'age-encryption.org/v1/scrypt';
const saltLength = 16;
const blockSize = 8;
/** 2^20 blocks of 1 KiB take 1 GiB and some seconds. The age library has the same limit. */
const highestLogN = 20;

/** As age and the age library write it: 256 MiB, and about a second. */
const usualLogN = 18;

const derive = promisify<Uint8Array, Uint8Array, number, object, Buffer>(scrypt);

/** The wrap key (32 bytes) of a passphrase; the caller wipes it. By OpenSSL: JavaScript takes ten times as long. */
async function wrapKey(passphrase: string, salt: Uint8Array, logN: number): Promise<Uint8Array> {
  const cost = 2 ** logN;
  const secret = utf8(passphrase);
  try {
    return await derive(secret, Buffer.concat([Buffer.from(label), salt]), 32, {
      cost,
      blockSize,
      parallelization: 1,
      // What OpenSSL counts: the blocks and three more.
      maxmem: 128 * blockSize * (cost + 3),
    });
  } finally {
    secret.fill(0);
  }
}

/** Wraps a file key (16 bytes) under a passphrase, with a work factor of 2^18. A file has no other stanza beside it. */
export async function scryptStanza(passphrase: string, fileKey: Uint8Array): Promise<Stanza> {
  const salt = randomBytes(saltLength);
  const key = await wrapKey(passphrase, salt, usualLogN);
  try {
    return { args: [type, encodeBase64(salt), String(usualLogN)], body: sealFileKey(fileKey, key) };
  } finally {
    key.fill(0);
  }
}

/**
 * Opens with a passphrase. Unwrapping returns undefined if the passphrase is wrong.
 * Unwrapping throws Failure `malformed` for a damaged stanza, or one that asks for more than 1 GiB of memory.
 */
export function scryptUnwrapper(passphrase: string): Unwrapper {
  return {
    name: 'passphrase',
    unwrap: async (stanzas) => {
      const mine = stanzas.find(({ args }) => args[0] === type);
      if (!mine) return undefined;
      const [, salt = '', logN = ''] = mine.args;
      const saltBytes = decodeBase64(salt);
      if (mine.args.length !== 3 || saltBytes.length !== saltLength || !/^[1-9][0-9]?$/.test(logN))
        throw malformed('a scrypt stanza without a salt or a work factor');
      if (Number(logN) > highestLogN) throw malformed('a scrypt stanza with a work factor that is too high');
      const key = await wrapKey(passphrase, saltBytes, Number(logN));
      try {
        const fileKey = openFileKey(mine.body, key);
        return fileKey && { fileKey };
      } finally {
        key.fill(0);
      }
    },
  };
}
