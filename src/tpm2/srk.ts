/** The storage root key: the parent of everything that is sealed. */
import { Failure, resealHint } from '../failure.ts';
import { TpmError } from './response.ts';
import { esysHandles, type Tpm } from './tpm.ts';
import { contentOf, fromStructure, sized, toStructure, u16, u32 } from './wire.ts';

/** Where an installed system keeps its SRK (TCG TPM v2.0 Provisioning Guidance, section 7.8). */
const persistentSrk = 0x81000001;

/** fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt (part 2, table 31). */
const srkAttributes = 0x00030472;
const none = 0x0010;
const aes128Cfb = Uint8Array.from([...u16(0x0006), ...u16(128), ...u16(0x0043)]);
const template = (type: number, parameters: readonly number[]): Uint8Array =>
  sized(Uint8Array.from([...u16(type), ...u16(0x000b), ...u32(srkAttributes), ...u16(0), ...aes128Cfb, ...u16(none), ...parameters]));

/** ECC P-256 with an empty `unique`, as systemd and tpm2-tools make it: other tools fill it in and get another key. */
const eccTemplate = template(0x0023, [...u16(0x0003), ...u16(none), ...u16(0), ...u16(0)]);
const rsaTemplate = template(0x0001, [...u16(2048), ...u32(0), ...u16(0)]);

/** The standard templates, and the bytes of an empty `unique` at their end: x and y, or the modulus. */
const standardTemplates = [{ template: eccTemplate, unique: 4 }, { template: rsaTemplate, unique: 2 }] as const;

const emptySensitive = Uint8Array.from([0, 4, 0, 0, 0, 0]);
const emptySelection = u32(0);

export interface Srk {
  readonly handle: number;
  /** Algorithm and hash of its public area, 34 bytes. */
  readonly name: Uint8Array;
  /** TPM2B_PUBLIC from which it can be made again. */
  readonly template: Uint8Array;
}

/**
 * The SRK to seal to: the persistent one, else one made from the ECC template, else from the RSA one.
 * A persistent key of another kind is left alone: it may exist outside of this TPM too (no fixedTPM), or count power cuts as wrong guesses (no noDA).
 * @throws TpmError
 */
export async function findSrk(tpm: Tpm): Promise<Srk> {
  const persistent = await openPersistent(tpm);
  const standard = persistent && await standardTemplateOf(tpm, persistent.handle);
  if (persistent && standard) return { ...persistent, template: standard };
  try {
    return await createSrk(tpm, eccTemplate);
  } catch (error) {
    if (!(error instanceof TpmError)) throw error;
    return await createSrk(tpm, rsaTemplate);
  }
}

/**
 * Exactly the SRK with this Name: the persistent one if it is it, else made again from its template.
 * @throws Failure `other-tpm` where neither is: nothing may be encrypted to a key that somebody else put there
 */
export async function reopenSrk(tpm: Tpm, name: Uint8Array, recorded: Uint8Array): Promise<Srk> {
  const persistent = await openPersistent(tpm);
  if (persistent && Buffer.compare(persistent.name, name) === 0) return { ...persistent, template: recorded };
  const made = await recreateSrk(tpm, recorded);
  if (made && Buffer.compare(made.name, name) === 0) return made;
  if (made) await tpm.release(made.handle);
  throw new Failure('other-tpm', 'the seed was sealed to another TPM, or this one was cleared', { hint: resealHint });
}

/** The key of a recorded template; undefined where this TPM can't make one like it. */
async function recreateSrk(tpm: Tpm, recorded: Uint8Array): Promise<Srk | undefined> {
  try {
    return await createSrk(tpm, recorded);
  } catch (error) {
    if (error instanceof TpmError && error.ofParameter) return undefined;
    throw error;
  }
}

async function openPersistent(tpm: Tpm): Promise<Pick<Srk, 'handle' | 'name'> | undefined> {
  try {
    const handle = await tpm.persistentHandle(async (slot) => { await tpm.call('Esys_TR_FromTPMPublic', persistentSrk, tpm.none, tpm.none, tpm.none, slot); });
    return { handle, name: await nameOf(tpm, handle) };
  } catch (error) {
    if (error instanceof TpmError && error.is('handle')) return undefined;
    throw error;
  }
}

/** The standard template that a key has the attributes and algorithms of, if there is one. */
async function standardTemplateOf(tpm: Tpm, handle: number): Promise<Uint8Array | undefined> {
  const area = await tpm.outputs(3, async (...slots) => { await tpm.call('Esys_ReadPublic', handle, tpm.none, tpm.none, tpm.none, ...slots); },
    ([pointer = 0n]) => contentOf(fromStructure('TPM2B_PUBLIC', pointer)));
  return standardTemplates.find(({ template: { length }, template: standard, unique }) => Buffer.compare(area.subarray(0, length - 2 - unique), contentOf(standard).subarray(0, -unique)) === 0)?.template;
}

async function createSrk(tpm: Tpm, publicTemplate: Uint8Array): Promise<Srk> {
  const handle = await tpm.handle(async (slot) => {
    await tpm.outputs(4, async (...slots) => {
      await tpm.call('Esys_CreatePrimary', esysHandles.owner, esysHandles.password, tpm.none, tpm.none,
        toStructure('TPM2B_SENSITIVE_CREATE', emptySensitive), toStructure('TPM2B_PUBLIC', publicTemplate),
        toStructure('TPM2B_DATA', u16(0)), toStructure('TPML_PCR_SELECTION', emptySelection), slot, ...slots);
    }, () => undefined);
  });
  return { handle, name: await nameOf(tpm, handle), template: publicTemplate };
}

/** The Name of a key or an NV index, 34 bytes. @throws TpmError */
export async function nameOf(tpm: Tpm, handle: number): Promise<Uint8Array> {
  return await tpm.outputs(1, async (slot) => { await tpm.call('Esys_TR_GetName', handle, slot); }, ([pointer = 0n]) => contentOf(fromStructure('TPM2B_NAME', pointer)));
}
