import { closeSync, writeSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { bind } from './ffi.ts';

/**
 * Runs `work` with the descriptor of a nameless file in memory that holds `bytes`, for programs that read a secret from
 * a file.
 * @throws Failure `system`
 */
export function withMemoryFile<T>(bytes: Uint8Array, work: (fd: number) => T): T {
  const { memfd_create: create } = bind('libc.so.6', { memfd_create: 'i:su' });
  const fd = Number(create('secret', 0));
  if (fd < 0) throw new Failure('system', "the kernel can't make a file in memory");
  try {
    // Write at a position, so that a program that inherits the descriptor reads from the start.
    for (let written = 0; written < bytes.length; )
      written += writeSync(fd, bytes, written, bytes.length - written, written);
    return work(fd);
  } finally {
    closeSync(fd);
  }
}
