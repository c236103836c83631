/**
 * The exit status of every expected failure.
 * 2 is a wrong call, and 3 and up tell a script what to do next. 1 is a bug in auxcred.
 */
export const exitStatus = {
  usage: 2,
  'invalid-manifest': 3,
  'not-found': 4,
  refused: 5,
  malformed: 6,
  'no-recipient': 7,
  'not-pinned': 8,
  'no-tpm': 10,
  'other-tpm': 11,
  'pcr-mismatch': 12,
  'tpm-lockout': 13,
  tpm: 14,
  timeout: 15,
  system: 16,
  clock: 17,
  hook: 18,
  older: 19,
  locked: 20,
  vault: 21,
  unwell: 22,
  'unit-failed': 23,
  'until-boot': 24,
} as const;

/** The code of a failure, which decides the exit status. */
export type FailureCode = keyof typeof exitStatus;

/** All codes. */
export const failureCodes: readonly FailureCode[] = Object.keys(exitStatus).filter((code): code is FailureCode =>
  Object.hasOwn(exitStatus, code),
);

/** The hint for a machine that can't open its own seeds any more. */
export const resealHint =
  'auxcred reseal --identity=FILE with a recovery key, --seed-file=- with the 24 words, or --scopes=- with what ' +
  'auxcred scopes prints';

/**
 * A failure that the user can act on. The message names the thing, in lower case and without a full stop;
 * the hint says what to do. Neither ever contains a secret.
 */
export class Failure extends Error {
  override readonly name = 'Failure';
  readonly code: FailureCode;
  readonly hint: string | undefined;

  constructor(code: FailureCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The code of a system's error, such as `ENOENT`; undefined for anything else, a {@link Failure} included. */
export const systemCode = (error: unknown): string | undefined =>
  error instanceof Error && !(error instanceof Failure) && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined;
