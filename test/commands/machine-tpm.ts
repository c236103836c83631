/** A TPM for the machine of `machine-root.ts`, and the counter that auxcred has in it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before } from 'node:test';
import { Json } from '../../src/system/json.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { leftIn } from '../tpm2/sealing.ts';
import { at } from './machine-root.ts';

export let swtpm: Swtpm;
export const device = (): string => `--tpm2-device=${swtpm.device}`;
/** For sealing: the machine goes on with the TPM that is reached now. */
export const sealedTo = (tpm: Pick<Swtpm, 'device'> = swtpm): string[] => [
  `--tpm2-device=${tpm.device}`,
  `--installed-tpm2-device=${tpm.device}`,
];
export const pins = (): Json => Json.parse(readFileSync(at('etc/auxcred/scopes.json')), 'scopes.json', '');
export const index = (): string => pins().at('tpm2Counter').at('index').text();
export const counts = (of = index()): number =>
  Number(`0x${Buffer.from(swtpm.tool('tpm2_nvread', '-C', of, '-s', '8', of), 'latin1').toString('hex')}`);

/**
 * Starts the TPM for the tests of a `describe`, and after each of them removes the counters and looks for leftovers.
 */
export function useTpm(): void {
  before(async () => {
    swtpm = await startSwtpm();
  });
  after(async () => {
    await swtpm.stop();
  });
  afterEach(() => {
    for (const [found] of swtpm.tool('tpm2_getcap', 'handles-nv-index').matchAll(/0x1A0C[0-9A-Fa-f]+/gi))
      swtpm.tool('tpm2_nvundefine', '-C', 'o', found);
    assert.equal(leftIn(swtpm), '');
  });
}
