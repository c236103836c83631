/** A payload with the seeds of a host and of a group. */

import { Failure } from '../../src/failure.ts';
import type { Payload } from '../../src/seeds/payload.ts';
import type { Scope } from '../../src/seeds/scope.ts';

export const seed = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
export const host: Scope = { kind: 'host', name: 'web1', epoch: 1, seed: seed(1) };
export const group: Scope = { kind: 'group', name: 'db', epoch: 3, seed: seed(2) };
export const isFailure =
  (code: string) =>
  (error: unknown): boolean =>
    error instanceof Failure && error.code === code;
export const payload: Payload = {
  counter: 7,
  scopes: [host, group],
  sealing: {
    withKey: 'tpm2',
    recovery: ['age1abc'],
    pcrs: [7, 14],
    pcrsAtFirstBoot: [4],
    device: 'device:/dev/tpmrm0',
  },
};
