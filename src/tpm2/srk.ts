/** The storage root key (SRK), the parent of all sealed objects. */

import { createHash } from 'node:crypto';
import { sameBytes } from '../bytes.ts';
import { Failure, resealHint } from '../failure.ts';
import { TpmError } from './response.ts';
import { esysHandles, type Tpm } from './tpm.ts';
import {
  aes128Cfb,
  algorithms,
  contentOf,
  contentsIn,
  fromStructure,
  nistP256,
  sized,
  toStructure,
  u16,
  u32,
} from './wire.ts';

/** The handle of a persistent SRK (TCG TPM v2.0 Provisioning Guidance, section 7.8). */
const persistentSrk = 0x81000001;

/** fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt (part 2, table 31). */
const srkAttributes = 0x00030472;
const template = (type: number, parameters: readonly number[]): Uint8Array =>
  sized(
    Uint8Array.from([
      ...u16(type),
      ...u16(algorithms.sha256),
      ...u32(srkAttributes),
      ...u16(0),
      ...aes128Cfb,
      ...u16(algorithms.null),
      ...parameters,
    ]),
  );

/** ECC P-256 with an empty `unique`, as in systemd and tpm2-tools. Tools that fill it in get another key. */
const eccTemplate = template(algorithms.ecc, [...u16(nistP256), ...u16(algorithms.null), ...u16(0), ...u16(0)]);
const rsaTemplate = template(algorithms.rsa, [...u16(2048), ...u32(0), ...u16(0)]);

/** The standard templates, and the number of TPM2B in their empty `unique` at the end: x and y, or the modulus. */
const standardTemplates = [
  { template: eccTemplate, fields: 2 },
  { template: rsaTemplate, fields: 1 },
] as const;

const emptySensitive = Uint8Array.from([0, 4, 0, 0, 0, 0]);
const emptySelection = u32(0);

/** A loaded SRK. */
export interface Srk {
  readonly handle: number;
  /** The Name: algorithm and hash of the public area, 34 bytes. */
  readonly name: Uint8Array;
  /** TPM2B_PUBLIC from which the TPM can make the key again. */
  readonly template: Uint8Array;
}

/** The SRK that something was sealed to. */
export interface RecordedSrk {
  /** 34 bytes. */
  readonly srkName: Uint8Array;
  /** TPM2B_PUBLIC from which the TPM can make the key again. */
  readonly srkTemplate: Uint8Array;
}

/** The public half of an SRK: all that another machine needs to seal to it. */
export interface SrkPublic extends Pick<Srk, 'name' | 'template'> {
  /** TPM2B_PUBLIC. */
  readonly public: Uint8Array;
  /** x and y of a point of P-256, or the modulus of RSA 2048 alone, whose exponent is 65537. */
  readonly unique: readonly Uint8Array[];
}

/** Parses a TPM2B_PUBLIC; undefined unless it has exactly the attributes and algorithms of a standard SRK. */
export function parseSrkPublic(publicArea: Uint8Array): SrkPublic | undefined {
  const area = contentOf(publicArea);
  if (!sameBytes(sized(area), publicArea)) return undefined;
  for (const { template: standard, fields } of standardTemplates) {
    const common = contentOf(standard).subarray(0, -2 * fields);
    const unique = sameBytes(area.subarray(0, common.length), common)
      ? contentsIn(area.subarray(common.length))
      : undefined;
    if (unique?.length === fields) return { name: nameOfPublic(area), template: standard, public: publicArea, unique };
  }
  return undefined;
}

/** The Name of an object with this TPMT_PUBLIC and the name algorithm SHA-256 (part 1, section 16). */
export const nameOfPublic = (area: Uint8Array): Uint8Array =>
  Uint8Array.from([...u16(algorithms.sha256), ...createHash('sha256').update(area).digest()]);

/**
 * Reads the public half of the SRK that {@link findSrk} finds. @throws TpmError @throws Failure `tpm`
 */
export async function readSrkPublic(tpm: Tpm): Promise<SrkPublic> {
  const { handle, name } = await findSrk(tpm);
  try {
    const srk = parseSrkPublic(await readPublic(tpm, handle));
    if (!srk || !sameBytes(srk.name, name))
      throw new Failure('tpm', 'the SRK of this TPM is not the one that was asked for');
    return srk;
  } finally {
    await tpm.release(handle);
  }
}

/**
 * Finds the SRK to seal to: the persistent one, else one made from the ECC template, else from the RSA one.
 * Does not use a persistent key of another kind: it may exist outside of this TPM (no fixedTPM), or count power cuts as
 * wrong guesses (no noDA).
 * @throws TpmError
 */
