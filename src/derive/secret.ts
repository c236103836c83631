/** Derives secrets: draws each from the stream of its realm and writes it in the format of its kind. */
import { concat, utf8 } from '../bytes.ts';
import { base64, hex } from './encoding.ts';
import { drawKey, encodePrivate, encodePublic } from './key-pair.ts';
import { type CharacterClass, classOf, isKeyKind, type KeyKind, type KindOptions } from './kind.ts';
import type { Realm } from './realm.ts';
import { KeyStream } from './stream.ts';
import { leafKey } from './tree.ts';
import { wordAt, wordCount } from './words.ts';

/** What identifies a derived secret within its scope. */
export interface Derivation {
  readonly name: string;
  /** Defaults filled in. */
  readonly options: KindOptions;
  readonly period: string;
  readonly generation: number;
}

/** Options that are not part of the realm: they change how a secret is written, not which secret it is. */
const presentation = ['kind', 'comment'];

/**
 * The realm of a derivation. All options that change the secret become part of it.
 * @throws RangeError for ambiguous options: see {@link checkOptions}
 */
export function realmOf({ name, options, period, generation }: Derivation): Realm {
  checkOptions(options);
  const params = Object.entries(options)
    .filter(([key]) => !presentation.includes(key))
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(
      ([key, value]: [string, unknown]) =>
        `${key}=${Array.isArray(value) ? [...value].sort().join(',') : String(value)}\n`,
    )
    .join('');
  return { type: options.kind, name, period, generation, params };
}

/**
 * Makes sure that each secret has one text of `params`, and each text one secret: texts are printable ASCII without a
 * newline, numbers are whole and over 0, an alphabet is sorted, and neither it nor `require` has duplicates.
 */
function checkOptions(options: KindOptions): void {
  for (const [key, value] of Object.entries(options)) {
    if (typeof value === 'string' && !/^[ -~]*$/.test(value)) throw new RangeError(`${key} is not printable ASCII`);
    if (typeof value === 'number' && !(Number.isSafeInteger(value) && value > 0))
      throw new RangeError(`${key} is not a whole number over 0: ${String(value)}`);
  }
  if (options.kind !== 'password') return;
  const { length, alphabet, require } = options;
  if (alphabet === '' || [...alphabet].some((character, i) => i > 0 && character <= alphabet.charAt(i - 1))) {
    throw new RangeError('an alphabet has each character once, in code-point order');
  }
  if (new Set(require).size !== require.length) throw new RangeError('a class is required twice');
  // Otherwise no draw would ever succeed.
  const classes = new Set([...utf8(alphabet)].map(classOf));
  if (require.length > length || !require.every((wanted) => classes.has(wanted))) {
    throw new RangeError('no password of that length and alphabet has every required class');
  }
}

/**
 * Derives the bytes that a unit reads, without a newline at the end except in PEM. The same scope seed (32 bytes) and
 * derivation give the same bytes on every machine and in every release. The caller wipes the result.
 * @throws RangeError for a seed of another length, a field over 65535 bytes, and options that {@link realmOf} refuses
 */
export function deriveSecret(scope: Uint8Array, derivation: Derivation): Uint8Array {
  const { options } = derivation;
  const realm = realmOf(derivation);
  if (isKeyOptions(options)) {
    return withKey(scope, realm, options.kind, (key) => {
      const check =
        options.kind === 'ssh-ed25519'
          ? drawn(scope, { ...realm, type: 'ssh-ed25519-check' }, (stream) => stream.bytes(4))
          : new Uint8Array(0);
      return encodePrivate(options.kind, key, check, commentOf(options));
    });
  }
  return drawn(scope, realm, (stream) => draw(stream, options));
}

/**
 * Derives the public half of a key pair, in the format that its programs read.
 * @returns undefined for a kind without a public half
 * @throws RangeError as {@link deriveSecret} does
 */
