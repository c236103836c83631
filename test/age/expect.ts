import { Failure } from '../../src/failure.ts';

/** For assert.throws and assert.rejects: a Failure of this code, whose message matches. */
export const isFailure =
  (code: string, message = /(?:)/) =>
  (error: unknown): boolean =>
    error instanceof Failure && error.code === code && message.test(error.message);

export const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

/** The public half, 32 bytes, in a line of ssh-keygen: the last field of its base64. */
export const sshPublicKeyIn = (line: string): Uint8Array =>
  new Uint8Array(Buffer.from(line.split(' ')[1] ?? '', 'base64').subarray(-32));
