/** The password hashes that can be computed (crypt(5)). */
export const hashMethods = ['yescrypt', 'sha512-crypt', 'bcrypt'] as const;

/** One password hash. */
export type HashMethod = (typeof hashMethods)[number];

/**
 * The most bytes of a phrase that each method hashes: bcrypt's own limit, else CRYPT_MAX_PASSPHRASE_SIZE (libxcrypt's
 * crypt.h) less 1.
 */
export const longestPhrase: Readonly<Record<HashMethod, number>> = { yescrypt: 511, 'sha512-crypt': 511, bcrypt: 72 };

/** The least, the default and the greatest cost of each method (crypt(5)). */
export const hashRounds: Readonly<
  Record<HashMethod, { readonly least: number; readonly usual: number; readonly most: number }>
> = {
  yescrypt: { least: 1, usual: 5, most: 11 },
  'sha512-crypt': { least: 1000, usual: 5000, most: 999_999_999 },
  bcrypt: { least: 4, usual: 10, most: 17 },
};
