/** crypt(3) of libxcrypt, which all Linux distributions use for logins. */
import { Failure, messageOf } from '../failure.ts';
import { bind, LibraryMissing, type NativeFunction } from './ffi.ts';
import { waysOut } from './ways-out.ts';

/** Debian uses glibc's soname; NixOS, Fedora and Arch use libxcrypt's own. */
const sonames = ['libcrypt.so.1', 'libcrypt.so.2'];
/** sizeof(struct crypt_data), whose first member is the output (libxcrypt's crypt.h). */
const dataLength = 32768;
const outputLength = 384;

let crypt: NativeFunction | undefined;

function library(): NativeFunction {
  let missing: unknown;
  for (const soname of sonames) {
    try {
      return bind(soname, { crypt_rn: 'p:pppi' }).crypt_rn;
    } catch (error) {
      if (!(error instanceof LibraryMissing)) throw error;
      missing ??= error;
    }
  }
  throw new Failure('system', messageOf(missing), { hint: waysOut().install('libcrypt'), cause: missing });
}

/**
 * Hashes a phrase, as for the second field of shadow(5). The caller wipes both.
 * @param phrase - without NUL bytes
 * @param setting - method, cost and salt, such as `$6$saltsaltsaltsalt`
 * @throws Failure `system` if the library is missing or does not know the method
 */
export function cryptHash(phrase: Uint8Array, setting: string): Uint8Array {
  crypt ??= library();
  const terminated = new Uint8Array(phrase.length + 1);
  terminated.set(phrase);
  const data = new Uint8Array(dataLength);
  try {
    const result = crypt(terminated, Buffer.from(`${setting}\0`), data, dataLength);
    const hash = data.slice(0, Math.min(outputLength, data.indexOf(0)));
    // On failure it returns NULL, or text that begins with a star, which no hash does.
    if (result === 0n || result === 0 || hash[0] !== 0x24)
      throw new Failure('system', `this system's libcrypt can't hash with ${setting.split('$')[1] ?? ''}`, {
        hint: 'method = "sha512-crypt" works everywhere',
      });
    return hash;
  } finally {
    terminated.fill(0);
    data.fill(0);
  }
}
