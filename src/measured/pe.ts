/** PE images: their sections, their signatures, and the Authenticode digest that firmware measures. */
import type { X509Certificate } from 'node:crypto';
import { derValuesIn } from '../der.ts';
import { Failure } from '../failure.ts';
import { type Bank, digestIn } from './bank.ts';
import { certificateIn } from './event.ts';
import { Reader, Truncated, utf8Text } from './reader.ts';

/** A section as the firmware loads it. */
export interface Section {
  readonly name: string;
  /** `VirtualSize` bytes: the file's, then zeros. */
  readonly content: Uint8Array;
}

/** A parsed image. */
export interface PeImage {
  /** In the order of the section table. */
  readonly sections: readonly Section[];
  /** Certificates inside the signatures; none for an unsigned image. */
  readonly certificates: readonly X509Certificate[];
  /** The digest over everything but checksum and signatures (Windows Authenticode PE Signature Format, page 12). */
  readonly digest: (bank: Bank) => Uint8Array;
}

/** The most bytes that the sections of an image may take in memory, where each may be larger than in the file. */
const largestLoaded = 1024 * 1024 * 1024;

const malformed = (file: string, what: string): Failure =>
  new Failure('malformed', `${file} ${what}`, { hint: 'give a UKI, a boot loader or a kernel as a PE file' });

interface SectionHeader {
  readonly name: string;
  readonly virtualSize: number;
  readonly start: number;
  readonly size: number;
}

interface Layout {
  readonly checksum: number;
  readonly directory: number | undefined;
  readonly headers: number;
  readonly sections: readonly SectionHeader[];
  /** Of the attribute certificate table. */
  readonly signatures: { readonly start: number; readonly size: number };
}

/**
 * Parses an image (Microsoft PE format, "Overview").
 * @param file - its name, for failures
 * @throws Failure `malformed` for anything but a PE image, and for one that lies about its size
 */
export function parsePe(bytes: Uint8Array, file: string): PeImage {
  let layout: Layout;
  try {
    layout = layoutOf(bytes);
  } catch (error) {
    if (error instanceof Truncated) throw malformed(file, `is not a whole PE image: ${error.message}`);
    throw error;
  }
  const { sections, signatures } = layout;
  const fits = ({ start, size }: { start: number; size: number }): boolean => start + size <= bytes.length;
  if (!fits(signatures) || !sections.every(fits) || layout.headers > bytes.length)
    throw malformed(file, 'is cut off: a part of it lies behind its end');
  // Their digest would take as long as they all are.
  if (sections.reduce((sum, { size }) => sum + size, 0) > bytes.length)
    throw malformed(file, 'has sections that overlap');
  const loaded = sections.reduce((sum, { virtualSize }) => sum + virtualSize, 0);
  if (loaded > largestLoaded) throw malformed(file, 'claims to be too large');
  return {
    sections: sections.map((section) => ({ name: section.name, content: contentOf(bytes, section) })),
    certificates: certificatesIn(bytes.subarray(signatures.start, signatures.start + signatures.size)),
    digest: (bank) => digestIn(bank, ...digested(bytes, layout)),
  };
}

function layoutOf(bytes: Uint8Array): Layout {
  const dos = new Reader(bytes);
  if (dos.u16() !== 0x5a4d) throw new Truncated('it has no MZ header');
  dos.bytes(0x3a);
  const start = dos.u32();
  const reader = new Reader(bytes);
  reader.bytes(start);
  if (reader.u32() !== 0x00004550) throw new Truncated('it has no PE header');
  reader.bytes(2);
  const sectionCount = reader.u16();
  reader.bytes(12);
  const optionalSize = reader.u16();
  reader.bytes(2);
  const optionalStart = reader.offset;
  const optional = new Reader(reader.bytes(optionalSize));
  const magic = optional.u16();
  if (magic !== 0x10b && magic !== 0x20b) throw new Truncated('it has no optional header');
  optional.bytes(58);
  const headers = optional.u32();
  const checksum = optionalStart + optional.offset;
  optional.bytes(4 + 2 + 2 + (magic === 0x20b ? 32 : 16) + 4);
  const directories = optional.u32();
  // The fifth directory is the certificate table. Its address is an offset in the file.
  let directory: number | undefined;
  let signatures = { start: 0, size: 0 };
  if (directories > 4) {
    optional.bytes(4 * 8);
    directory = optionalStart + optional.offset;
    signatures = { start: optional.u32(), size: optional.u32() };
  }
  const sections = Array.from({ length: sectionCount }, () => sectionHeader(reader));
  return { checksum, directory, headers, sections, signatures };
}

function sectionHeader(reader: Reader): SectionHeader {
  const name = utf8Text(reader.bytes(8));
  const virtualSize = reader.u32();
  reader.bytes(4);
  const [size, start] = [reader.u32(), reader.u32()];
  reader.bytes(16);
  return { name, virtualSize, start: size === 0 ? 0 : start, size };
}

function contentOf(bytes: Uint8Array, { virtualSize, start, size }: SectionHeader): Uint8Array {
  const inFile = bytes.subarray(start, start + Math.min(size, virtualSize));
  if (inFile.length === virtualSize) return inFile;
  const content = new Uint8Array(virtualSize);
  content.set(inFile);
  return content;
}

/** The ranges that the digest covers: headers, sections by their place in the file, and what follows them. */
function digested(bytes: Uint8Array, { checksum, directory, headers, sections, signatures }: Layout): Uint8Array[] {
  const header =
    directory === undefined
      ? [bytes.subarray(checksum + 4, headers)]
      : [bytes.subarray(checksum + 4, directory), bytes.subarray(directory + 8, headers)];
  const inFile = sections.filter(({ size }) => size > 0).sort((a, b) => a.start - b.start);
  const end = inFile.reduce((sum, { size }) => sum + size, headers);
  return [
    bytes.subarray(0, checksum),
    ...header,
    ...inFile.map(({ start, size }) => bytes.subarray(start, start + size)),
    bytes.subarray(end, Math.max(end, bytes.length - signatures.size)),
  ];
}

/** The certificates of all PKCS #7 signatures in an attribute certificate table; what can't be read is left out. */
function certificatesIn(table: Uint8Array): X509Certificate[] {
  const reader = new Reader(table);
  const found: X509Certificate[] = [];
  try {
    while (reader.left >= 8) {
      const length = reader.u32();
      const [, type] = [reader.u16(), reader.u16()];
      const signature = reader.bytes(Math.max(0, length - 8));
      if (type === 0x0002) found.push(...signedDataCertificates(signature));
      reader.bytes(Math.min(reader.left, (8 - (length % 8)) % 8));
    }
  } catch (error) {
    if (!(error instanceof Truncated)) throw error;
  }
  return found;
}

/** ContentInfo -> SignedData -> certificates [0] (RFC 2315, sections 7 and 9.1). */
function signedDataCertificates(pkcs7: Uint8Array): X509Certificate[] {
  const [info] = derValuesIn(pkcs7);
  const wrapped = info && derValuesIn(info.content).find(({ tag }) => tag === 0xa0);
  const [signedData] = wrapped ? derValuesIn(wrapped.content) : [];
  const certificates = signedData && derValuesIn(signedData.content).find(({ tag }) => tag === 0xa0);
  return (certificates ? derValuesIn(certificates.content) : []).flatMap(({ whole }) => certificateIn(whole) ?? []);
}
