import { randomFillSync } from 'node:crypto';
import type { Socket } from 'node:net';

/** More than the 1 MiB that systemd accepts as one credential (CREDENTIAL_SIZE_MAX in its src/shared/creds-util.h). */
const refusalLength = 1024 * 1024 + 64 * 1024;
const chunkLength = 64 * 1024;

/**
 * Refuses a credential in the only way that systemd understands: an answer too large to be one, after which the unit's start
 * fails with 243/CREDENTIALS. The bytes are fresh and random, since whatever arrives before a connection breaks is taken
 * for the secret. Written in chunks, so that a peer that does not read holds no more than one of them in memory.
 */
export function refuse(socket: Socket): void {
  let left = refusalLength;
  const more = (): void => {
    if (socket.destroyed) return;
    if (left <= 0) {
      socket.end();
      return;
    }
    left -= chunkLength;
    socket.write(randomFillSync(new Uint8Array(chunkLength)), (error) => {
      if (!error) more();
    });
  };
  more();
}
