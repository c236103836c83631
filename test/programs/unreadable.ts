/** Manifests that can't be read, each with a unit's name in it. */
export const encodings: Record<string, Buffer> = {
  'UTF-16': Buffer.from('\ufeff[secret.n]\nunits = ["new.service"]\n', 'utf16le'),
  'UTF-16, big-endian': Buffer.from('\ufeff[secret.n]\nunits = ["new.service"]\n', 'utf16le').swap16(),
  'ISO 8859-1': Buffer.from('# \xe9\n[secret.n]\nunits = ["new.service"]\n', 'latin1'),
  'an escape': Buffer.from('[secret.n]\nunits = ["ne\\u0077\\u002eservice"]\nkind = \n'),
  'a long escape': Buffer.from('[secret.n]\nunits = ["new\\U0000002Eservice"]\nkind = \n'),
  'NUL bytes in the name': Buffer.from('[secret.n]\nunits = ["new\0.service"]\n'),
  'NUL bytes for the rest': Buffer.from('[secret.n]\nunits = ["new.ser\0\0\0\0\0\0\0'),
  'the name cut off': Buffer.from('[secret.n]\nunits = ["new.ser'),
  'the name cut off early': Buffer.from('[secret.n]\nunits = ["ne'),
  'an escape cut off': Buffer.from('[secret.n]\nunits = ["new\\u00'),
};
