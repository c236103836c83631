/**
 * The TPM's structures in their wire form (big-endian, TPM 2.0 part 2). This project reads and writes wire bytes only.
 * The C structures of ESYS stay opaque; libtss2-mu converts them.
 */
import { bind, type NativeFunction } from '../system/ffi.ts';
import { TpmError } from './response.ts';

/** Bytes. More than the largest structure in use (TPM2B_ATTEST, 2306 bytes), so that no exact size is needed. */
const structureSize = 4096;

const signatures = {
  Tss2_MU_TPM2B_PUBLIC_Unmarshal: 'u:pzpp',
  Tss2_MU_TPM2B_PUBLIC_Marshal: 'u:ppzp',
  Tss2_MU_TPM2B_PRIVATE_Unmarshal: 'u:pzpp',
  Tss2_MU_TPM2B_PRIVATE_Marshal: 'u:ppzp',
  Tss2_MU_TPM2B_SENSITIVE_CREATE_Unmarshal: 'u:pzpp',
  Tss2_MU_TPM2B_ENCRYPTED_SECRET_Unmarshal: 'u:pzpp',
  Tss2_MU_TPM2B_DATA_Unmarshal: 'u:pzpp',
  Tss2_MU_TPM2B_EVENT_Unmarshal: 'u:pzpp',
  Tss2_MU_TPM2B_DIGEST_Unmarshal: 'u:pzpp',
  Tss2_MU_TPM2B_DIGEST_Marshal: 'u:ppzp',
  Tss2_MU_TPM2B_NAME_Marshal: 'u:ppzp',
  Tss2_MU_TPML_PCR_SELECTION_Unmarshal: 'u:pzpp',
  Tss2_MU_TPML_PCR_SELECTION_Marshal: 'u:ppzp',
  Tss2_MU_TPML_DIGEST_Marshal: 'u:ppzp',
  Tss2_MU_TPML_DIGEST_Unmarshal: 'u:pzpp',
  Tss2_MU_TPM2B_NAME_Unmarshal: 'u:pzpp',
  Tss2_MU_TPMT_SIGNATURE_Unmarshal: 'u:pzpp',
  Tss2_MU_TPMT_SIGNATURE_Marshal: 'u:ppzp',
  Tss2_MU_TPMT_SIG_SCHEME_Unmarshal: 'u:pzpp',
  Tss2_MU_TPM2B_ATTEST_Marshal: 'u:ppzp',
  Tss2_MU_TPMT_TK_VERIFIED_Marshal: 'u:ppzp',
  Tss2_MU_TPMT_TK_VERIFIED_Unmarshal: 'u:pzpp',
  Tss2_MU_TPMS_CAPABILITY_DATA_Marshal: 'u:ppzp',
  Tss2_MU_TPM2B_NV_PUBLIC_Unmarshal: 'u:pzpp',
  Tss2_MU_TPM2B_NV_PUBLIC_Marshal: 'u:ppzp',
  Tss2_MU_TPM2B_MAX_NV_BUFFER_Marshal: 'u:ppzp',
  Tss2_MU_TPM2B_ID_OBJECT_Unmarshal: 'u:pzpp',
  Tss2_MU_TPMT_SYM_DEF_Unmarshal: 'u:pzpp',
  Tss2_MU_TPMT_SYM_DEF_OBJECT_Unmarshal: 'u:pzpp',
} as const;

type Call = keyof typeof signatures;

let library: Record<Call, NativeFunction> | undefined;
/** Loaded on first use: a machine that seals to its host key needs no libtss2. */
const mu = (): Record<Call, NativeFunction> => (library ??= bind('libtss2-mu.so.0', signatures));

type Unmarshalled = { [Name in Call]: Name extends `Tss2_MU_${infer Type}_Unmarshal` ? Type : never }[Call];
type Marshalled = { [Name in Call]: Name extends `Tss2_MU_${infer Type}_Marshal` ? Type : never }[Call];

/**
 * Converts wire bytes to a C structure for ESYS. The caller wipes it if it holds a secret.
 * @throws TpmError if the bytes are not exactly one such structure. mu itself checks neither trailing bytes nor the
 * size of a TPM2B_PUBLIC
 */
