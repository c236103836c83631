/**
 * What an answer proves, whatever the policy says: that the enrolled TPM has these PCR values now, and that the SRK
 * that seeds are sealed to is its own. Computed without a TPM.
 */

import { createHash } from 'node:crypto';
import { sameBytes } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { type MeasuredLog, parseLog, replayed } from '../measured/measured-log.ts';
import { type CertifyInfo, parseAttest, type QuoteInfo, qualifiedName } from '../tpm2/attest.ts';
import { verifies } from '../tpm2/attestation-key.ts';
import { lockedValue, lockPcrs, openValue } from '../tpm2/boot-lock.ts';
import { encodeSelection } from '../tpm2/policy.ts';
import type { SignedStatement } from '../tpm2/quote.ts';
import type { SrkPublic } from '../tpm2/srk.ts';
import { challengeAge, type Expected } from './challenge.ts';
import { type Answer, quotedPcrs } from './messages.ts';

/** The machine's state, proven. */
export interface Proof {
  /** 32 bytes each. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  /** The log that leads to these values; undefined if the machine has none. */
  readonly log: MeasuredLog | undefined;
  /** The PCRs that the log does not account for: IMA keeps its own for PCR 10. */
  readonly unexplained: readonly number[];
  readonly resetCount: number;
  readonly restartCount: number;
}

/** PCR 10 belongs to the kernel's IMA, which has a log of its own. */
const imaPcr = 10;

const refused = (
  host: string,
  text: string,
  hint = 'challenge it again, and find out which machine answers',
): Failure => new Failure('refused', `${host} is not attested: ${text}`, { hint });

/**
 * Proves an answer.
 * @param srk - the one that the host is enrolled with
 * @param now - milliseconds since 1970
 * @throws Failure `refused` with the first thing that is wrong, `malformed` for logs that can't be read
 */
export function prove(
  host: string,
  answer: Answer,
  expected: Expected,
  { srk, now }: { readonly srk: SrkPublic; readonly now: number },
): Proof {
  if (now < expected.since)
    throw refused(host, 'the clock here has gone back since the challenge was made', 'challenge it again');
  if (now - expected.since > challengeAge) {
    const minutes = Math.floor((now - expected.since) / 60_000);
    throw refused(host, `the challenge is stale: it was made ${String(minutes)} minutes ago`, 'challenge it again');
  }
  const quoted = quoteIn(host, answer, expected);
  if (!sameBytes(answer.secret, expected.secret))
    throw refused(host, 'its attestation key is not in the TPM that it is enrolled with (the credential did not open)');
  const certified = statementIn(host, answer.srk, expected, 'certification of its SRK');
  if (certified.kind !== 'certify') throw refused(host, 'the certification of its SRK is of another kind');
  checkSrk(host, certified, srk);
  const { log, unexplained } = replay(host, answer);
  return { pcrs: answer.pcrs, log, unexplained, resetCount: quoted.resetCount, restartCount: quoted.restartCount };
}

function quoteIn(host: string, { quote, pcrs }: Answer, expected: Expected): QuoteInfo {
  const info = statementIn(host, quote, expected, 'quote');
  if (info.kind !== 'quote') throw refused(host, 'the quote is a statement of another kind');
  if (!sameBytes(info.selection, encodeSelection(quotedPcrs)))
    throw refused(host, 'the quote does not cover exactly PCR 0 to 15 of the SHA-256 bank');
  const digest = createHash('sha256')
    .update(Buffer.concat([...pcrs.values()]))
    .digest();
  if (!sameBytes(info.digest, digest))
    throw refused(host, 'the PCR values that it sent are not those that its TPM quoted');
  return info;
}

/** Checks what every statement needs: form, key, signature and nonce. */
function statementIn(
  host: string,
  { attest, signature }: SignedStatement,
  { ak, nonce }: Expected,
  what: string,
): QuoteInfo | CertifyInfo {
  const info = parseAttest(attest);
  if (!info) throw refused(host, `the ${what} is not a TPM's statement`);
  if (!sameBytes(info.signer, qualifiedName(ak)))
    throw refused(host, `the ${what} is not signed by the key that was challenged: another machine made it`);
  if (!verifies(ak, attest, signature)) throw refused(host, `the signature of the ${what} is wrong`);
  if (!sameBytes(info.extraData, nonce))
    throw refused(host, `the ${what} answers another challenge: it is a replay, or came too late`);
  return info;
}

function checkSrk(host: string, { name }: CertifyInfo, srk: SrkPublic): void {
  if (!sameBytes(name, srk.name))
    throw refused(
      host,
      'the SRK that seeds would be sealed to is not in the attested TPM',
      `auxcred enroll ${host} --from=FILE enrolls the one that it has`,
    );
}

/** Whether nothing but the lock until the next boot, which no log has, was measured into a PCR. */
const isOnlyLocked = (pcr: number, logged: Uint8Array | undefined, value: Uint8Array): boolean =>
  lockPcrs.includes(pcr) && sameBytes(logged ?? openValue, openValue) && sameBytes(value, lockedValue);

/** Replays the logs. Without one, only PCR values are known. */
function replay(host: string, answer: Answer): Pick<Proof, 'log' | 'unexplained'> {
  const { firmwareLog, userspaceLog, pcrs } = answer;
  if (!firmwareLog) return { log: undefined, unexplained: [...pcrs.keys()] };
  const log = parseLog(firmwareLog, userspaceLog);
  const values = replayed(log.events, 'sha256');
  const unexplained = [...pcrs].flatMap(([pcr, value]) =>
    sameBytes(values.get(pcr) ?? value, value) || isOnlyLocked(pcr, values.get(pcr), value) ? [] : [pcr],
  );
  const altered = unexplained.filter((pcr) => pcr !== imaPcr);
  if (altered.length > 0)
    throw refused(
      host,
      `its log does not lead to ${altered.map((pcr) => `PCR ${String(pcr)}`).join(', ')}: ` +
        'it was altered, or is of another boot',
    );
  return { log, unexplained };
}
