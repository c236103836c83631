/** The scrypt stanza of age (C2SP age.md): `-> scrypt SALT LOGN`, a file key wrapped under a passphrase. */
import { scrypt } from 'node:crypto';
import { promisify } from 'node:util';
import { utf8 } from '../bytes.ts';
import type { Unwrapper } from './file.ts';
import { openFileKey } from './file-key.ts';
import { decodeBase64, malformed } from './header.ts';

const type = 'scrypt';
const label = 'age-encryption.org/v1/scrypt';
const saltLength = 16;
const blockSize = 8;
/** 2^20 blocks of 1 KiB take 1 GiB and some seconds. The age library has the same limit. */
const highestLogN = 20;

const derive = promisify<Uint8Array, Uint8Array, number, object, Buffer>(scrypt);

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
      const cost = 2 ** Number(logN);
      const secret = utf8(passphrase);
      const key = await derive(secret, Buffer.concat([Buffer.from(label), saltBytes]), 32, {
        cost,
        blockSize,
        parallelization: 1,
        maxmem: 2 * 128 * cost * blockSize,
      });
      secret.fill(0);
      try {
        return openFileKey(mine.body, key);
      } finally {
        key.fill(0);
      }
    },
  };
}
