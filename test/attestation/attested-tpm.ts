/** TPMs whose endorsement keys a local authority certified, with the PCRs of a real boot. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { digestIn } from '../../src/measured/bank.ts';
import { hex, logOf, type Sample } from '../measured/samples.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';

/** A TPM and the certificate of the authority that issued those of its endorsement keys. */
export interface CertifiedTpm {
  readonly tpm: Swtpm;
  /** In PEM. */
  readonly issuer: string;
  readonly root: string;
}

/** What was measured into the PCRs of a sample, by PCR. */
export function measurementsOf(sample: Sample): Record<number, string[]> {
  const all: Record<number, string[]> = {};
  for (const { isMeasured, pcr, digests } of logOf(sample).events)
    if (isMeasured && pcr < 16) (all[pcr] ??= []).push(hex(digests.get('sha256')));
  return all;
}

/** Starts a TPM with certificates for RSA 2048 and ECC P-384. Remove its folder after it is stopped. */
export async function startCertifiedTpm(sample: Sample): Promise<CertifiedTpm> {
  const folder = mkdtempSync(join(tmpdir(), 'ek-'));
  const at = (path: string): string => join(folder, path);
  const file = (name: string, lines: readonly string[]): string => {
    writeFileSync(at(name), `${lines.join('\n')}\n`);
    return at(name);
  };
  mkdirSync(at('state'));
  const authority = file('authority.conf', [
    `statedir = ${at('ca')}`,
    `signingkey = ${at('ca/key.pem')}`,
    `issuercert = ${at('ca/issuer.pem')}`,
    `certserial = ${at('ca/serial')}`,
  ]);
  const options = file('options.conf', [
    '--platform-manufacturer Example',
    '--platform-version 1',
    '--platform-model Board',
  ]);
  const setup = file('setup.conf', [
    'create_certs_tool=/usr/bin/swtpm_localca',
    `create_certs_tool_config=${authority}`,
    `create_certs_tool_options=${options}`,
  ]);
  const args = ['--tpm2', '--tpmstate', at('state'), '--create-ek-cert', '--ecc', '--config', setup];
  const { status, stdout, stderr } = spawnSync('swtpm_setup', args, { encoding: 'utf8', timeout: 60_000 });
  assert.equal(status, 0, `${stdout}${stderr}`);
  const tpm = await startSwtpm({ folder, pcrs: measurementsOf(sample) });
  return {
    tpm: {
      ...tpm,
      stop: async () => {
        await tpm.stop();
        rmSync(folder, { recursive: true });
      },
    },
    issuer: readFileSync(at('ca/issuer.pem'), 'utf8'),
    root: readFileSync(at('ca/swtpm-localca-rootca-cert.pem'), 'utf8'),
  };
}

/** Extends a PCR by the digest of a text. */
export function measure(tpm: Swtpm, pcr: number, text: string): void {
  tpm.tool('tpm2_pcrextend', `${String(pcr)}:sha256=${hex(digestIn('sha256', Buffer.from(text)))}`);
}