export function derivePublic(scope: Uint8Array, derivation: Derivation): Uint8Array | undefined {
  const { options } = derivation;
  if (!isKeyOptions(options)) return undefined;
  return withKey(scope, realmOf(derivation), options.kind, (key) =>
    encodePublic(options.kind, key, commentOf(options)),
  );
}

type KeyOptions = Extract<KindOptions, { kind: KeyKind }>;
const isKeyOptions = (options: KindOptions): options is KeyOptions => isKeyKind(options.kind);
const commentOf = (options: KeyOptions): string => (options.kind === 'ssh-ed25519' ? options.comment : '');

/** Runs `draw` on the stream of a realm, and wipes the stream. */
export function drawn<T>(scope: Uint8Array, realm: Realm, draw: (stream: KeyStream) => T): T {
  const stream = new KeyStream(leafKey(scope, realm));
  try {
    return draw(stream);
  } finally {
    stream.wipe();
  }
}

function withKey(scope: Uint8Array, realm: Realm, kind: KeyKind, encode: (key: Uint8Array) => Uint8Array): Uint8Array {
  const key = drawn(scope, realm, (stream) => drawKey(stream, kind));
  try {
    return encode(key);
  } finally {
    key.fill(0);
  }
}

function draw(stream: KeyStream, options: Exclude<KindOptions, KeyOptions>): Uint8Array {
  switch (options.kind) {
    case 'password':
      return password(stream, options.length, options.alphabet, options.require);
    case 'passphrase':
      return passphrase(stream, options.words, options.separator, options.capitalize);
    case 'bytes':
      return stream.bytes(options.bytes);
    case 'hex':
      return encoded(stream, options.bytes, hex);
    case 'base64':
      return encoded(stream, options.bytes, base64);
    case 'uuid':
      return encoded(stream, 16, uuid);
    case 'wireguard-psk':
      return encoded(stream, 32, base64);
  }
}

/** Draws whole passwords until one holds every required class. Keeping part of a failed one would bias the result. */
function password(
  stream: KeyStream,
  length: number,
  alphabet: string,
  required: readonly CharacterClass[],
): Uint8Array {
  const characters = utf8(alphabet);
  const drawnPassword = new Uint8Array(length);
  do {
    for (let i = 0; i < length; i++) drawnPassword[i] = characters[stream.below(characters.length)] ?? 0;
  } while (!required.every((wanted) => drawnPassword.some((code) => classOf(code) === wanted)));
  return drawnPassword;
}

function passphrase(stream: KeyStream, words: number, separator: string, capitalize: boolean): Uint8Array {
  const parts = Array.from({ length: words }, (_, i) => {
    const word = utf8(`${i === 0 ? '' : separator}${wordAt(stream.below(wordCount))}`);
    const first = i === 0 ? 0 : separator.length;
    if (capitalize) word[first] = (word[first] ?? 0) & ~0x20;
    return word;
  });
  const phrase = concat(...parts);
  for (const part of parts) part.fill(0);
  return phrase;
}

function encoded(stream: KeyStream, length: number, encode: (bytes: Uint8Array) => Uint8Array): Uint8Array {
  const bytes = stream.bytes(length);
  const text = encode(bytes);
  bytes.fill(0);
  return text;
}

/** A UUID of version 4 (RFC 9562 section 5.4): 122 drawn bits. */
function uuid(bytes: Uint8Array): Uint8Array {
  const fields = Uint8Array.from(bytes);
  fields[6] = ((fields[6] ?? 0) & 0x0f) | 0x40;
  fields[8] = ((fields[8] ?? 0) & 0x3f) | 0x80;
  const digits = hex(fields);
  fields.fill(0);
  const text = new Uint8Array(36).fill(0x2d);
  let at = 0;
  for (const [from, to] of [
    [0, 8],
    [8, 12],
    [12, 16],
    [16, 20],
    [20, 32],
  ] as const) {
    text.set(digits.subarray(from, to), at);
    at += to - from + 1;
  }
  digits.fill(0);
  return text;
}
