import type { Fixed, FixedLookup } from '../derive/recipe.ts';
import { keyId } from '../derive/tree.ts';
import { digestOf, readHeader } from './file.ts';
import type { FixedFolder, ScopeSeed } from './folder.ts';
import { type FixedName, nameText } from './name.ts';

type Found = ReturnType<FixedLookup> & { readonly bytes: Uint8Array };

/**
 * The files of the fixed folder that a manifest names, each opened once to see that it is sound, unless that was seen
 * when the very same file was made active.
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

  /** @throws Failure `not-found`, `malformed` */
  readonly find: FixedLookup = (scope, path) => {
    const key = nameText({ scope, path });
    const known = this.#known.get(key);
    if (known) return known;
    const { bytes, sequence, file, fingerprint } = this.#unchanged({ scope, path }) ?? this.#opened({ scope, path });
    this.#known.set(key, { sequence, file, fingerprint });
    this.#bytes.set(file, bytes);
    return { sequence, file, fingerprint };
  };

  /** The file that is in force, if it is this one, and the seed that opened it then is the one available. */
  #unchanged(name: FixedName): Found | undefined {
    const was = this.#active.get(nameText(name));
    const bytes = was && this.#folder.read(name);
    if (!bytes || digestOf(bytes) !== was.file) return undefined;
    const { seed, epoch } = this.#seedOf(name.scope);
    const id = this.#keyIds.get(name.scope) ?? keyId(seed);
    this.#keyIds.set(name.scope, id);
    const { keyId: actual, sequence } = readHeader(name, bytes);
    return was.epoch === epoch && Buffer.compare(actual, id) === 0
      ? { bytes, sequence, file: was.file, fingerprint: was.fingerprint }
      : undefined;
  }

  #opened(name: FixedName): Found {
    const { value, digest: file, ...found } = this.#folder.open(name, this.#seedOf);
    value.fill(0);
    return { ...found, file };
  }

  /** The file that a recipe names, as far as it was found here. */
  readonly bytes = ({ file }: Fixed): Uint8Array | undefined => this.#bytes.get(file);
}

/** What can be said of a file without a seed: nothing of its value, and nothing is wrong with one that is missing. */
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
