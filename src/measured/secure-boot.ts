/** Secure Boot: its variables, and what it accepts an image by (UEFI specification, section 32.5). */
import type { X509Certificate } from 'node:crypto';
import { sameBytes, utf8 } from '../bytes.ts';
import { type Bank, digestIn } from './bank.ts';
import { type MeasuredEvent, type Signature, signaturesIn } from './event.ts';
import type { PeImage } from './pe.ts';

/** The state of Secure Boot that the next boot will find. */
export interface SecureBoot {
  readonly isOn: boolean;
  /** The signatures of `db`, in its order. */
  readonly db: readonly Signature[];
  /** The GUID of `db`, as it is in events (16 bytes). */
  readonly guid: Uint8Array;
  /** Whether shim accepted something in this boot. */
  readonly usesShim: boolean;
}

/** From the variables that were measured, or as they are now. */
export function secureBootIn(
  events: readonly MeasuredEvent[],
  variable: ((guid: string, name: string) => Uint8Array | undefined) | undefined,
): SecureBoot {
  const settings = events.flatMap(({ meaning, data }) =>
    meaning.kind === 'variable' && meaning.role === 'setting' ? [{ ...meaning, event: data }] : [],
  );
  const settingOf = (name: string): Uint8Array => {
    const setting = settings.find((candidate) => candidate.name === name);
    return (setting && (variable?.(setting.guid, name) ?? setting.data)) ?? new Uint8Array(0);
  };
  return {
    isOn: settingOf('SecureBoot')[0] === 1,
    db: signaturesIn(settingOf('db')),
    guid: settings.find(({ name }) => name === 'db')?.event.subarray(0, 16) ?? new Uint8Array(16),
    usesShim: events.some(
      ({ meaning }) => meaning.kind === 'variable' && meaning.role === 'authority' && meaning.name !== 'db',
    ),
  };
}

/**
 * The digest of the authority event for an image: UEFI_VARIABLE_DATA of `db` with the one EFI_SIGNATURE_DATA that
 * accepts the image (TCG PC Client Platform Firmware Profile, section 3.3.4.8). Undefined if none does.
 */
export function authorityOf(
  { certificates }: Pick<PeImage, 'certificates'>,
  { db, guid }: SecureBoot,
  bank: Bank,
): Uint8Array | undefined {
  const accepting = db.find(({ certificate }) => certificate && accepts(certificate, certificates));
  if (!accepting) return undefined;
  const sizes = new DataView(new ArrayBuffer(16));
  sizes.setBigUint64(0, BigInt('db'.length), true);
  sizes.setBigUint64(8, BigInt(accepting.data.length), true);
  return digestIn(bank, guid, new Uint8Array(sizes.buffer), utf8('d\0b\0'), accepting.data);
}

/** Whether one of the certificates is this one, or was issued by it. */
const accepts = (authority: X509Certificate, certificates: readonly X509Certificate[]): boolean =>
  certificates.some(
    (certificate) =>
      sameBytes(certificate.raw, authority.raw) ||
      (certificate.checkIssued(authority) && certificate.verify(authority.publicKey)),
  );
