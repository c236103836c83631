import { fstatSync } from 'node:fs';

/** Node's terminals, loaded only for one: they load sockets too, and most runs have none. */
export const terminals = () => process.getBuiltinModule('node:tty');

/**
 * Whether a descriptor, 0 to 2, is a terminal. `process.stdin` would say so too, but makes a pipe non-blocking for all
 * processes that share it.
 */
export const isTerminal = (descriptor: number): boolean =>
  fstatSync(descriptor).isCharacterDevice() && terminals().isatty(descriptor);
