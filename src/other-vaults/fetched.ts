import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { type FixedName, nameText } from '../fixed/name.ts';
import type { VaultReference } from '../manifest/declaration.ts';
import { readIfPresent, replaceFile } from '../system/files.ts';
import { canonicalJson, Json } from '../system/json.ts';

interface Note {
  /** The vault, the name in it and the options, as one text. */
  readonly from: string;
  readonly fingerprint: string;
  readonly sequence: number;
}

/**
 * Remembers the vaults' own fingerprints of fetched secrets, so that a vault is not opened if nothing changed.
 * Safe to delete.
 */
export class Fetched {
  readonly #file: string;
  readonly #notes: Map<string, Note>;

  constructor(file: string) {
    this.#file = file;
    this.#notes = notesIn(file);
  }

  has(name: FixedName, vault: VaultReference, fingerprint: string, sequence: number): boolean {
    const note = this.#notes.get(nameText(name));
    return note?.from === canonicalJson(vault) && note.fingerprint === fingerprint && note.sequence === sequence;
  }

  note(name: FixedName, vault: VaultReference, fingerprint: string | undefined, sequence: number): void {
    if (fingerprint === undefined) this.#notes.delete(nameText(name));
    else this.#notes.set(nameText(name), { from: canonicalJson(vault), fingerprint, sequence });
  }

  save(): void {
    if (this.#notes.size > 0)
      replaceFile(this.#file, utf8(`${canonicalJson({ version: 1, fetched: Object.fromEntries(this.#notes) })}\n`), {
        mode: 0o600,
      });
  }
}

/** Reads the file. A damaged one counts as empty, which only costs fetching everything. */
function notesIn(file: string): Map<string, Note> {
  const bytes = readIfPresent(file);
  if (!bytes) return new Map();
  try {
    const json = Json.parse(bytes, file, 'delete it');
    json.at('version').whole(1, 1);
    return new Map(
      json
        .at('fetched')
        .entries()
        .map(([name, note]) => [
          name,
          {
            from: note.at('from').text(),
            fingerprint: note.at('fingerprint').text(),
            sequence: note.at('sequence').whole(0, Number.MAX_SAFE_INTEGER),
          },
        ]),
    );
  } catch (error) {
    if (error instanceof Failure) return new Map();
    throw error;
  }
}
