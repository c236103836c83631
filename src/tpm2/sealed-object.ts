/** A secret that only this TPM gives back, and only while its PCRs have the recorded values. */
import { Failure, resealHint } from '../failure.ts';
import { encodeSelection, type PcrPolicy, policyDigest, readPcrs } from './pcr.ts';
import { TpmError, tpmFailure } from './response.ts';
import { findSrk, reopenSrk, type Srk } from './srk.ts';
import type { Tpm } from './tpm.ts';
import { contentOf, fromStructure, sized, toStructure, u16, u32 } from './wire.ts';

export type { PcrPolicy };

export interface SealedObject {
  /** The Name of the SRK it is sealed to, 34 bytes. */
  readonly srkName: Uint8Array;
  /** TPM2B_PUBLIC from which that SRK can be made again. */
  readonly srkTemplate: Uint8Array;
  readonly policy: PcrPolicy;
  /** TPM2B_PUBLIC. */
  readonly public: Uint8Array;
  /** TPM2B_PRIVATE. */
  readonly private: Uint8Array;
}

/**
 * fixedTPM, fixedParent and noDA (part 2, table 31). No userWithAuth: the policy is the only way in. There is no PIN to guess, and
 * without noDA every power cut between unsealing and TPM2_Shutdown would count as a wrong guess until the TPM locks itself.
 */
const sealedAttributes = 0x00000412;
const keyedHash = 0x0008;
const sha256 = 0x000b;
const none = 0x0010;
export const sessionTypes = { hmac: 0, policy: 1 } as const;
/** continueSession, decrypt, encrypt (part 2, table 32): the first parameter of each command and each response is hidden. */
const encryptedSession = 0x61;
/** continueSession and audit: a session beside the authorization has to be there for something. */
const plainSession = 0x81;
/** What a sealed object can hold (MAX_SYM_DATA in part 2) is 128 bytes, but the wire form used here, TPM2B_DIGEST, ends at 64. */
const longestSecret = 64;
const aes128Cfb = Uint8Array.from([...u16(0x0006), ...u16(128), ...u16(0x0043)]);
/** As often as systemd tries (RETRY_UNSEAL_MAX in its src/shared/tpm2-util.c). */
const pcrChangeRetries = 30;

/** How the traffic of one sealing or unsealing is protected; tests switch the encryption off to see that they would notice. */
export interface Protection {
  readonly encrypted: boolean;
}