export function toStructure(type: Unmarshalled, wire: Uint8Array): Buffer {
  const structure = Buffer.alloc(structureSize);
  const offset = Buffer.alloc(8);
  const code = Number(mu()[`Tss2_MU_${type}_Unmarshal`](wire, wire.length, offset, structure));
  if (code !== 0) throw new TpmError(`unmarshalling ${type}`, code);
  const isWhole = !type.startsWith('TPM2B') || (wire[0] ?? 0) * 256 + (wire[1] ?? 0) === wire.length - 2;
  if (!isWhole || offset.readBigUInt64LE() !== BigInt(wire.length))
    throw new TpmError(`unmarshalling ${type} of another length`, 0x90006);
  return structure;
}

/** Converts the C structure at a pointer that ESYS returned to wire bytes. @throws TpmError */
export function fromStructure(type: Marshalled, structure: bigint): Uint8Array {
  const wire = Buffer.alloc(structureSize);
  const offset = Buffer.alloc(8);
  try {
    const code = Number(mu()[`Tss2_MU_${type}_Marshal`](structure, wire, wire.length, offset));
    if (code !== 0) throw new TpmError(`marshalling ${type}`, code);
    return Uint8Array.from(wire.subarray(0, Number(offset.readBigUInt64LE())));
  } finally {
    wire.fill(0);
  }
}

/** Two bytes, big-endian. */
export const u16 = (value: number): Uint8Array => Uint8Array.of((value >> 8) & 0xff, value & 0xff);
/** Four bytes, big-endian. */
export const u32 = (value: number): Uint8Array =>
  Uint8Array.of((value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
/** TPM_ALG_ID (part 2, table 9). */
export const algorithms = {
  rsa: 0x0001,
  aes: 0x0006,
  keyedHash: 0x0008,
  sha256: 0x000b,
  sha384: 0x000c,
  null: 0x0010,
  rsassa: 0x0014,
  ecdsa: 0x0018,
  ecc: 0x0023,
  cfb: 0x0043,
} as const;
/** TPM_ECC_NIST_P256 (part 2, table 10). */
export const nistP256 = 0x0003;
/** TPM_ECC_NIST_P384. */
export const nistP384 = 0x0004;
/** TPMT_SYM_DEF and TPMT_SYM_DEF_OBJECT of AES-128-CFB. */
export const aes128Cfb = Uint8Array.from([...u16(algorithms.aes), ...u16(128), ...u16(algorithms.cfb)]);
/** The same of AES-256-CFB. */
export const aes256Cfb = Uint8Array.from([...u16(algorithms.aes), ...u16(256), ...u16(algorithms.cfb)]);
/** TPMA_NV_WRITTEN (part 2, table 217): the index has been written or incremented, and so has a value. */
export const nvWritten = 0x20000000;
/** A handle or NV index as tpm2-tools write it: `0x1a0c4ed`. */
export const indexText = (index: number): string => `0x${index.toString(16)}`;
/** A number in `length` bytes, big-endian: a TPM may leave out zeros in front. */
export function padded(number: Uint8Array, length: number): Uint8Array {
  const bytes = new Uint8Array(Math.max(length, number.length));
  bytes.set(number, bytes.length - number.length);
  return bytes;
}
/** A TPM2B: two bytes of size, then the content. */
export const sized = (content: Uint8Array): Uint8Array => Uint8Array.from([...u16(content.length), ...content]);
/** The content of a TPM2B. */
export const contentOf = (tpm2b: Uint8Array): Uint8Array => tpm2b.slice(2);

/** Splits `bytes` into the contents of TPM2B; undefined if they are not a sequence of those. */
export function contentsIn(bytes: Uint8Array): Uint8Array[] | undefined {
  const all: Uint8Array[] = [];
  for (let offset = 0; offset < bytes.length; ) {
    const end = offset + 2 + (bytes[offset] ?? 0) * 256 + (bytes[offset + 1] ?? 0);
    if (end > bytes.length) return undefined;
    all.push(bytes.slice(offset + 2, end));
    offset = end;
  }
  return all;
}
