/** Explains the response codes of TPM and TSS (TPM 2.0 part 2, section 6.6; TSS 2.0 overview, section 4). */
import { Failure, resealHint } from '../failure.ts';
import { bind, LibraryMissing } from '../system/ffi.ts';

/** The codes that matter here, without the bits that name a handle, session or parameter. */
const responseCodes = {
  failure: 0x101,
  pcrChanged: 0x128,
  sessionMemory: 0x903,
  objectMemory: 0x902,
  lockout: 0x921,
  policyFail: 0x09d,
  integrity: 0x09f,
  value: 0x084,
  signature: 0x09b,
  handle: 0x08b,
  nvUninitialized: 0x14a,
  authFail: 0x08e,
  badAuth: 0x0a2,
  nvSpace: 0x14b,
  nvDefined: 0x14c,
} as const;

/** The layer of the TSS that returned a code (TSS 2.0 overview, section 4.2); 0 is the TPM itself. */
const layer = (code: number): number => code & 0xff0000;
const layers = { marshalling: 0x90000, transmission: 0xa0000 } as const;
const isFormatOne = (code: number): boolean => (code & 0x80) !== 0;

/** A response code without the bits that name a handle, session or parameter. */
export function baseCode(code: number): number {
  if (layer(code) !== 0) return code;
  return isFormatOne(code) ? code & 0xbf : code & 0x97f;
}

/** A call that failed. The meaning depends on the call. */
export class TpmError extends Error {
  override readonly name = 'TpmError';
  /** The response code that the TSS returned. */
  readonly code: number;

  constructor(call: string, code: number) {
    super(`${call} returned 0x${code.toString(16)}`);
    this.code = code;
  }

  /** Whether the TPM rejected a parameter, rather than a handle, a session or its own state (part 2, section 6.6.2). */
  get ofParameter(): boolean {
    return layer(this.code) === 0 && (this.code & 0xc0) === 0xc0;
  }

  is(wanted: keyof typeof responseCodes): boolean {
    return baseCode(this.code) === responseCodes[wanted];
  }
}

/** libtss2's text for a code (Tss2_RC_Decode(3)), without the layer; the bare code if that library is not installed. */
export function tssReason({ code, message }: TpmError): string {
  try {
    const { Tss2_RC_Decode: decode } = bind('libtss2-rc.so.0', { Tss2_RC_Decode: 'p:u' });
    const { strncpy } = bind('libc.so.6', { strncpy: 'p:ppz' });
    const text = Buffer.alloc(200);
    strncpy(text, decode(code), text.length - 1);
    return text
      .toString('latin1', 0, text.indexOf(0))
      .replace(/^[a-z0-9]+:/, '')
      .replace(/\.$/, '');
  } catch (error) {
    if (error instanceof LibraryMissing) return message;
    throw error;
  }
}

/** Turns a TpmError that no caller explained better into a Failure. Returns any other error as it is. */
export function tpmFailure(error: unknown): unknown {
  if (!(error instanceof TpmError)) return error;
  const options = (hint: string): { hint: string; cause: unknown } => ({ hint, cause: error });
  if (error.is('lockout'))
    return new Failure(
      'tpm-lockout',
      'the TPM is in dictionary attack lockout',
      options("wait, or reset it with tpm2_dictionarylockout --clear-lockout; auxcred's own objects never cause one"),
    );
  if (error.is('sessionMemory') || error.is('objectMemory'))
    return new Failure(
      'tpm',
      'the TPM has no room for another session or object',
      options('another program left some behind; /dev/tpmrm0 manages the room, /dev/tpm0 does not'),
    );
  if (error.is('integrity'))
    return new Failure('other-tpm', 'the sealed object was not made by this TPM, or is damaged', options(resealHint));
  if (error.is('badAuth') || error.is('authFail'))
    return new Failure(
      'tpm',
      'the owner hierarchy of this TPM, or its SRK, has a password',
      options('remove it, or store the standard SRK at 0x81000001 with tpm2_createprimary and tpm2_evictcontrol'),
    );
  if (layer(error.code) === layers.transmission)
    return new Failure(
      'no-tpm',
      `the TPM can't be reached: ${tssReason(error)}`,
      options('check the device, and that this user may open it'),
    );
  if (layer(error.code) === layers.marshalling)
    return new Failure('malformed', `the sealed object is damaged: ${tssReason(error)}`, options(resealHint));
  return new Failure('tpm', `the TPM refused: ${tssReason(error)} (${error.message})`, { cause: error });
}
