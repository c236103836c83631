/** Secrets that are made of others: who names whom, and what can't be. */
import { isKeyKind, type KindOptions } from '../derive/kind.ts';
import type { Escape } from '../derive/recipe.ts';
import { nearest } from '../nearest.ts';
import type { Content, Part, Reference, SecretDeclaration } from './declaration.ts';
import { largestSecret } from './options.ts';

/** A secret that another one names, and what of it. */
export interface Dependency {
  readonly name: string;
  readonly part: Part;
}

/** What `{{...}}` names: a secret of that very name, else the part of one that its last word names; undefined for neither. */
export function dependencyOf(reference: string, isName: (name: string) => boolean): Dependency | undefined {
  if (isName(reference)) return { name: reference, part: 'secret' };
  const [, name = '', suffix] = /^(.+)\.(public|previous)$/.exec(reference) ?? [];
  return suffix !== undefined && isName(name) ? { name, part: suffix === 'public' ? 'public' : 'previous' } : undefined;
}

const referencesOf = (content: Content): readonly Reference[] => {
  if (content.form === 'template') return content.pieces.filter((piece) => typeof piece !== 'string');
  return content.form === 'crypt' && content.of !== '' ? [{ reference: content.of, escapes: [] }] : [];
};

/** The secrets that a content names and that there are. */
export const dependenciesOf = (content: Content, isName: (name: string) => boolean): Dependency[] =>
  referencesOf(content).flatMap(({ reference }) => dependencyOf(reference, isName) ?? []);

type Note = (declaration: SecretDeclaration, message: string, hint: string | undefined) => void;

/** Notes names that nobody declares, circles, and parts or escapes that a secret does not have. */
export function checkDependencies(declarations: readonly SecretDeclaration[], note: Note): void {
  const byName = new Map(declarations.map((declaration) => [declaration.name, declaration]));
  const isName = (name: string): boolean => byName.has(name);
  const circular = new Set<string>();
  for (const declaration of declarations) {
    for (const { reference, escapes } of referencesOf(declaration.content)) {
      const dependency = dependencyOf(reference, isName);
      const other = dependency && byName.get(dependency.name);
      if (dependency === undefined || other === undefined) note(declaration, `${declaration.name} -> ${reference}: no secret is declared by this name`, nearest(reference, [...byName.keys()]) ?? 'declare it; without units it goes to nobody by itself');
      else for (const { message, hint } of unusable(declaration.content, other, dependency.part, escapes)) note(declaration, `${declaration.name} -> ${reference}: ${message}`, hint);
    }
    const chain = circleFrom(declaration, byName);
    if (chain && !chain.some((name) => circular.has(name))) note(declaration, `it is made of itself: ${chain.join(' -> ')}`, 'one of them has to do without the next');
    for (const name of chain ?? []) circular.add(name);
  }
  const sizes = new Map<string, number>();
  for (const declaration of declarations) {
    if (declaration.content.form !== 'template' || circular.has(declaration.name)) continue;
    const size = mostBytes(declaration, byName, sizes, circular);
    if (size > largestSecret) note(declaration, `it may have ${String(size)} bytes, and ${String(largestSecret)} are the most that can be delivered`, 'split it');
  }
}

function unusable(content: Content, other: SecretDeclaration, part: Part, escapes: readonly Escape[]): { message: string; hint: string | undefined }[] {
  const { content: made } = other;
  if (content.form === 'crypt' && made.form !== 'fixed' && (made.form !== 'derived' || made.options.kind === 'bytes' || isKeyKind(made.options.kind) || part !== 'secret')) {
    return [{ message: 'only a password or another secret of one line can be hashed', hint: undefined }];
  }
  if (content.form === 'crypt' && content.method === 'bcrypt' && made.form === 'derived' && mostOf(made.options) > 72) return [{ message: 'bcrypt reads no more than 72 bytes', hint: 'method = "yescrypt", or a shorter secret' }];
  if (part === 'public' && (made.form !== 'derived' || !isKeyKind(made.options.kind))) return [{ message: 'it has no public half', hint: undefined }];
  if (part === 'previous' && (made.form !== 'derived' || !made.previous)) return [{ message: 'it has no previous value', hint: `previous = true for ${other.name}` }];
  const [first] = escapes;
  if (made.form === 'derived' && made.options.kind === 'bytes' && (first === 'json' || first === 'env')) return [{ message: 'bytes are no text', hint: `{{${other.name} | base64}}` }];
  return [];
}

/** The way from a declaration back to itself; undefined where there is none. */
function circleFrom(start: SecretDeclaration, byName: ReadonlyMap<string, SecretDeclaration>): string[] | undefined {
  if (start.content.form !== 'template') return undefined;
  const seen = new Set<string>();
  const walk = (name: string, way: readonly string[]): string[] | undefined => {
    if (name === start.name && way.length > 0) return [...way, name];
    const declaration = byName.get(name);
    if (seen.has(name) || declaration === undefined) return undefined;
    seen.add(name);
    for (const { name: next } of dependenciesOf(declaration.content, (other) => byName.has(other))) {
      const found = walk(next, [...way, name]);
      if (found) return found;
    }
    return undefined;
  };
  return walk(start.name, []);
}

/** How many bytes a byte becomes at most. */
const growth: Readonly<Record<Escape, number>> = { base64: 4 / 3, url: 3, json: 6, env: 2 };

function mostBytes({ name, content }: SecretDeclaration, byName: ReadonlyMap<string, SecretDeclaration>, sizes: Map<string, number>, circular: ReadonlySet<string>): number {
  if (content.form === 'derived') return mostOf(content.options);
  if (content.form === 'crypt') return 128;
  // A fixed secret's size is known once it is put in force, and looked at there.
  if (content.form === 'fixed') return 0;
  const known = sizes.get(name);
  if (known !== undefined) return known;
  const size = content.pieces.reduce((sum, piece) => {
    if (typeof piece === 'string') return sum + Buffer.byteLength(piece);
    const dependency = dependencyOf(piece.reference, (other) => byName.has(other));
    const other = dependency && byName.get(dependency.name);
    if (!other || circular.has(other.name)) return sum;
    return sum + Math.ceil(piece.escapes.reduce((bytes, escape) => bytes * growth[escape] + 3, mostBytes(other, byName, sizes, circular)));
  }, 0);
  sizes.set(name, size);
  return size;
}

/** The most bytes that a derived secret or its public half has. */
function mostOf(options: KindOptions): number {
  switch (options.kind) {
    case 'password':
      return options.length;
    case 'passphrase':
      // The list's longest word has nine letters.
      return options.words * (9 + options.separator.length);
    case 'hex':
      return 2 * options.bytes;
    case 'base64':
      return 4 * Math.ceil(options.bytes / 3);
    case 'bytes':
      return options.bytes;
    case 'uuid':
      return 36;
    case 'wireguard-psk':
      return 44;
    default:
      // PEM of the largest, which is OpenSSH's with a comment of 200 bytes twice encoded.
      return 1024;
  }
}
