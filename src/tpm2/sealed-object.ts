/** Seals a secret so that only this TPM returns it, and only while its PCRs satisfy a policy. */
import { Failure, resealHint } from '../failure.ts';
import { readPcrs } from './pcr.ts';
import { pcrsOfPolicy, policyDigest, type TpmPolicy } from './policy.ts';
import { branchMismatch, PcrsMoved, satisfy } from './policy-session.ts';
import { TpmError, tpmFailure } from './response.ts';
import { openSrk, type RecordedSrk, reopenSrk, type Srk } from './srk.ts';
import type { Tpm } from './tpm.ts';
import { aes128Cfb, algorithms, contentOf, fromStructure, sized, toStructure, u16, u32 } from './wire.ts';

/** A sealed object, with the SRK that it is sealed to. */
interface Sealed extends RecordedSrk {
  readonly policy: TpmPolicy;
  /** TPM2B_PUBLIC. */
  readonly public: Uint8Array;
}

/** An object that the TPM made itself and that is fixed to it. */
export interface NativeObject extends Sealed {
  /** TPM2B_PRIVATE. */
  readonly private: Uint8Array;
}

/** An object made on another machine, which the TPM imports before it loads it. */
export interface ImportableObject extends Sealed {
  /** TPM2B_PRIVATE in an outer duplication wrapper. */
  readonly duplicate: Uint8Array;
  /** TPM2B_ENCRYPTED_SECRET: the seed of that wrapper, encrypted to the SRK. */
  readonly encryptedSeed: Uint8Array;
}

/** An object that {@link unseal} opens. */
export type SealedObject = NativeObject | ImportableObject;

/**
 * fixedTPM, fixedParent and noDA (part 2, table 31). Without userWithAuth, the policy is the only way in. There is no
 * PIN to guess, and without noDA every power cut between unsealing and TPM2_Shutdown would count as a wrong guess,
 * until the TPM locks itself.
 */
const sealedAttributes = 0x00000412;
/** TPM_SE values (part 2, table 26). */
export const sessionTypes = { hmac: 0, policy: 1, trial: 3 } as const;
/**
 * continueSession, decrypt, encrypt (part 2, table 32): the first parameter of each command and response is encrypted.
 */
const encryptedSession = 0x61;
/** continueSession and audit: a session beside the authorization must have a purpose. */
const plainSession = 0x81;
/** Bytes. A sealed object can hold 128 (MAX_SYM_DATA in part 2), but TPM2B_DIGEST, the wire form used here, only 64. */
const longestSecret = 64;
/** As often as systemd tries (RETRY_UNSEAL_MAX in its src/shared/tpm2-util.c). */
const pcrChangeRetries = 30;

/** The protection of traffic with the TPM. Tests switch encryption off to prove that they would notice. */
export interface Protection {
  readonly encrypted: boolean;
}

/** Options of {@link seal}. */
export interface SealOptions extends Protection {
  /** The SRK that the TPM must have; undefined for any. */
  readonly srk?: RecordedSrk | undefined;
}

/** The TPM2B_PUBLIC of a sealed object. `unique` is empty in a template. */
export const sealedPublic = (attributes: number, policy: TpmPolicy, unique: Uint8Array): Uint8Array =>
  sized(
    Uint8Array.from([
      ...u16(algorithms.keyedHash),
      ...u16(algorithms.sha256),
      ...u32(attributes),
      ...sized(policyDigest(policy)),
      ...u16(algorithms.null),
      ...sized(unique),
    ]),
  );

/**
 * Seals `secret` (at most 64 bytes) under `policy`.
 * @throws Failure `other-tpm` if this TPM lacks the named SRK, `tpm`
 * @throws RangeError for a longer secret
 */
