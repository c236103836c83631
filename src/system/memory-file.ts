import { closeSync, fchmodSync, fstatSync, ftruncateSync, writeSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { bind } from './ffi.ts';

/** MFD_CLOEXEC (memfd_create(2)): a program gets only the descriptors that it is given. */
const closeOnExec = 1;
/** As ssh wants a private key. */
const mode = 0o400;

/**
 * Makes a nameless file in memory that holds `bytes`, for programs that read a secret from a file. End it with
 * {@link wipeMemoryFile}.
 * @returns its descriptor
 * @throws Failure `system`
 */
export function memoryFile(bytes: Uint8Array): number {
  const { memfd_create: create } = bind('libc.so.6', { memfd_create: 'i:su' });
  const fd = Number(create('secret', closeOnExec));
  if (fd < 0) throw new Failure('system', "the kernel can't make a file in memory");
  try {
    fchmodSync(fd, mode);
    // Write at a position, so that a program that inherits the descriptor reads from the start.
    for (let written = 0; written < bytes.length; )
      written += writeSync(fd, bytes, written, bytes.length - written, written);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Overwrites and closes a {@link memoryFile}. Whoever still has it open finds it empty. */
export function wipeMemoryFile(fd: number): void {
  try {
    const zeros = new Uint8Array(fstatSync(fd).size);
    for (let written = 0; written < zeros.length; )
      written += writeSync(fd, zeros, written, zeros.length - written, written);
    ftruncateSync(fd, 0);
  } finally {
    closeSync(fd);
  }
}

/** Runs `work` with the descriptor of a {@link memoryFile}. @throws Failure `system` */
export function withMemoryFile<T>(bytes: Uint8Array, work: (fd: number) => T): T {
  const fd = memoryFile(bytes);
  try {
    return work(fd);
  } finally {
    wipeMemoryFile(fd);
  }
}
