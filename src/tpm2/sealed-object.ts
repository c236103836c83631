/** A secret that only this TPM gives back, and only while its PCRs have the recorded values. */
import { Failure, resealHint } from '../failure.ts';
import { encodeSelection, type PcrPolicy, policyDigest, readPcrs } from './pcr.ts';
import { TpmError, tpmFailure } from './response.ts';
import { openSrk, type RecordedSrk, reopenSrk, type Srk } from './srk.ts';
import type { Tpm } from './tpm.ts';
import { aes128Cfb, algorithms, contentOf, fromStructure, sized, toStructure, u16, u32 } from './wire.ts';

export type { PcrPolicy };

/** With the SRK that it is sealed to. */
interface Sealed extends RecordedSrk {
  readonly policy: PcrPolicy;
  /** TPM2B_PUBLIC. */
  readonly public: Uint8Array;
}

/** Made by the TPM itself, and fixed to it. */
export interface NativeObject extends Sealed {
  /** TPM2B_PRIVATE. */
  readonly private: Uint8Array;
}

/** Made on another machine for this TPM, which imports it before it loads it. */
export interface ImportableObject extends Sealed {
  /** TPM2B_PRIVATE in an outer duplication wrapper. */
  readonly duplicate: Uint8Array;
  /** TPM2B_ENCRYPTED_SECRET: the seed of that wrapper, for the SRK alone. */
  readonly encryptedSeed: Uint8Array;
}

export type SealedObject = NativeObject | ImportableObject;

/**
 * fixedTPM, fixedParent and noDA (part 2, table 31). No userWithAuth: the policy is the only way in. There is no PIN to
 * guess, and without noDA every power cut between unsealing and TPM2_Shutdown would count as a wrong guess until the
 * TPM locks itself.
 */
const sealedAttributes = 0x00000412;
export const sessionTypes = { hmac: 0, policy: 1 } as const;
/**
 * continueSession, decrypt, encrypt (part 2, table 32): the first parameter of each command and each response is
 * hidden.
 */
const encryptedSession = 0x61;
/** continueSession and audit: a session beside the authorization has to be there for something. */
const plainSession = 0x81;
/**
 * What a sealed object can hold (MAX_SYM_DATA in part 2) is 128 bytes, but the wire form used here, TPM2B_DIGEST, ends
 * at 64.
 */
const longestSecret = 64;
/** As often as systemd tries (RETRY_UNSEAL_MAX in its src/shared/tpm2-util.c). */
const pcrChangeRetries = 30;

/**
 * How the traffic of one sealing or unsealing is protected; tests switch the encryption off to see that they would
 * notice.
 */
export interface Protection {
  readonly encrypted: boolean;
}

/** Which key a secret is sealed to. */
export interface SealOptions extends Protection {
  /** The only SRK that is sealed to; undefined for whichever this TPM has. */
  readonly srk?: RecordedSrk | undefined;
}

/** TPM2B_PUBLIC of a sealed object. `unique` is empty in a template. */
export const sealedPublic = (attributes: number, policy: PcrPolicy, unique: Uint8Array): Uint8Array =>
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
 * Seals `secret` (at most 64 bytes) to the PCR values of `policy`.
 * @throws Failure, `other-tpm` if this TPM has another SRK than the one that is named
 * @throws RangeError for a longer secret
 */
export async function seal(
  tpm: Tpm,
  secret: Uint8Array,
  policy: PcrPolicy,
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
 * The secret again. The caller wipes it.
 * @param alongside - what else is asked of the TPM in the same salted session, before anything is unsealed
 * @throws Failure `pcr-mismatch` that names the PCRs, `other-tpm`, `tpm-lockout`, `malformed`, `tpm`
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
  const { policy } = sealed;
  for (let attempt = 0; ; attempt++) {
    const policySession = await startSession(tpm, srk, sessionTypes.policy, { encrypted: false });
    try {
      if (policy.values.size > 0) {
        await tpm.call(
          'Esys_PolicyPCR',
          policySession,
          tpm.none,
          tpm.none,
          tpm.none,
          toStructure('TPM2B_DIGEST', u16(0)),
          toStructure('TPML_PCR_SELECTION', encodeSelection([...policy.values.keys()])),
        );
      }
      return await tpm.outputs(
        1,
        async (slot) => {
          // Parameters are encrypted by the second session: on the policy session itself ESYS has returned wrong data.
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
      if (!(error instanceof TpmError)) throw error;
      if (error.is('policyFail')) throw await pcrMismatch(tpm, sealed, error);
      if (!error.is('pcrChanged') || attempt === pcrChangeRetries) throw error;
    } finally {
      await tpm.release(policySession);
    }
  }
}

/**
 * Salted to the SRK, so that nobody on the bus can compute the keys that encrypt its parameters (part 1, section 19.6).
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

/** @throws RangeError */
export function refuseLong(secret: Uint8Array): void {
  if (secret.length > longestSecret)
    throw new RangeError(`a secret of ${String(secret.length)} bytes does not fit into a sealed object`);
}

/**
 * TPM2B_SENSITIVE_CREATE with an empty authorization value (part 2, tables 145 and 146), in the one buffer that the
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
  /** That of a duplicate if there is a seed. */
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
 * TPM2_Import (part 3, section 13.3): what the TPM can load, made of what another machine sealed to its SRK, which is
 * known to be the right one.
 * @throws Failure `malformed` if the TPM can make nothing of it
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
    // libtpms calls an RSA seed that does not decrypt a failure of its own. A TPM that does fail has refused the
    // session before.
    throw error instanceof TpmError && (error.ofParameter || error.is('failure')) ? damaged(error) : error;
  }
}

async function pcrMismatch(tpm: Tpm, sealed: SealedObject, cause: TpmError): Promise<Failure> {
  const { values } = sealed.policy;
  const now = await readPcrs(tpm, [...values.keys()]);
  const short = (value: Uint8Array | undefined): string =>
    Buffer.from(value ?? [])
      .toString('hex')
      .slice(0, 16);
  const changed = [...values]
    .filter(([pcr, value]) => Buffer.compare(value, now.values.get(pcr) ?? new Uint8Array(0)) !== 0)
    .map(([pcr, value]) => `PCR ${String(pcr)} (sealed at ${short(value)}, now ${short(now.values.get(pcr))})`);
  const hint = `if the change was yours, ${'private' in sealed ? resealHint : 'enroll this machine again and push to it'}; if not, somebody changed what boots`;
  if (changed.length === 0)
    return new Failure('malformed', 'the sealed object has another policy than the one recorded beside it', {
      hint,
      cause,
    });
  return new Failure('pcr-mismatch', `the machine did not boot as it did when it was sealed: ${changed.join(', ')}`, {
    hint,
    cause,
  });
}
