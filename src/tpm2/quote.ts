/** What a TPM states about itself under its AK: which PCR values it has, and that a key is its own. */
import type { Credential } from './credential.ts';
import type { Ek } from './endorsement-key.ts';
import { encodeSelection } from './policy.ts';
import { sessionTypes } from './sealed-object.ts';
import { esysHandles, type Tpm } from './tpm.ts';
import { algorithms, contentOf, fromStructure, sized, toStructure, u16 } from './wire.ts';

/** A signed statement of a TPM. */
export interface SignedStatement {
  /** TPMS_ATTEST (part 2, table 137). */
  readonly attest: Uint8Array;
  /** TPMT_SIGNATURE. */
  readonly signature: Uint8Array;
}

/** The key's own scheme: TPMT_SIG_SCHEME of TPM_ALG_NULL. */
const ownScheme = u16(algorithms.null);

/** Has the AK sign the digest of PCRs of the SHA-256 bank (TPM2_Quote, part 3, section 18.4). @throws TpmError */
export const quote = async (
  tpm: Tpm,
  ak: number,
  nonce: Uint8Array,
  pcrs: readonly number[],
): Promise<SignedStatement> =>
  await signed(tpm, async (...slots) => {
    await tpm.call(
      'Esys_Quote',
      ak,
      esysHandles.password,
      tpm.none,
      tpm.none,
      toStructure('TPM2B_DATA', sized(nonce)),
      toStructure('TPMT_SIG_SCHEME', ownScheme),
      toStructure('TPML_PCR_SELECTION', encodeSelection(pcrs)),
      ...slots,
    );
  });

/**
 * Has the AK sign the Name of a key in the same TPM (TPM2_Certify, part 3, section 18.2). The key has an empty
 * authorization value.
 * @throws TpmError
 */
export const certify = async (tpm: Tpm, ak: number, nonce: Uint8Array, key: number): Promise<SignedStatement> =>
  await signed(tpm, async (...slots) => {
    await tpm.call(
      'Esys_Certify',
      key,
      ak,
      esysHandles.password,
      esysHandles.password,
      tpm.none,
      toStructure('TPM2B_DATA', sized(nonce)),
      toStructure('TPMT_SIG_SCHEME', ownScheme),
      ...slots,
    );
  });

const signed = async (tpm: Tpm, make: (...slots: Buffer[]) => Promise<void>): Promise<SignedStatement> =>
  await tpm.outputs(2, make, ([attest = 0n, signature = 0n]) => ({
    attest: contentOf(fromStructure('TPM2B_ATTEST', attest)),
    signature: fromStructure('TPMT_SIGNATURE', signature),
  }));

/**
 * Decrypts a credential that was made for this EK and a loaded key (TPM2_ActivateCredential, part 3, section 12.5).
 * @returns the secret in it
 * @throws TpmError for a credential of another EK or of another key
 */
export async function activate(tpm: Tpm, ak: number, ek: Ek, credential: Credential): Promise<Uint8Array> {
  const session = ek.public.kind.needsPolicy ? await endorsementSession(tpm) : undefined;
  try {
    return await tpm.outputs(
      1,
      async (slot) => {
        await tpm.call(
          'Esys_ActivateCredential',
          ak,
          ek.handle,
          esysHandles.password,
          session ?? esysHandles.password,
          tpm.none,
          toStructure('TPM2B_ID_OBJECT', credential.blob),
          toStructure('TPM2B_ENCRYPTED_SECRET', credential.encryptedSeed),
          slot,
        );
      },
      ([pointer = 0n]) => contentOf(fromStructure('TPM2B_DIGEST', pointer)),
    );
  } finally {
    if (session !== undefined) await tpm.release(session);
  }
}

/**
 * A session with PolicySecret of the endorsement hierarchy, whose authorization value is empty (part 3, section 23.4).
 */
async function endorsementSession(tpm: Tpm): Promise<number> {
  const session = await tpm.handle(async (slot) => {
    await tpm.call(
      'Esys_StartAuthSession',
      tpm.none,
      tpm.none,
      tpm.none,
      tpm.none,
      tpm.none,
      null,
      sessionTypes.policy,
      toStructure('TPMT_SYM_DEF', u16(algorithms.null)),
      algorithms.sha256,
      slot,
    );
  });
  const empty = toStructure('TPM2B_DIGEST', u16(0));
  await tpm.outputs(
    2,
    async (...slots) => {
      await tpm.call(
        'Esys_PolicySecret',
        esysHandles.endorsement,
        session,
        esysHandles.password,
        tpm.none,
        tpm.none,
        empty,
        empty,
        empty,
        0,
        ...slots,
      );
    },
    () => undefined,
  );
  return session;
}
