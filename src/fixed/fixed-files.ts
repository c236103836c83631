import { sameBytes } from '../bytes.ts';
import type { Fixed, FixedLookup } from '../derive/recipe.ts';
import { keyId } from '../derive/tree.ts';
import { digestOf, readHeader } from './file.ts';
import type { FixedFolder, ScopeSeed } from './folder.ts';
import { type FixedName, nameText } from './name.ts';

type Found = ReturnType<FixedLookup> & { readonly bytes: Uint8Array };

/**
 * The fixed files that a manifest names. Opens each once to check it, unless the same file is active already and so was
 * checked before.
 */
export class FixedFiles {
  readonly #folder: FixedFolder;
  readonly #seedOf: ScopeSeed;
  readonly #known = new Map<string, ReturnType<FixedLookup>>();
  readonly #bytes = new Map<string, Uint8Array>();
  readonly #active: ReadonlyMap<string, Fixed>;
  readonly #keyIds = new Map<string, Uint8Array>();

  constructor(folder: FixedFolder, seedOf: ScopeSeed, active: readonly Fixed[] = []) {
    this.#folder = folder;
    this.#seedOf = seedOf;
    this.#active = new Map(active.map((recipe) => [nameText(recipe), recipe]));
  }

  /** Looks at the file of a fixed secret. @throws Failure `not-found`, `malformed` */
  readonly find: FixedLookup = (scope, path) => {
    const key = nameText({ scope, path });
    const known = this.#known.get(key);
    if (known) return known;
    const { bytes, sequence, file, fingerprint } = this.#unchanged({ scope, path }) ?? this.#opened({ scope, path });
    this.#known.set(key, { sequence, file, fingerprint });
    this.#bytes.set(file, bytes);
    return { sequence, file, fingerprint };
  };

  /** The file if it is the active one, unchanged, and its seed is the same; else undefined. */
  #unchanged(name: FixedName): Found | undefined {
    const was = this.#active.get(nameText(name));
    const bytes = was && this.#folder.read(name);
    if (!bytes || digestOf(bytes) !== was.file) return undefined;
    const { seed, epoch } = this.#seedOf(name.scope);
    const id = this.#keyIds.get(name.scope) ?? keyId(seed);
    this.#keyIds.set(name.scope, id);
    const { keyId: actual, sequence } = readHeader(name, bytes);
    return was.epoch === epoch && sameBytes(actual, id)
      ? { bytes, sequence, file: was.file, fingerprint: was.fingerprint }
      : undefined;
  }

  #opened(name: FixedName): Found {
    const { value, digest: file, ...found } = this.#folder.open(name, this.#seedOf);
    value.fill(0);
    return { ...found, file };
  }

  /** The bytes of a recipe's file, if {@link find} found it. */
  readonly bytes = ({ file }: Fixed): Uint8Array | undefined => this.#bytes.get(file);
}

/** Looks at files without a seed: the fingerprint stays empty, and a missing or damaged file is no failure. */
export const unopened =
  (folder: FixedFolder): FixedLookup =>
  (scope, path) => {
    try {
      const bytes = folder.read({ scope, path });
      return {
        sequence: bytes ? readHeader({ scope, path }, bytes).sequence : 0,
        file: bytes ? digestOf(bytes) : '',
        fingerprint: '',
      };
    } catch {
      return { sequence: 0, file: '', fingerprint: '' };
    }
  };
