/** Checks secrets that are made of other secrets: names, circles, sizes and escapes. */

import type { Escape } from '../derive/escape.ts';
import { longestPhrase } from '../derive/hash-methods.ts';
import { isKeyKind, type KindOptions } from '../derive/kind.ts';
import { nearest } from '../nearest.ts';
import type { Content, Part, Reference, SecretDeclaration } from './declaration.ts';
import { largestSecret } from './options.ts';

/** A secret that another one names, and the part that is meant. */
export interface Dependency {
  readonly name: string;
  readonly part: Part;
}

/**
 * Resolves `{{...}}`: to the secret of that exact name, else to a part of one (`NAME.public`); undefined if there is
 * neither.
 */
export function dependencyOf(reference: string, isName: (name: string) => boolean): Dependency | undefined {
  if (isName(reference)) return { name: reference, part: 'secret' };
  const [, name = '', suffix] = /^(.+)\.(public|previous)$/.exec(reference) ?? [];
  return suffix !== undefined && isName(name) ? { name, part: suffix === 'public' ? 'public' : 'previous' } : undefined;
}

const referencesOf = (content: Content): readonly Reference[] => {
  if (content.form === 'template') return content.pieces.filter((piece) => typeof piece !== 'string');
  return content.form === 'crypt' && content.of !== '' ? [{ reference: content.of, escapes: [] }] : [];
};

/** The declared secrets that a content names. */
export const dependenciesOf = (content: Content, isName: (name: string) => boolean): Dependency[] =>
  referencesOf(content).flatMap(({ reference }) => dependencyOf(reference, isName) ?? []);

type Note = (declaration: SecretDeclaration, message: string, hint: string | undefined) => void;

/** How deep templates may be nested: each level is a stack frame in the code that reads a recipe. */
const deepest = 32;

/** How many secrets a template may hold, nested templates included, since its recipe names each occurrence. */
const mostPlaces = 10_000;

/** Reports undeclared names, circles, templates that grow too large, and parts or escapes that do not fit a secret. */
export function checkDependencies(declarations: readonly SecretDeclaration[], note: Note): void {
  const byName = new Map(declarations.map((declaration) => [declaration.name, declaration]));
  for (const declaration of declarations) {
    for (const { reference, escapes } of referencesOf(declaration.content)) {
      const dependency = dependencyOf(reference, (name) => byName.has(name));
      const other = dependency && byName.get(dependency.name);
      if (dependency === undefined || other === undefined)
        note(
          declaration,
          `${declaration.name} -> ${reference}: no secret is declared by this name`,
          nearest(reference, [...byName.keys()]) ?? 'declare it; without units it is delivered as part of others only',
        );
      else
        for (const { message, hint } of unusable(declaration.content, other, dependency.part, escapes))
          note(declaration, `${declaration.name} -> ${reference}: ${message}`, hint);
    }
  }
  const extents = new Map<string, Extent>();
  const { ordered, circular } = inOrder(byName, note);
  for (const declaration of ordered) {
    const extent = extentOf(declaration.content, (reference) => {
      const dependency = dependencyOf(reference, (name) => byName.has(name));
      return (dependency && extents.get(dependency.name)) ?? leaf;
    });
    const problem =
      declaration.content.form === 'template' && !extent.isNoted && !circular.has(declaration.name)
        ? tooLarge(extent)
        : undefined;
    extents.set(declaration.name, {
      ...extent,
      isNoted: extent.isNoted || problem !== undefined || circular.has(declaration.name),
    });
    if (problem !== undefined) note(declaration, problem, 'split it');
  }
}

/** The size that a secret may reach. */
interface Extent {
  readonly bytes: number;
  readonly depth: number;
  readonly places: number;
  /** Whether it, or a secret in it, was already reported as too large. */
  readonly isNoted: boolean;
}

/** A secret that is not made of others: one place, without its bytes. */
const leaf: Extent = { bytes: 0, depth: 0, places: 1, isNoted: false };

function tooLarge({ bytes, depth, places }: Extent): string | undefined {
  if (depth > deepest) return `templates are nested more than ${String(deepest)} deep in it`;
  if (places > mostPlaces) return `more than ${String(mostPlaces)} secrets stand in it`;
  if (bytes > largestSecret)
    return `it may have ${String(bytes)} bytes, and at most ${String(largestSecret)} can be delivered`;
  return undefined;
}

/** The extent of a secret, computed from those of the secrets in it. */
function extentOf(content: Content, known: (reference: string) => Extent): Extent {
  if (content.form === 'derived') return { ...leaf, bytes: mostOf(content.options) };
  if (content.form === 'crypt') return { ...leaf, bytes: longestHash };
  // The size of a fixed secret is only known when it becomes active, and is checked then.
  if (content.form === 'fixed') return leaf;
  let [bytes, depth, places, isNoted] = [0, 0, 0, false];
  for (const piece of content.pieces) {
    if (typeof piece === 'string') {
      bytes += Buffer.byteLength(piece);
      continue;
    }
    const other = known(piece.reference);
    bytes += Math.ceil(piece.escapes.reduce((sum, one) => sum * growth[one] + 3, other.bytes));
    depth = Math.max(depth, other.depth);
    places += other.places;
    isNoted ||= other.isNoted;
  }
  return { bytes, depth: depth + 1, places, isNoted };
}

