/** A machine's side of an attestation. */
import { join } from 'node:path';
import { type Answer, type Challenge, quotedPcrs, type Statement } from '../attestation/messages.ts';
import { Failure } from '../failure.ts';
import { readIfPresent } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import { createAk } from '../tpm2/attestation-key.ts';
import { findEk } from '../tpm2/endorsement-key.ts';
import { readPcrs } from '../tpm2/pcr.ts';
import { signatureFiles } from '../tpm2/pcr-signature.ts';
import { sameValues } from '../tpm2/policy.ts';
import { activate, certify, quote } from '../tpm2/quote.ts';
import { TpmError, tpmFailure } from '../tpm2/response.ts';
import { findSrk } from '../tpm2/srk.ts';
import { openTpm, type Tpm } from '../tpm2/tpm.ts';
import { tpmVendor } from '../tpm2/vendor.ts';

/** How often to read again if PCRs or logs change meanwhile. */
const retries = 30;

/**
 * What this machine says about its TPM, for a verifier to challenge.
 * @param device - in systemd's notation; undefined for the default one
 * @throws Failure
 */
export const statementOf = async (device: string | undefined): Promise<Statement> =>
  await withTpm(device, async (tpm) => {
    const { public: ek, certificate } = await findEk(tpm);
    return { ek, certificate, ak: (await createAk(tpm)).public, vendor: await tpmVendor(tpm) };
  });

/**
 * Answers a verifier's challenge.
 * @throws Failure `refused` for a challenge that is not for this TPM, `tpm` if PCRs change all the time
 */
export const answerTo = async (
  { credential, nonce }: Challenge,
  paths: Paths,
  device: string | undefined,
): Promise<Answer> =>
  await withTpm(device, async (tpm) => {
    const ak = await createAk(tpm);
    const ek = await findEk(tpm);
    const secret = await activate(tpm, ak.handle, ek, credential).catch((error: unknown) => {
      if (!(error instanceof TpmError) || !error.ofParameter) throw error;
      throw new Failure('refused', 'the challenge is for another TPM, or for another attestation key', {
        hint: 'auxcred attest prints the statement that a challenge is made from',
        cause: error,
      });
    });
    await tpm.release(ek.handle);
    const srk = await findSrk(tpm);
    const certified = await certify(tpm, ak.handle, nonce, srk.handle);
    await tpm.release(srk.handle);
    return { secret, srk: certified, ...(await quotedState(tpm, ak.handle, nonce, paths)) };
  });

/** Quote, values and logs of the same moment: systemd measures while the machine boots. */
async function quotedState(
  tpm: Tpm,
  ak: number,
  nonce: Uint8Array,
  paths: Paths,
): Promise<Omit<Answer, 'secret' | 'srk'>> {
  for (let attempt = 1; ; attempt++) {
    const before = await readPcrs(tpm, quotedPcrs);
    const quoted = await quote(tpm, ak, nonce, quotedPcrs);
    // A program that measures extends the PCR first, and then writes the log.
    const logs = {
      firmwareLog: readIfPresent(paths.firmwareLog, 'read'),
      userspaceLog: readIfPresent(paths.userspaceLog, 'read'),
      pcrSignatures: signatureFiles.flatMap((file) => readIfPresent(join(paths.root, file)) ?? []),
    };
    const pcrs = await readPcrs(tpm, quotedPcrs);
    if (sameValues(before, pcrs)) return { quote: quoted, pcrs, ...logs };
    if (attempt > retries) throw new Failure('tpm', 'the PCRs change faster than they can be quoted');
  }
}

async function withTpm<T>(device: string | undefined, work: (tpm: Tpm) => Promise<T>): Promise<T> {
  const tpm = await openTpm(device);
  try {
    return await work(tpm);
  } catch (error) {
    throw tpmFailure(error);
  } finally {
    await tpm.close();
  }
}
