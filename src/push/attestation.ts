/** The verifier's side of an attestation through a conversation with a host. */
import { challengeTo } from '../attestation/challenge.ts';
import { readEkIssuers } from '../attestation/ek-certificate.ts';
import { type Challenge, parseAnswer, parseStatement } from '../attestation/messages.ts';
import { type AttestationPolicy, readAttestationPolicy } from '../attestation/policy.ts';
import { type Known, type Verdict, verdictOn } from '../attestation/verdict.ts';
import { Failure } from '../failure.ts';
import type { Enrollment } from '../seeds/enrollment.ts';
import { enrollCommand } from '../vault/over-ssh.ts';
import { type Vault, type VaultHost, vaultFiles } from '../vault/vault.ts';
import { encodeQuestion, replyIn } from './protocol.ts';

/** Sends a line to the host, and gets the line that it answers with. */
export type Ask = (line: Uint8Array) => Promise<Uint8Array>;

/**
 * What the vault knows of a host that is to be attested.
 * @param policy - undefined for the one in the host's own file
 * @throws Failure `refused` if it is not enrolled with an endorsement key, `not-found` without a policy, `malformed`
 */
export function knownOf(
  vault: Vault,
  host: VaultHost,
  enrolled: Enrollment | undefined,
  policy: AttestationPolicy = readAttestationPolicy(host.attestation),
): Known {
  const { name } = host;
  const { endorsement, srk, device } = enrolled?.tpm ?? {};
  if (!endorsement || !srk)
    throw new Failure('refused', `${name} is enrolled without an endorsement key, so nothing says which TPM it has`, {
      hint: `${enrollCommand(host)}, while you are sure that it is ${name} that answers`,
    });
  const issuers = readEkIssuers(vaultFiles(vault.folder).ekIssuers);
  return { host: name, endorsement, srk, policy, issuers, device };
}

/** Attests a host. @throws Failure if it does not answer, or another TPM does */
export async function attestedBy(known: Known, ask: Ask): Promise<Verdict> {
  const { host, endorsement, device } = known;
  const asked = async (given?: Challenge): Promise<Uint8Array> =>
    replyIn(await ask(encodeQuestion({ device, challenge: given })), host);
  const statement = parseStatement(await asked(), host);
  const { challenge, expected } = challengeTo(host, endorsement, statement);
  const answer = parseAnswer(await asked(challenge), host);
  return verdictOn(answer, expected, known, Date.now());
}
