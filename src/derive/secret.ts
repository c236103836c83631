import { utf8 } from './framing.ts';
import { type CharacterClass, classOf, type KindOptions } from './kind.ts';
import type { Realm } from './realm.ts';
import { KeyStream } from './stream.ts';
import { leafKey } from './tree.ts';

/** What the manifest says about one derived secret, defaults filled in. */
export interface Recipe {
  readonly name: string;
  readonly options: KindOptions;
  readonly period: string;
  readonly generation: number;
}

const hexDigits = '0123456789abcdef';
const base64Digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

/** The realm that a recipe names: its options, all of them, become part of the derivation. */
export function realmOf({ name, options, period, generation }: Recipe): Realm {
  const params = Object.entries(options)
    .filter(([key]) => key !== 'kind')
    .map(([key, value]: [string, unknown]) => `${key}=${Array.isArray(value) ? [...value].sort().join(',') : String(value)}\n`)
    .sort()
    .join('');
  return { type: options.kind, name, period, generation, params };
}

/**
 * The secret's bytes, as a unit reads them: no newline at the end. The same scope seed (32 bytes) and recipe give the same
 * bytes on every machine and in every release. The caller wipes the result.
 */
export function deriveSecret(scope: Uint8Array, recipe: Recipe): Uint8Array {
  const stream = new KeyStream(leafKey(scope, realmOf(recipe)));
  try {
    return drawn(stream, recipe.options);
  } finally {
    stream.wipe();
  }
}

function drawn(stream: KeyStream, options: KindOptions): Uint8Array {
  switch (options.kind) {
    case 'password':
      return password(stream, options.length, options.alphabet, options.require);
    case 'bytes':
      return stream.bytes(options.bytes);
    case 'hex':
      return encoded(stream, options.bytes, hex);
    case 'base64':
      return encoded(stream, options.bytes, base64);
    case 'uuid':
      return encoded(stream, 16, uuid);
  }
}

/** Draws whole passwords until one holds every required class: keeping parts of a failed one would skew the rest. */
function password(stream: KeyStream, length: number, alphabet: string, required: readonly CharacterClass[]): Uint8Array {
  const characters = utf8(alphabet);
  const drawnPassword = new Uint8Array(length);
  do {
    for (let i = 0; i < length; i++) drawnPassword[i] = characters[stream.below(characters.length)] ?? 0;
  } while (!required.every((wanted) => drawnPassword.some((code) => classOf(code) === wanted)));
  return drawnPassword;
}

function encoded(stream: KeyStream, length: number, encode: (bytes: Uint8Array) => Uint8Array): Uint8Array {
  const bytes = stream.bytes(length);
  const text = encode(bytes);
  bytes.fill(0);
  return text;
}

const code = (digits: string, index: number): number => digits.charCodeAt(index);

// The encoders write bytes, never strings: a string can't be wiped.

function hex(bytes: Uint8Array): Uint8Array {
  const text = new Uint8Array(bytes.length * 2);
  bytes.forEach((byte, i) => {
    text[2 * i] = code(hexDigits, byte >> 4);
    text[2 * i + 1] = code(hexDigits, byte & 15);
  });
  return text;
}

/** RFC 4648 section 4, with padding. */
function base64(bytes: Uint8Array): Uint8Array {
  const text = new Uint8Array(Math.ceil(bytes.length / 3) * 4).fill(0x3d);
  for (let i = 0, out = 0; i < bytes.length; i += 3, out += 4) {
    const [a = 0, b, c] = bytes.subarray(i, i + 3);
    text[out] = code(base64Digits, a >> 2);
    text[out + 1] = code(base64Digits, ((a & 3) << 4) | ((b ?? 0) >> 4));
    if (b !== undefined) text[out + 2] = code(base64Digits, ((b & 15) << 2) | ((c ?? 0) >> 6));
    if (c !== undefined) text[out + 3] = code(base64Digits, c & 63);
  }
  return text;
}

/** RFC 9562 version 4: 122 drawn bits. */
function uuid(bytes: Uint8Array): Uint8Array {
  const fields = Uint8Array.from(bytes);
  fields[6] = ((fields[6] ?? 0) & 0x0f) | 0x40;
  fields[8] = ((fields[8] ?? 0) & 0x3f) | 0x80;
  const digits = hex(fields);
  fields.fill(0);
  const text = new Uint8Array(36).fill(0x2d);
  let at = 0;
  for (const [from, to] of [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]] as const) {
    text.set(digits.subarray(from, to), at);
    at += to - from + 1;
  }
  digits.fill(0);
  return text;
}
