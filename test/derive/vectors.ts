/** The published vectors, and their notation for bytes. */
import { readFileSync } from 'node:fs';
import type { HashMethod } from '../../src/derive/hash-methods.ts';
import type { KindName, KindOptions } from '../../src/derive/kind.ts';
import type { Period, Rotation } from '../../src/derive/period.ts';
import type { Derived } from '../../src/derive/recipe.ts';
import type { Derivation } from '../../src/derive/secret.ts';
import type { ScopeKind } from '../../src/derive/tree.ts';

interface DerivationVectors {
  scopes: {
    parent: string;
    kind: ScopeKind;
    name: string;
    epoch: number;
    seed: string;
    keyId: string;
    stateKey: string;
    releaseKey: string;
  }[];
  secrets: (Derivation & { seed: string; realm: { params: string }; leaf: string; value: string })[];
  invalid: {
    what: string;
    scope: { parent: string; kind: ScopeKind; name?: string; nameLength?: number; epoch: number };
    error: string;
  }[];
}

/** A text that would take too much room in the vectors. */
export type Text = string | { repeat: string; times: number };

interface KindVectors {
  secrets: (Derivation & {
    scope: string;
    epoch: number;
    seed: string;
    params: string;
    realmDigest: string;
    leaf: string;
    text?: string;
    hex?: string;
    public?: string;
    thrownAway?: number;
  })[];
  defaults: {
    kind: KindName;
    seed: string;
    name: string;
    host: string;
    options: KindOptions;
    params: string;
    value: string;
  }[];
  invalid: {
    what: string;
    seed: string;
    name: Text;
    options: KindOptions | { kind: 'passphrase'; words: number; separator: Text; capitalize: boolean };
    period: Text;
    generation: number;
    error: string;
  }[];
}

interface HashVector {
  seed: string;
  name: string;
  method: HashMethod;
  rounds: number;
  of: Omit<Derived, 'form'>;
  sealed: string;
}

interface HashVectors {
  hashes: (HashVector & { phrase: string; params: string; salt: string; setting: string; hash: string })[];
  invalid: (HashVector & { what: string; failure: string })[];
  unhashable: { what: string; phrase: string; setting: string; failure: string }[];
}

interface PeriodVectors {
  periods: { rotation: Rotation; at: string; name: string; start: string; end: string; previous: string | null }[];
  notNames: string[];
  invalid: { what: string; rotation: Rotation; at: string; error: string }[];
}

interface WordVectors {
  lists: { list: 'eff' | 'bip39'; words: number; sha256: string }[];
  seeds: { seed: string; words: string }[];
  invalid: { what: string; words: string; says: string }[];
}

const read = (name: string): string => readFileSync(`test/vectors/${name}.json`, 'utf8');

export const derivationVectors: DerivationVectors = JSON.parse(read('derivation'));
export const kindVectors: KindVectors = JSON.parse(read('kinds'));
export const hashVectors: HashVectors = JSON.parse(read('crypt'));
export const periodVectors: PeriodVectors = JSON.parse(read('periods'));

export const wordVectors: WordVectors = JSON.parse(read('words'));

export const spelt = (text: Text): string => (typeof text === 'string' ? text : text.repeat.repeat(text.times));
export const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
export const hex = (value: Uint8Array): string => Buffer.from(value).toString('hex');
export const text = (value: Uint8Array): string => new TextDecoder('utf-8', { fatal: true }).decode(value);

/** A period with its instants as the vectors write them. */
export const written = ({
  rotation,
  name,
  start,
  end,
}: Period): { rotation: Rotation; name: string; start: string; end: string } => ({
  rotation,
  name,
  start: start.toISOString(),
  end: end.toISOString(),
});
