/** Reads files that this user may have no right to. Hidden ones are reported, and never taken for missing. */
import { lstatSync, readFileSync, type Stats } from 'node:fs';

const codeOf = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined);

/** Remembers the files that it could not read. */
export class Sight {
  readonly #hidden = new Set<string>();

  /** Paths that this user may not see. */
  get hidden(): string[] {
    return [...this.#hidden].sort();
  }

  isHidden(path: string): boolean {
    return this.#hidden.has(path);
  }

  /** Undefined for a file that is missing or hidden. */
  read(path: string): Uint8Array | undefined {
    return this.#look(path, () => new Uint8Array(readFileSync(path)));
  }

  text(path: string): string | undefined {
    const bytes = this.read(path);
    return bytes && new TextDecoder().decode(bytes);
  }

  stat(path: string): Stats | undefined {
    return this.#look(path, () => lstatSync(path));
  }

  #look<T>(path: string, look: () => T): T | undefined {
    try {
      return look();
    } catch (error) {
      const code = codeOf(error);
      if (code === 'EACCES' || code === 'EPERM') this.#hidden.add(path);
      else if (code !== 'ENOENT' && code !== 'ENOTDIR' && code !== 'EISDIR' && code !== 'ELOOP') throw error;
      return undefined;
    }
  }
}