export async function findSrk(tpm: Tpm): Promise<Srk> {
  const persistent = await openPersistent(tpm, persistentSrk);
  const standard = persistent && parseSrkPublic(await readPublic(tpm, persistent.handle));
  if (persistent && standard) return { ...persistent, template: standard.template };
  try {
    return await createSrk(tpm, eccTemplate);
  } catch (error) {
    if (!(error instanceof TpmError)) throw error;
    return await createSrk(tpm, rsaTemplate);
  }
}

/**
 * Opens the SRK with this Name: the persistent one if that is the one, else made again from its template.
 * @throws Failure `other-tpm` if neither has the Name: nothing may be encrypted to a key that somebody else put there
 */
export async function reopenSrk(tpm: Tpm, name: Uint8Array, recorded: Uint8Array): Promise<Srk> {
  const persistent = await openPersistent(tpm, persistentSrk);
  if (persistent && sameBytes(persistent.name, name)) return { ...persistent, template: recorded };
  const made = await recreateSrk(tpm, recorded);
  if (made && sameBytes(made.name, name)) return made;
  if (made) await tpm.release(made.handle);
  throw new Failure('other-tpm', 'the seed was sealed to another TPM, or this one was cleared', { hint: resealHint });
}

/**
 * Opens the recorded SRK and no other, or finds one to seal to if none is recorded.
 * @throws Failure `other-tpm` @throws TpmError
 */
export const openSrk = async (tpm: Tpm, recorded: RecordedSrk | undefined): Promise<Srk> =>
  recorded === undefined ? await findSrk(tpm) : await reopenSrk(tpm, recorded.srkName, recorded.srkTemplate);

/** Makes the key of a recorded template; undefined if this TPM can't. */
async function recreateSrk(tpm: Tpm, recorded: Uint8Array): Promise<Srk | undefined> {
  try {
    return await createSrk(tpm, recorded);
  } catch (error) {
    if (error instanceof TpmError && error.ofParameter) return undefined;
    throw error;
  }
}

/** Opens a persistent key or an NV index; undefined if there is none at that handle. @throws TpmError */
export async function openPersistent(tpm: Tpm, at: number): Promise<Pick<Srk, 'handle' | 'name'> | undefined> {
  try {
    const handle = await tpm.persistentHandle(async (slot) => {
      await tpm.call('Esys_TR_FromTPMPublic', at, tpm.none, tpm.none, tpm.none, slot);
    });
    return { handle, name: await nameOf(tpm, handle) };
  } catch (error) {
    if (error instanceof TpmError && error.is('handle')) return undefined;
    throw error;
  }
}

/** The TPM2B_PUBLIC of a loaded key. @throws TpmError */
export async function readPublic(tpm: Tpm, handle: number): Promise<Uint8Array> {
  return await tpm.outputs(
    3,
    async (...slots) => {
      await tpm.call('Esys_ReadPublic', handle, tpm.none, tpm.none, tpm.none, ...slots);
    },
    ([pointer = 0n]) => fromStructure('TPM2B_PUBLIC', pointer),
  );
}

const createSrk = async (tpm: Tpm, publicTemplate: Uint8Array): Promise<Srk> => ({
  ...(await createPrimary(tpm, esysHandles.owner, publicTemplate)),
  template: publicTemplate,
});

/**
 * Makes the key that a hierarchy has for a template (TPM2_CreatePrimary, part 3, section 24.1), with an empty
 * authorization value.
 * @param hierarchy - owner or endorsement, with an empty authorization value too
 * @param publicTemplate - TPM2B_PUBLIC
 * @returns its handle, its Name and its TPM2B_PUBLIC
 * @throws TpmError
 */
export async function createPrimary(
  tpm: Tpm,
  hierarchy: number,
  publicTemplate: Uint8Array,
): Promise<Pick<Srk, 'handle' | 'name'> & { readonly public: Uint8Array }> {
  let area: Uint8Array = new Uint8Array();
  const handle = await tpm.handle(async (slot) => {
    area = await tpm.outputs(
      4,
      async (...slots) => {
        await tpm.call(
          'Esys_CreatePrimary',
          hierarchy,
          esysHandles.password,
          tpm.none,
          tpm.none,
          toStructure('TPM2B_SENSITIVE_CREATE', emptySensitive),
          toStructure('TPM2B_PUBLIC', publicTemplate),
          toStructure('TPM2B_DATA', u16(0)),
          toStructure('TPML_PCR_SELECTION', emptySelection),
          slot,
          ...slots,
        );
      },
      ([pointer = 0n]) => fromStructure('TPM2B_PUBLIC', pointer),
    );
  });
  return { handle, name: await nameOf(tpm, handle), public: area };
}

/** The Name of a key or an NV index, 34 bytes. @throws TpmError */
export async function nameOf(tpm: Tpm, handle: number): Promise<Uint8Array> {
  return await tpm.outputs(
    1,
    async (slot) => {
      await tpm.call('Esys_TR_GetName', handle, slot);
    },
    ([pointer = 0n]) => contentOf(fromStructure('TPM2B_NAME', pointer)),
  );
}