export async function seal(
  tpm: Tpm,
  secret: Uint8Array,
  policy: TpmPolicy,
  { srk: expected, ...protection }: SealOptions = { encrypted: true },
): Promise<NativeObject> {
  const template = sealedPublic(sealedAttributes, policy, new Uint8Array(0));
  const wire = sensitiveCreate(secret);
  const sensitive = toStructure('TPM2B_SENSITIVE_CREATE', wire);
  try {
    const srk = await openSrk(tpm, expected);
    const session = await startSession(tpm, srk, sessionTypes.hmac, protection);
    try {
      const [privateArea, publicArea] = await tpm.outputs(
        5,
        async (...slots) => {
          await tpm.call(
            'Esys_Create',
            srk.handle,
            session,
            tpm.none,
            tpm.none,
            sensitive,
            toStructure('TPM2B_PUBLIC', template),
            toStructure('TPM2B_DATA', u16(0)),
            toStructure('TPML_PCR_SELECTION', u32(0)),
            ...slots,
          );
        },
        ([privatePointer = 0n, publicPointer = 0n]) => [
          fromStructure('TPM2B_PRIVATE', privatePointer),
          fromStructure('TPM2B_PUBLIC', publicPointer),
        ],
      );
      if (!privateArea || !publicArea) throw new Failure('tpm', 'the TPM returned no object');
      return { srkName: srk.name, srkTemplate: srk.template, policy, public: publicArea, private: privateArea };
    } finally {
      await tpm.release(session);
      await tpm.release(srk.handle);
    }
  } catch (error) {
    throw tpmFailure(error);
  } finally {
    wire.fill(0);
    sensitive.fill(0);
  }
}

/**
 * Unseals a secret. The caller wipes it.
 * @param alongside - runs in the same salted session before the secret is unsealed
 * @throws Failure `pcr-mismatch` that names the PCRs, `until-boot`, `other-tpm`, `tpm-lockout`, `malformed`, `tpm`
 */
export async function unseal(
  tpm: Tpm,
  sealed: SealedObject,
  protection: Protection = { encrypted: true },
  alongside?: (session: number) => Promise<void>,
): Promise<Uint8Array> {
  const structures = structuresOf(sealed);
  try {
    const srk = await reopenSrk(tpm, sealed.srkName, sealed.srkTemplate);
    const session = await startSession(tpm, srk, sessionTypes.hmac, protection);
    try {
      await alongside?.(session);
      const privateArea = structures.encryptedSeed
        ? await imported(tpm, srk, session, structures)
        : structures.privateArea;
      const object = await tpm.handle(async (slot) => {
        await tpm.call('Esys_Load', srk.handle, session, tpm.none, tpm.none, privateArea, structures.publicArea, slot);
      });
      try {
        return await unsealObject(tpm, object, srk, session, sealed);
      } finally {
        await tpm.release(object);
      }
    } finally {
      await tpm.release(session);
      await tpm.release(srk.handle);
    }
  } catch (error) {
    throw tpmFailure(error);
  }
}

async function unsealObject(
  tpm: Tpm,
  object: number,
  srk: Srk,
  session: number,
  sealed: SealedObject,
): Promise<Uint8Array> {
  const way = 'private' in sealed ? resealHint : 'enroll this machine again and push to it';
  const hint = `if the change was yours, ${way}; if not, somebody changed what boots`;
  for (let attempt = 0; ; attempt++) {
    const policySession = await startSession(tpm, srk, sessionTypes.policy, { encrypted: false });
    try {
      await satisfy(tpm, policySession, sealed.policy, hint);
      return await tpm.outputs(
        1,
        async (slot) => {
          // The second session encrypts the parameters: with encryption on the policy session, ESYS returned wrong
          // data.
          await tpm.call('Esys_Unseal', object, policySession, session, tpm.none, slot);
        },
        ([pointer = 0n]) => {
          // TPM2B_SENSITIVE_DATA is a TPM2B_DIGEST on the wire, up to 64 bytes.
          const secret = fromStructure('TPM2B_DIGEST', pointer);
          tpm.wipe(pointer, secret.length + 2);
          const content = contentOf(secret);
          secret.fill(0);
          return content;
        },
      );
    } catch (error) {
      const isMoved = error instanceof PcrsMoved || (error instanceof TpmError && error.is('pcrChanged'));
      if (isMoved && attempt < pcrChangeRetries) continue;
      if (error instanceof TpmError && error.is('policyFail')) throw await mismatch(tpm, sealed.policy, hint, error);
      throw error;
    } finally {
      await tpm.release(policySession);
    }
  }
}

