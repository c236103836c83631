import type { Fixed } from '../derive/recipe.ts';
import type { FixedLookup } from '../manifest/recipes.ts';
import { digestOf, readHeader } from './file.ts';
import { type FixedFolder, type ScopeSeed } from './folder.ts';

/** The files of the fixed folder that a manifest names, each opened once to see that it is sound. */
export class Shelf {
  readonly #folder: FixedFolder;
  readonly #seedOf: ScopeSeed;
  readonly #known = new Map<string, ReturnType<FixedLookup>>();
  readonly #bytes = new Map<string, Uint8Array>();

  constructor(folder: FixedFolder, seedOf: ScopeSeed) {
    this.#folder = folder;
    this.#seedOf = seedOf;
  }

  /** @throws Failure `not-found`, `malformed` */
  readonly find: FixedLookup = (scope, path) => {
    const key = `${scope}/${path}`;
    const known = this.#known.get(key);
    if (known) return known;
    const { value, bytes, sequence, digest: file, fingerprint } = this.#folder.open({ scope, path }, this.#seedOf);
    value.fill(0);
    this.#known.set(key, { sequence, file, fingerprint });
    this.#bytes.set(file, bytes);
    return { sequence, file, fingerprint };
  };

  /** The file that a recipe names, as far as it was found here. */
  readonly bytes = ({ file }: Fixed): Uint8Array | undefined => this.#bytes.get(file);
}

/** What can be said of a file without a seed: nothing of its value, and nothing is wrong with one that is missing. */
export const unopened = (folder: FixedFolder): FixedLookup => (scope, path) => {
  const bytes = folder.read({ scope, path });
  try {
    return { sequence: bytes ? readHeader({ scope, path }, bytes).sequence : 0, file: bytes ? digestOf(bytes) : '', fingerprint: '' };
  } catch {
    return { sequence: 0, file: '', fingerprint: '' };
  }
};
