/** Reads what a TPM stated: TPMS_ATTEST (TPM 2.0 part 2, section 10.12). Untrusted until its signature is checked. */
import { createHash } from 'node:crypto';
import type { AkPublic } from './attestation-key.ts';
import { algorithms, u16, u32 } from './wire.ts';

/** The fields that all statements have (part 2, table 137). */
interface Common {
  /** The Qualified Name of the key that signed. */
  readonly signer: Uint8Array;
  /** The nonce. */
  readonly extraData: Uint8Array;
  /** How often the TPM was reset, and how often resumed since. */
  readonly resetCount: number;
  readonly restartCount: number;
}

/** What a quote states (part 2, table 132). */
export interface QuoteInfo extends Common {
  readonly kind: 'quote';
  /** TPML_PCR_SELECTION. */
  readonly selection: Uint8Array;
  /** Of the values of these PCRs, one after the other. */
  readonly digest: Uint8Array;
}

/** What a certification states (part 2, table 131). */
export interface CertifyInfo extends Common {
  readonly kind: 'certify';
  /** The Name of the key. */
  readonly name: Uint8Array;
}

/** TPM_GENERATED_VALUE: a restricted key signs nothing from outside that begins so. */
const generated = 0xff544347;
/** TPM_ST_ATTEST_CERTIFY and TPM_ST_ATTEST_QUOTE (part 2, table 19). */
const types = { certify: 0x8017, quote: 0x8018 } as const;

/** Parses a statement; undefined for anything that is not a whole quote or certification of a TPM. */
export function parseAttest(bytes: Uint8Array): QuoteInfo | CertifyInfo | undefined {
  const view = Buffer.from(bytes);
  let offset = 0;
  const take = (length: number): Buffer => {
    if (offset + length > view.length) throw new RangeError('cut off');
    offset += length;
    return view.subarray(offset - length, offset);
  };
  const sized = (): Uint8Array => new Uint8Array(take(take(2).readUInt16BE()));
  try {
    if (take(4).readUInt32BE() !== generated) return undefined;
    const type = take(2).readUInt16BE();
    const [signer, extraData] = [sized(), sized()];
    take(8);
    const [resetCount, restartCount] = [take(4).readUInt32BE(), take(4).readUInt32BE()];
    take(1 + 8);
    const common = { signer, extraData, resetCount, restartCount };
    let info: QuoteInfo | CertifyInfo;
    if (type === types.quote) {
      // A selection of one bank takes 4 + 2 + 1 bytes and its bits.
      const head = take(7);
      const selection = Buffer.concat([head, take(head[6] ?? 0)]);
      info = { kind: 'quote', ...common, selection: new Uint8Array(selection), digest: sized() };
    } else if (type === types.certify) {
      info = { kind: 'certify', ...common, name: sized() };
      sized();
    } else return undefined;
    return offset === view.length ? info : undefined;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** TPM_RH_ENDORSEMENT (part 2, table 28). */
const endorsement = 0x4000000b;

/** The Qualified Name of a primary key of the endorsement hierarchy (part 1, section 16): 34 bytes. */
export const qualifiedName = ({ name }: Pick<AkPublic, 'name'>): Uint8Array =>
  Uint8Array.from([...u16(algorithms.sha256), ...createHash('sha256').update(u32(endorsement)).update(name).digest()]);
