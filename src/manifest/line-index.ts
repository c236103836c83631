/** How many lines below its name an option of a JSON declaration is searched for: no heading ends the declaration. */
const jsonTableLines = 40;

/** Finds the line of a key in a manifest file. It searches the text, because the parsers do not give lines. */
export class LineIndex {
  readonly #lines: readonly string[];
  readonly #json: boolean;
  #tables: ReadonlyMap<string, number> | undefined;

  constructor(file: string, text: string) {
    this.#lines = text.split('\n');
    this.#json = file.endsWith('.json');
  }

  /**
   * The line, counted from 1, of a key such as `secret.db-password.length`, else of its table; undefined if neither is
   * found.
   */
  of(key: string): number | undefined {
    this.#tables ??= this.#index();
    // A secret's name may have dots: the longest table that exists wins.
    const parts = key.split('.');
    for (let end = parts.length; end > 1; end--) {
      const header = this.#tables.get(parts.slice(1, end).join('.'));
      if (header === undefined) continue;
      const option = parts[end];
      return option === undefined ? header : (this.#below(header, option) ?? header);
    }
    return undefined;
  }

  #index(): ReadonlyMap<string, number> {
    const tables = new Map<string, number>();
    const header = /^\s*\[\s*"?secret"?\s*\.\s*["']?([^\]]*?)["']?\s*\]/;
    this.#lines.forEach((line, i) => {
      for (const name of this.#json
        ? [...line.matchAll(/"([^"]*)"\s*:/g)].map(([, found]) => found)
        : [header.exec(line)?.[1]]) {
        const plain = name?.replaceAll(/["']/g, '');
        if (plain !== undefined && !tables.has(plain)) tables.set(plain, i + 1);
      }
    });
    return tables;
  }

  #below(header: number, option: string): number | undefined {
    for (let i = header; i < this.#lines.length; i++) {
      const line = this.#lines[i] ?? '';
      if (this.#json ? i > header + jsonTableLines : /^\s*\[/.test(line)) return undefined;
      if (line.replaceAll(/["'{\s]/g, '').startsWith(option)) return i + 1;
    }
    return undefined;
  }
}