/**
 * Sorts the declarations so that each comes after those that it is made of. Visits each once, without recursion.
 * Reports circles, each secret in at most one, and continues as if the last secret of a circle did not name the first.
 */
function inOrder(
  byName: ReadonlyMap<string, SecretDeclaration>,
  note: Note,
): { ordered: readonly SecretDeclaration[]; circular: ReadonlySet<string> } {
  const ordered: SecretDeclaration[] = [];
  const states = new Map<string, 'on the path' | 'done'>();
  const path: Step[] = [];
  const begin = (name: string): void => {
    const declaration = byName.get(name);
    if (!declaration || states.has(name)) return;
    const named = dependenciesOf(declaration.content, (other) => byName.has(other));
    path.push({ declaration, left: named.map((dependency) => dependency.name).reverse() });
    states.set(name, 'on the path');
  };
  const finish = ({ declaration }: Step): void => {
    path.pop();
    states.set(declaration.name, 'done');
    ordered.push(declaration);
  };
  const circular = new Set<string>();
  const noteCircle = (first: string, last: string): void => {
    if (circular.has(first) || circular.has(last)) return;
    const circle = path.slice(path.findIndex(({ declaration }) => declaration.name === first));
    const names = circle.map(({ declaration }) => declaration.name);
    for (const name of names) circular.add(name);
    const message = `it is made of itself: ${circleText([...names, first])}`;
    const [start] = circle;
    if (start) note(start.declaration, message, 'remove the next secret from one of them');
  };
  for (const start of byName.keys()) {
    begin(start);
    for (let here = path.at(-1); here; here = path.at(-1)) {
      const next = here.left.pop();
      if (next === undefined) finish(here);
      else if (states.get(next) === 'on the path') noteCircle(next, here.declaration.name);
      else begin(next);
    }
  }
  return { ordered, circular };
}

/** A secret on the path from the one that the walk began with, and those that it is made of and are left to visit. */
interface Step {
  readonly declaration: SecretDeclaration;
  readonly left: string[];
}

/** The names in a circle, without the middle of a long one. */
const circleText = (names: readonly string[]): string =>
  (names.length <= 20 ? names : [...names.slice(0, 10), `${String(names.length - 20)} more`, ...names.slice(-10)]).join(
    ' -> ',
  );

function unusable(
  content: Content,
  other: SecretDeclaration,
  part: Part,
  escapes: readonly Escape[],
): { message: string; hint: string | undefined }[] {
  const { content: made } = other;
  if (
    content.form === 'crypt' &&
    made.form !== 'fixed' &&
    (made.form !== 'derived' || made.options.kind === 'bytes' || isKeyKind(made.options.kind) || part !== 'secret')
  ) {
    return [{ message: 'only a password or another one-line secret can be hashed', hint: undefined }];
  }
  if (content.form === 'crypt' && made.form === 'derived') {
    const [most, longest] = [longestPhrase[content.method], mostOf(made.options)];
    const hint =
      content.method === 'bcrypt' && longest <= longestPhrase.yescrypt
        ? 'method = "yescrypt", or a shorter secret'
        : 'a shorter secret';
    if (longest > most)
      return [
        {
          message: `${content.method} reads no more than ${String(most)} bytes, and it may have ${String(longest)}`,
          hint,
        },
      ];
  }
  if (part === 'public' && (made.form !== 'derived' || !isKeyKind(made.options.kind)))
    return [{ message: 'it has no public half', hint: undefined }];
  if (part === 'previous' && (made.form !== 'derived' || !made.previous))
    return [{ message: 'it has no previous value', hint: `previous = true for ${other.name}` }];
  const [first] = escapes;
  if (made.form === 'derived' && made.options.kind === 'bytes' && (first === 'json' || first === 'env'))
    return [{ message: 'bytes are not text', hint: `{{${other.name} | base64}}` }];
  return [];
}

/** The most bytes that each escape makes of one. */
const growth: Readonly<Record<Escape, number>> = { base64: 4 / 3, url: 3, json: 6, env: 2 };

/** No hash of a password has more bytes: sha512-crypt's, the longest, has up to 123. */
const longestHash = 128;

/** The most bytes of a derived secret or its public half. */
function mostOf(options: KindOptions): number {
  switch (options.kind) {
    case 'password':
      return options.length;
    case 'passphrase':
      // The longest word of the list has nine letters.
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
      // The largest PEM is OpenSSH's, whose comment of 200 bytes is encoded twice.
      return 1024;
  }
}
