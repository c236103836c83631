import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { predictionSteps } from '../../src/tpm2/pcrlock.ts';
import { u32 } from '../../src/tpm2/wire.ts';
import type { Swtpm } from '../swtpm.ts';
import { hex } from './sealing.ts';

type Values = ReadonlyMap<number, readonly Uint8Array[]>;

/** systemd-pcrlock's NV index in a TPM, and its file. */
export interface PcrlockIndex {
  /** Defines the index as systemd-pcrlock does, but with a password in the place of its PIN policy. */
  readonly define: () => void;
  /** Writes the policy of a prediction into the index. */
  readonly predict: (values: Values) => void;
  /** pcrlock.json. */
  readonly text: (values: Values, of?: number) => string;
  readonly write: (values: Values, of?: number) => void;
  readonly file: () => string;
}

export function pcrlockIndex(swtpm: () => Swtpm, index: number): PcrlockIndex {
  const publicArea = (of: number): Uint8Array =>
    // TPMS_NV_PUBLIC before its first write: index, SHA-256, attributes, no policy, 34 bytes.
    Uint8Array.from([...u32(of), 0, 0x0b, 0x02, 0x02, 0, 0x04, 0, 0, 0, 34]);
  const file = (): string => join(swtpm().folder, 'pcrlock.json');
  const text = (values: Values, of = index): string =>
    JSON.stringify({
      pcrBank: 'sha256',
      pcrValues: [...values].map(([pcr, list]) => ({ pcr, values: list.map(hex) })),
      nvIndex: of,
      nvPublic: Buffer.from([0, publicArea(of).length, ...publicArea(of)]).toString('base64'),
    });
  return {
    define: () => {
      try {
        swtpm().tool('tpm2_nvundefine', '-C', 'o', String(index));
      } catch {
        // It is not there yet.
      }
      const attributes = 'authwrite|ownerread|no_da';
      swtpm().tool('tpm2_nvdefine', String(index), '-C', 'o', '-s', '34', '-a', attributes, '-p', 'pin');
    },
    predict: (values) => {
      const { digest } = predictionSteps({ values });
      writeFileSync(join(swtpm().folder, 'predicted'), Uint8Array.from([0, 0x0b, ...digest]));
      swtpm().tool('tpm2_nvwrite', String(index), '-C', String(index), '-P', 'pin', '-i', 'predicted');
    },
    text,
    write: (values, of) => {
      writeFileSync(file(), text(values, of));
    },
    file,
  };
}