/** Seals `secret` (at most 64 bytes) to the PCR values of `policy`. @throws Failure @throws RangeError for a longer secret */
export async function seal(tpm: Tpm, secret: Uint8Array, policy: PcrPolicy, protection: Protection = { encrypted: true }): Promise<SealedObject> {
  const template = sized(Uint8Array.from([...u16(keyedHash), ...u16(sha256), ...u32(sealedAttributes), ...sized(policyDigest(policy)), ...u16(none), ...u16(0)]));
  const wire = sensitiveCreate(secret);
  const sensitive = toStructure('TPM2B_SENSITIVE_CREATE', wire);
  try {
    const srk = await findSrk(tpm);
    const session = await startSession(tpm, srk, sessionTypes.hmac, protection);
    try {
      const [privateArea, publicArea] = await tpm.outputs(5, async (...slots) => {
        await tpm.call('Esys_Create', srk.handle, session, tpm.none, tpm.none, sensitive, toStructure('TPM2B_PUBLIC', template), toStructure('TPM2B_DATA', u16(0)), toStructure('TPML_PCR_SELECTION', u32(0)), ...slots);
      }, ([privatePointer = 0n, publicPointer = 0n]) => [fromStructure('TPM2B_PRIVATE', privatePointer), fromStructure('TPM2B_PUBLIC', publicPointer)]);
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
export async function unseal(tpm: Tpm, sealed: SealedObject, protection: Protection = { encrypted: true }, alongside?: (session: number) => Promise<void>): Promise<Uint8Array> {
  const { privateArea, publicArea } = structuresOf(sealed);
  try {
    const srk = await reopenSrk(tpm, sealed.srkName, sealed.srkTemplate);
    const session = await startSession(tpm, srk, sessionTypes.hmac, protection);
    try {
      await alongside?.(session);
      const object = await tpm.handle(async (slot) => { await tpm.call('Esys_Load', srk.handle, session, tpm.none, tpm.none, privateArea, publicArea, slot); });
      try {
        return await unsealObject(tpm, object, srk, session, sealed.policy);
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

async function unsealObject(tpm: Tpm, object: number, srk: Srk, session: number, policy: PcrPolicy): Promise<Uint8Array> {
  for (let attempt = 0; ; attempt++) {
    const policySession = await startSession(tpm, srk, sessionTypes.policy, { encrypted: false });
    try {
      if (policy.values.size > 0) {
        await tpm.call('Esys_PolicyPCR', policySession, tpm.none, tpm.none, tpm.none, toStructure('TPM2B_DIGEST', u16(0)), toStructure('TPML_PCR_SELECTION', encodeSelection([...policy.values.keys()])));
      }
      return await tpm.outputs(1, async (slot) => {
        // Parameters are encrypted by the second session: on the policy session itself ESYS has returned wrong data.
        await tpm.call('Esys_Unseal', object, policySession, session, tpm.none, slot);
      }, ([pointer = 0n]) => {
        // TPM2B_SENSITIVE_DATA is a TPM2B_DIGEST on the wire, up to 64 bytes.
        const secret = fromStructure('TPM2B_DIGEST', pointer);
        tpm.wipe(pointer, secret.length + 2);
        const content = contentOf(secret);
        secret.fill(0);
        return content;
      });
    } catch (error) {
      if (!(error instanceof TpmError)) throw error;
      if (error.is('policyFail')) throw await pcrMismatch(tpm, policy, error);
      if (!error.is('pcrChanged') || attempt === pcrChangeRetries) throw error;
    } finally {
      await tpm.release(policySession);
    }
  }
}

/** Salted to the SRK, so that nobody on the bus can compute the keys that encrypt its parameters (part 1, section 19.6). */
export async function startSession(tpm: Tpm, srk: Srk, type: number, { encrypted }: Protection): Promise<number> {
  const session = await tpm.handle(async (slot) => {
    await tpm.call('Esys_StartAuthSession', srk.handle, tpm.none, tpm.none, tpm.none, tpm.none, null, type, toStructure('TPMT_SYM_DEF', aes128Cfb), sha256, slot);
  });
  if (type === sessionTypes.hmac) await tpm.call('Esys_TRSess_SetAttributes', session, encrypted ? encryptedSession : plainSession, 0xff);
  return session;
}

/** TPM2B_SENSITIVE_CREATE with an empty authorization value (part 2, tables 145 and 146), in the one buffer that the caller wipes. */
function sensitiveCreate(secret: Uint8Array): Uint8Array {
  if (secret.length > longestSecret) throw new RangeError(`a secret of ${String(secret.length)} bytes does not fit into a sealed object`);
  const wire = new Uint8Array(6 + secret.length);
  wire.set(u16(4 + secret.length));
  wire.set(u16(secret.length), 4);
  wire.set(secret, 6);
  return wire;
}

function structuresOf(sealed: SealedObject): { privateArea: Buffer; publicArea: Buffer } {
  try {
    return { privateArea: toStructure('TPM2B_PRIVATE', sealed.private), publicArea: toStructure('TPM2B_PUBLIC', sealed.public) };
  } catch (error) {
    throw new Failure('malformed', 'the sealed object is damaged', { hint: 'restore seeds.age from a backup, or open it with a recovery identity and seal again', cause: error });
  }
}

async function pcrMismatch(tpm: Tpm, { values }: PcrPolicy, cause: TpmError): Promise<Failure> {
  const now = await readPcrs(tpm, [...values.keys()]);
  const short = (value: Uint8Array | undefined): string => Buffer.from(value ?? []).toString('hex').slice(0, 16);
  const changed = [...values].filter(([pcr, value]) => Buffer.compare(value, now.values.get(pcr) ?? new Uint8Array(0)) !== 0).map(([pcr, value]) => `PCR ${String(pcr)} (sealed at ${short(value)}, now ${short(now.values.get(pcr))})`);
  const hint = `if the change was yours, ${resealHint}; if not, somebody changed what boots`;
  if (changed.length === 0) return new Failure('malformed', 'the sealed object has another policy than the one recorded beside it', { hint, cause });
  return new Failure('pcr-mismatch', `the machine did not boot as it did when it was sealed: ${changed.join(', ')}`, { hint, cause });
}
