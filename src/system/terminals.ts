import { fstatSync } from 'node:fs';

/** Node's module for terminals. It loads sockets too, so a run without a terminal does without it. */
export const terminals = () => process.getBuiltinModule('node:tty');

/**
 * Whether a descriptor, 0 to 2, is a terminal. `process.stdin` would say so too, but makes a pipe non-blocking for all
 * processes that share it.
 */
export const isTerminal = (descriptor: number): boolean =>
  fstatSync(descriptor).isCharacterDevice() && terminals().isatty(descriptor);