/**
 * Starts a session salted to the SRK, so that nobody on the bus can compute the keys that encrypt its parameters (part
 * 1, section 19.6).
 * @throws TpmError
 */
export async function startSession(tpm: Tpm, srk: Srk, type: number, { encrypted }: Protection): Promise<number> {
  const session = await tpm.handle(async (slot) => {
    await tpm.call(
      'Esys_StartAuthSession',
      srk.handle,
      tpm.none,
      tpm.none,
      tpm.none,
      tpm.none,
      null,
      type,
      toStructure('TPMT_SYM_DEF', aes128Cfb),
      algorithms.sha256,
      slot,
    );
  });
  if (type === sessionTypes.hmac)
    await tpm.call('Esys_TRSess_SetAttributes', session, encrypted ? encryptedSession : plainSession, 0xff);
  return session;
}

/** Refuses a secret that does not fit into a sealed object. @throws RangeError for more than 64 bytes */
export function refuseLong(secret: Uint8Array): void {
  if (secret.length > longestSecret)
    throw new RangeError(`a secret of ${String(secret.length)} bytes does not fit into a sealed object`);
}

/**
 * TPM2B_SENSITIVE_CREATE with an empty authorization value (part 2, tables 145 and 146), in a single buffer, which the
 * caller wipes.
 */
function sensitiveCreate(secret: Uint8Array): Uint8Array {
  refuseLong(secret);
  const wire = new Uint8Array(6 + secret.length);
  wire.set(u16(4 + secret.length));
  wire.set(u16(secret.length), 4);
  wire.set(secret, 6);
  return wire;
}

interface Structures {
  readonly publicArea: Buffer;
  /** The duplicate's, if there is an encrypted seed. */
  readonly privateArea: Buffer;
  readonly encryptedSeed: Buffer | undefined;
}

function structuresOf(sealed: SealedObject): Structures {
  const isNative = 'private' in sealed;
  try {
    return {
      publicArea: toStructure('TPM2B_PUBLIC', sealed.public),
      privateArea: toStructure('TPM2B_PRIVATE', isNative ? sealed.private : sealed.duplicate),
      encryptedSeed: isNative ? undefined : toStructure('TPM2B_ENCRYPTED_SECRET', sealed.encryptedSeed),
    };
  } catch (error) {
    throw damaged(error);
  }
}

const damaged = (cause: unknown): Failure =>
  new Failure('malformed', 'the sealed object is damaged', {
    hint: 'restore seeds.age from a backup, or open it with a recovery identity and seal again',
    cause,
  });

/**
 * Imports an object that another machine sealed to this TPM's SRK, which was verified before (TPM2_Import, part 3,
 * section 13.3).
 * @returns a private area that the TPM can load
 * @throws Failure `malformed` if the TPM rejects it
 */
async function imported(
  tpm: Tpm,
  srk: Srk,
  session: number,
  { publicArea, privateArea, encryptedSeed }: Structures,
): Promise<Buffer> {
  try {
    return await tpm.outputs(
      1,
      async (slot) => {
        await tpm.call(
          'Esys_Import',
          srk.handle,
          session,
          tpm.none,
          tpm.none,
          toStructure('TPM2B_DATA', u16(0)),
          publicArea,
          privateArea,
          encryptedSeed ?? null,
          toStructure('TPMT_SYM_DEF_OBJECT', u16(algorithms.null)),
          slot,
        );
      },
      ([pointer = 0n]) => toStructure('TPM2B_PRIVATE', fromStructure('TPM2B_PRIVATE', pointer)),
    );
  } catch (error) {
    // For an RSA seed that does not decrypt, libtpms returns TPM_RC_FAILURE. A TPM in failure mode would have refused
    // the session before.
    throw error instanceof TpmError && (error.ofParameter || error.is('failure')) ? damaged(error) : error;
  }
}

/** The failure for a policy that the TPM found unsatisfied. */
async function mismatch(tpm: Tpm, policy: TpmPolicy, hint: string, cause: TpmError): Promise<Failure> {
  return branchMismatch(policy, await readPcrs(tpm, pcrsOfPolicy(policy)), hint, cause);
}
