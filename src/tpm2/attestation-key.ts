/**
 * The attestation key (AK): a restricted signing key, which signs only what the TPM itself states. It is a primary key
 * of the endorsement hierarchy, so the TPM makes the same one again from the template and nothing has to be kept.
 */

import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { sameBytes } from '../bytes.ts';
import { TpmError } from './response.ts';
import { createPrimary, nameOfPublic, readPublic } from './srk.ts';
import { esysHandles, type Tpm } from './tpm.ts';
import { algorithms, contentOf, contentsIn, nistP256, padded, sized, u16, u32 } from './wire.ts';

/** fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign (part 2, table 31). */
const attributes = 0x00050472;
/** What decides that only the TPM's own statements are signed, by a key that can't leave it. */
const required = { fixedTpm: 0x2, sensitiveDataOrigin: 0x20, restricted: 0x10000, sign: 0x40000 } as const;

const common = (type: number, scheme: number): number[] => [
  ...u16(type),
  ...u16(algorithms.sha256),
  ...u32(attributes),
  ...u16(0),
  ...u16(algorithms.null),
  ...u16(scheme),
  ...u16(algorithms.sha256),
];
const ecc = [...common(algorithms.ecc, algorithms.ecdsa), ...u16(nistP256), ...u16(algorithms.null)];
const rsa = [...common(algorithms.rsa, algorithms.rsassa), ...u16(2048), ...u32(0)];
const templates = [
  { fixed: Uint8Array.from(ecc), unique: 2 },
  { fixed: Uint8Array.from(rsa), unique: 1 },
] as const;
/** The offset of the attributes in a TPMT_PUBLIC (part 2, table 200). */
const attributesAt = 4;

/** The public half of an AK. */
export interface AkPublic {
  /** TPM2B_PUBLIC. */
  readonly public: Uint8Array;
  /** 34 bytes. */
  readonly name: Uint8Array;
  readonly key: KeyObject;
}

/**
 * Parses a TPM2B_PUBLIC, untrusted.
 * @returns what is wrong with it, if it is not an AK with one of the templates here
 */
export function parseAkPublic(publicArea: Uint8Array): AkPublic | string {
  const area = contentOf(publicArea);
  if (area.length < 8 || !sameBytes(sized(area), publicArea)) return 'is damaged';
  const given = Buffer.from(area).readUInt32BE(attributesAt);
  if ((given & required.restricted) === 0)
    return 'is not restricted: it would sign whatever is put before it, such as a quote that no TPM made';
  if ((given & required.fixedTpm) === 0 || (given & required.sensitiveDataOrigin) === 0)
    return 'was not made in the TPM, or may leave it';
  if ((given & required.sign) === 0) return 'is not a key that signs';
  for (const { fixed, unique: count } of templates) {
    if (!sameBytes(area.subarray(0, fixed.length), fixed)) continue;
    const unique = contentsIn(area.subarray(fixed.length));
    const key = unique?.length === count ? keyIn(unique) : undefined;
    if (key) return { public: publicArea, name: nameOfPublic(area), key };
  }
  return 'has other algorithms or attributes than those of auxcred';
}

function keyIn([first = new Uint8Array(0), second]: readonly Uint8Array[]): KeyObject | undefined {
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
  try {
    if (!second && (first.length !== 256 || (first[255] ?? 0) % 2 === 0)) return undefined;
    return createPublicKey({
      format: 'jwk',
      key: second
        ? { kty: 'EC', crv: 'P-256', x: text(padded(first, 32)), y: text(padded(second, 32)) }
        : { kty: 'RSA', n: text(first), e: 'AQAB' },
    });
  } catch {
    return undefined;
  }
}

/** Makes the AK of this TPM: on P-256, else with RSA 2048. The caller releases it. @throws TpmError */
export async function createAk(tpm: Tpm): Promise<{ readonly handle: number; readonly public: Uint8Array }> {
  const make = async ({ fixed, unique }: (typeof templates)[number]): Promise<{ handle: number }> =>
    await createPrimary(
      tpm,
      esysHandles.endorsement,
      sized(Uint8Array.from([...fixed, ...new Uint8Array(2 * unique)])),
    );
  const { handle } = await make(templates[0]).catch(async (error: unknown) => {
    if (error instanceof TpmError && error.ofParameter) return await make(templates[1]);
    throw error;
  });
  return { handle, public: await readPublic(tpm, handle) };
}

/**
 * Checks a TPMT_SIGNATURE (part 2, table 190) of an AK: ECDSA or RSASSA-PKCS1-v1_5, with SHA-256. False for anything
 * else.
 */
export function verifies({ key }: AkPublic, message: Uint8Array, signature: Uint8Array): boolean {
  const isEcc = key.asymmetricKeyType === 'ec';
  const header = Uint8Array.from([...u16(isEcc ? algorithms.ecdsa : algorithms.rsassa), ...u16(algorithms.sha256)]);
  if (!sameBytes(signature.subarray(0, header.length), header)) return false;
  const [first, second, ...more] = contentsIn(signature.subarray(header.length)) ?? [];
  if (!first || more.length > 0 || isEcc !== (second !== undefined)) return false;
  if (!second) return verify('sha256', message, key, first);
  const both = Buffer.concat([padded(first, 32), padded(second, 32)]);
  return both.length === 64 && verify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, both);
}
