import { closeSync, writeSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { bind } from './ffi.ts';

/**
 * Lends `work` a file descriptor of a nameless file in memory that holds `bytes`, for a program that reads a secret
 * from a file.
 * @throws Failure `system`
 */
export function withMemoryFile<T>(bytes: Uint8Array, work: (fd: number) => T): T {
  const { memfd_create: create } = bind('libc.so.6', { memfd_create: 'i:su' });
  const fd = Number(create('secret', 0));
  if (fd < 0) throw new Failure('system', 'the kernel gives no file in memory');
  try {
    // At a position, so that whoever inherits the descriptor reads from the start.
    for (let written = 0; written < bytes.length; )
      written += writeSync(fd, bytes, written, bytes.length - written, written);
    return work(fd);
  } finally {
    closeSync(fd);
  }
}
