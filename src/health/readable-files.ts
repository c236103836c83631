/** Reads files that this user may not be allowed to read: a hidden file is reported, and never taken for missing. */
import { lstatSync, type Stats } from 'node:fs';
import { Failure, systemCode } from '../failure.ts';
import { readIfPresent } from '../system/files.ts';

/** Reads files for a user who may not see all of them, and remembers the hidden ones. */
export class ReadableFiles {
  readonly #hidden = new Set<string>();

  /** Paths that this user may not see. */
  get hidden(): string[] {
    return [...this.#hidden].sort();
  }

  isHidden(path: string): boolean {
    return this.#hidden.has(path);
  }

  /** Undefined for a file that is missing or hidden, and for what is no file. */
  read(path: string): Uint8Array | undefined {
    return this.#look(path, () => readIfPresent(path));
  }

  text(path: string): string | undefined {
    const bytes = this.read(path);
    return bytes && new TextDecoder().decode(bytes);
  }

  stat(path: string): Stats | undefined {
    return this.#look(path, () => lstatSync(path));
  }

  #look<T>(path: string, look: () => T | undefined): T | undefined {
    try {
      return look();
    } catch (error) {
      const code = systemCode(error);
      const isNoFile = error instanceof Failure && error.code === 'malformed';
      if (code === 'EACCES' || code === 'EPERM') this.#hidden.add(path);
      else if (!isNoFile && code !== 'ENOENT' && code !== 'ENOTDIR' && code !== 'ELOOP') throw error;
      return undefined;
    }
  }
}
