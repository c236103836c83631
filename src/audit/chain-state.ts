/** Where the chain continues: the last record that the broker wrote. It proves nothing, and holds no secret. */

import { closeSync, constants, fdatasync, openSync, readSync, writeSync } from 'node:fs';
import { hex } from '../bytes.ts';
import type { Position } from './record.ts';

/** `RUN SEQUENCE HASH` with a newline, always of one length, so that one write replaces it. */
const pattern = /^([0-9a-f]{32}) ([0-9]{16}) ([0-9a-f]{64})\n$/;
const length = 32 + 1 + 16 + 1 + 64 + 1;

/** Parses the state's file; undefined for anything else. */
export function parseState(text: string): Position | undefined {
  const [, run, sequence, hash] = pattern.exec(text) ?? [];
  return run === undefined || sequence === undefined || hash === undefined
    ? undefined
    : { run, sequence: Number(sequence), hash: Buffer.from(hash, 'hex') };
}

/** The file of the state, kept open: the broker writes it after each record, so a write has to be cheap. */
export class ChainState {
  readonly #fd: number;
  readonly #complain: (error: unknown) => void;
  #hasFailed = false;

  private constructor(fd: number, complain: (error: unknown) => void) {
    this.#fd = fd;
    this.#complain = complain;
  }

  /**
   * Opens or creates the file.
   * @param complain - told once if the state can't be kept
   * @returns undefined if this process may not, or the file's folder is missing
   */
  static open(path: string, complain: (error: unknown) => void): ChainState | undefined {
    try {
      const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
      return new ChainState(fd, complain);
    } catch (error) {
      complain(error);
      return undefined;
    }
  }

  read(): Position | undefined {
    const bytes = Buffer.alloc(length + 1);
    try {
      return parseState(bytes.toString('latin1', 0, readSync(this.#fd, bytes, 0, bytes.length, 0)));
    } catch {
      return undefined;
    }
  }

  /**
   * Replaces the state. A kill can't cut this short; a power cut may lose it until {@link sync}. A failing disk keeps no
   * unit from its secrets: it shows in the chain like a state that was put back.
   */
  write({ run, sequence, hash }: Position): void {
    try {
      writeSync(this.#fd, `${run} ${String(sequence).padStart(16, '0')} ${hex(hash)}\n`, 0, 'latin1');
    } catch (error) {
      if (!this.#hasFailed) this.#complain(error);
      this.#hasFailed = true;
    }
  }

  /** Brings the state to the disk, without waiting for it. */
  sync(): void {
    fdatasync(this.#fd, () => undefined);
  }

  close(): void {
    closeSync(this.#fd);
  }
}
