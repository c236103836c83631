/**
 * A counter of which the TPM itself says, signed with a key that never leaves it: this was its value, at this time of
 * the TPM's own clock, when somebody gave me this digest (TPM2_NV_Certify, part 3, section 31.16). Nobody can have such
 * a statement made for the past: the counter, the clock and the number of resets only grow, and TPM2_Clear, which sets
 * the latter two back, also takes the key away (part 3, section 24.6).
 */
import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { concat, hex, sameBytes, utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { counterLength, counterPublic, counterValue } from './nv-data.ts';
import { tpmFailure } from './response.ts';
import { createPrimary, nameOfPublic, openPersistent } from './srk.ts';
import { esysHandles, type Tpm } from './tpm.ts';
import {
  algorithms,
  contentOf,
  fromStructure,
  indexText,
  nistP256,
  nvWritten,
  padded,
  sized,
  toStructure,
  u16,
  u32,
} from './wire.ts';

/** In the owner's range (TCG Registry of Reserved TPM 2.0 Handles, section 2.2.2), apart from the store's counters. */
export const attestedIndex = 0x01a0c5a0;

/**
 * As the store's counter, and TPMA_NV_ORDERLY: the TPM counts in its RAM and writes its NV memory once in a few hundred
 * increments. After a power cut it continues at the next multiple (part 1, section 37.2.4.3).
 */
const attributes = 0x06040014;

/** {@link attributes}, and those of an index that was incremented. */
const possible = [attributes, attributes | nvWritten];

/** The Name of the index once it was incremented, 34 bytes. No other kind of index has it. */
const attestedCounterName = (): Uint8Array => nameOfPublic(counterPublic(attestedIndex, attributes | nvWritten));

/** fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign (part 2, table 31). */
const keyAttributes = 0x00050472;
const coordinateLength = 32;
/** `unique` makes it a key of this purpose alone: x is text, padded with zeros. */
const purpose = Uint8Array.from({ length: coordinateLength }, (_, i) => utf8('auxcred audit')[i] ?? 0);
const keyTemplate = sized(
  Uint8Array.from([
    ...u16(algorithms.ecc),
    ...u16(algorithms.sha256),
    ...u32(keyAttributes),
    ...u16(0),
    ...u16(algorithms.null),
    ...u16(algorithms.ecdsa),
    ...u16(algorithms.sha256),
    ...u16(nistP256),
    ...u16(algorithms.null),
    ...sized(purpose),
    ...u16(0),
  ]),
);

/** What the TPM signed, in its wire form. */
export interface Statement {
  /** TPMS_ATTEST. */
  readonly attest: Uint8Array;
  /** TPMT_SIGNATURE: ECDSA on P-256 with SHA-256. */
  readonly signature: Uint8Array;
}

/** What a {@link Statement} says. */
export interface AttestedCount {
  /** The digest that was given, 32 bytes. */
  readonly digest: Uint8Array;
  readonly count: number;
  /** Milliseconds for which the TPM had power since it was made or cleared. */
  readonly clock: number;
  /** The number of resets, plus a constant of the key, modulo 2^32 (part 1, section 36.7). */
  readonly resets: number;
}

/**
 * Increments the counter, which it defines if there is none, and has the TPM sign its value together with `digest`.
 * Takes a handful of commands, the slowest of which makes the key.
 * @param digest - 32 bytes
 * @returns what it signed, and the public key
 * @throws Failure `tpm` if the owner hierarchy has a password, or another index or no room is there
 */
export async function countAndAttest(
  tpm: Tpm,
  digest: Uint8Array,
): Promise<{ readonly statement: Statement; readonly key: KeyObject }> {
  try {
    const key = await createPrimary(tpm, esysHandles.owner, keyTemplate);
    try {
      const index = (await findIndex(tpm)) ?? (await defineIndex(tpm));
      await tpm.call('Esys_NV_Increment', index, index, esysHandles.password, tpm.none, tpm.none);
      // ESYS knows the Name of an index without TPMA_NV_WRITTEN until it reads the index again.
      const statement = await certify(tpm, key.handle, (await findIndex(tpm)) ?? index, digest);
      return { statement, key: publicKeyIn(key.public) };
    } finally {
      await tpm.release(key.handle);
    }
  } catch (error) {
    throw tpmFailure(error);
  }
}

/** The key that signs, which this TPM makes again each time until it is cleared. @throws Failure `tpm` */
export async function attestingKey(tpm: Tpm): Promise<KeyObject> {
  try {
    const { handle, public: area } = await createPrimary(tpm, esysHandles.owner, keyTemplate);
    await tpm.release(handle);
    return publicKeyIn(area);
  } catch (error) {
    throw tpmFailure(error);
  }
}

/** The counter's present value; undefined if there is none. @throws Failure `tpm` */
export async function attestedCount(tpm: Tpm): Promise<number | undefined> {
  try {
    const index = await findIndex(tpm);
    if (index === undefined) return undefined;
    return await counterValue(tpm, index, esysHandles.password);
  } catch (error) {
    throw tpmFailure(error);
  }
}

/** The public key in a TPM2B_PUBLIC that was made from {@link keyTemplate}: x and y are at its end. */
function publicKeyIn(area: Uint8Array): KeyObject {
  const reader = new Bytes(area.subarray(keyTemplate.length - 2 - (2 + coordinateLength)));
  const [x, y] = [reader.sized(), reader.sized()].map((bytes) =>
    Buffer.from(padded(bytes, coordinateLength)).toString('base64url'),
  );
  if (x === undefined || y === undefined) throw new Failure('tpm', 'the TPM returned no public key');
  return createPublicKey({ format: 'jwk', key: { kty: 'EC', crv: 'P-256', x, y } });
}

/** The handle of the counter; undefined if there is none. @throws Failure `tpm` if something else has the index */
async function findIndex(tpm: Tpm): Promise<number | undefined> {
  const found = await openPersistent(tpm, attestedIndex);
  if (!found) return undefined;
  const isOurs = possible.some((bits) => sameBytes(found.name, nameOfPublic(counterPublic(attestedIndex, bits))));
  if (isOurs) return found.handle;
  const text = indexText(attestedIndex);
  throw new Failure('tpm', `the TPM's index ${text} is not the audit counter`, {
    hint: `tpm2_nvundefine -C o ${text} removes it, if nothing needs it`,
  });
}

async function defineIndex(tpm: Tpm): Promise<number> {
  return await tpm.persistentHandle(async (slot) => {
    await tpm.call(
      'Esys_NV_DefineSpace',
      esysHandles.owner,
      esysHandles.password,
      tpm.none,
      tpm.none,
      toStructure('TPM2B_DIGEST', u16(0)),
      toStructure('TPM2B_NV_PUBLIC', sized(counterPublic(attestedIndex, attributes))),
      slot,
    );
  });
}

async function certify(tpm: Tpm, key: number, index: number, digest: Uint8Array): Promise<Statement> {
  const [attest, signature] = await tpm.outputs(
    2,
    async (...slots) => {
      await tpm.call(
        'Esys_NV_Certify',
        key,
        index,
        index,
        esysHandles.password,
        esysHandles.password,
        tpm.none,
        toStructure('TPM2B_DATA', sized(digest)),
        toStructure('TPMT_SIG_SCHEME', u16(algorithms.null)),
        counterLength,
        0,
        ...slots,
      );
    },
    ([attestPointer = 0n, signaturePointer = 0n]) => [
      contentOf(fromStructure('TPM2B_ATTEST', attestPointer)),
      fromStructure('TPMT_SIGNATURE', signaturePointer),
    ],
  );
  if (!attest || !signature) throw new Failure('tpm', 'the TPM signed nothing');
  return { attest, signature };
}

/** TPM_GENERATED_VALUE and TPM_ST_ATTEST_NV (part 2, tables 7 and 19). */
const [generated, attestNv] = [0xff544347, 0x8014];

/**
 * What a statement says, if it is one over this counter and the key signed it; undefined otherwise (part 2, tables 129
 * to 133 and 188).
 */
export function checkedStatement({ attest, signature }: Statement, key: KeyObject): AttestedCount | undefined {
  try {
    const signed = new Bytes(signature);
    if (signed.number(2) !== algorithms.ecdsa || signed.number(2) !== algorithms.sha256) return undefined;
    const parts = [signed.sized(), signed.sized()].map((part) => padded(part, coordinateLength));
    if (!signed.isEmpty || !verify('sha256', attest, { key, dsaEncoding: 'ieee-p1363' }, concat(...parts)))
      return undefined;
    const reader = new Bytes(attest);
    if (reader.number(4) !== generated || reader.number(2) !== attestNv) return undefined;
    reader.sized();
    const digest = reader.sized();
    const [clock, resets] = [reader.number(8), reader.number(4)];
    reader.take(4 + 1 + 8);
    const name = reader.sized();
    const offset = reader.number(2);
    const count = new Bytes(reader.sized()).number(8);
    const isOurs = sameBytes(name, attestedCounterName()) && offset === 0 && reader.isEmpty;
    return isOurs ? { digest, count, clock, resets } : undefined;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** Reads untrusted wire bytes. Every read throws RangeError if there are not that many. */
class Bytes {
  #rest: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#rest = bytes;
  }

  get isEmpty(): boolean {
    return this.#rest.length === 0;
  }

  take(length: number): Uint8Array {
    if (length > this.#rest.length) throw new RangeError('the structure is cut');
    const part = this.#rest.slice(0, length);
    this.#rest = this.#rest.subarray(length);
    return part;
  }

  /** @throws RangeError also for a number that is not safe */
  number(length: number): number {
    const value = Number(BigInt(`0x${hex(this.take(length))}`));
    if (!Number.isSafeInteger(value)) throw new RangeError('the number is too large');
    return value;
  }

  sized(): Uint8Array {
    return this.take(this.number(2));
  }
}
