/** The verifier's challenge, and what it remembers until the answer comes. */
import { randomBytes } from 'node:crypto';
import { base64, sameBytes, utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { canonicalJson, Json } from '../system/json.ts';
import { type AkPublic, parseAkPublic } from '../tpm2/attestation-key.ts';
import { makeCredential } from '../tpm2/credential.ts';
import type { Challenge, Endorsement, Statement } from './messages.ts';

/** What the answer to a challenge has to match. */
export interface Expected {
  /** 32 bytes: in the credential. */
  readonly secret: Uint8Array;
  /** 32 bytes: in the quote. */
  readonly nonce: Uint8Array;
  readonly ak: AkPublic;
  readonly vendor: Statement['vendor'];
  /** Milliseconds since 1970. */
  readonly since: number;
}

/** Milliseconds after which a challenge is no longer accepted. */
export const challengeAge = 600_000;

/**
 * Challenges a machine, if its EK is the enrolled one and its AK is of the kind that signs nothing but the TPM's own
 * statements.
 * @throws Failure `refused`
 */
export function challengeTo(
  host: string,
  enrolled: Endorsement,
  { ek, ak: akArea, vendor }: Statement,
): { readonly challenge: Challenge; readonly expected: Expected } {
  if (!sameBytes(enrolled.ek.public, ek.public))
    throw new Failure('refused', `${host} does not have the endorsement key that it is enrolled with`, {
      hint:
        "another machine answers, or its TPM was replaced, or reset with its maker's tool; find out which, then " +
        `auxcred enroll ${host} --replace --from=FILE`,
    });
  const ak = parseAkPublic(akArea);
  if (typeof ak === 'string')
    throw new Failure('refused', `the attestation key of ${host} ${ak}`, {
      hint: 'auxcred attest there makes a valid one; another program answered, or a modified one',
    });
  const [secret, nonce] = [new Uint8Array(randomBytes(32)), new Uint8Array(randomBytes(32))];
  // The enrolled key, not the one that came just now.
  const credential = makeCredential(enrolled.ek, secret, ak.name);
  return { challenge: { credential, nonce }, expected: { secret, nonce, ak, vendor, since: Date.now() } };
}

/** One line of canonical JSON, for a challenge that is answered later. */
export const encodeExpected = ({ secret, nonce, ak, vendor, since }: Expected): Uint8Array =>
  utf8(
    `${canonicalJson({ version: 1, secret: base64(secret), nonce: base64(nonce), ak: base64(ak.public), vendor, since })}\n`,
  );

/** Parses {@link encodeExpected}. @throws Failure `malformed` */
export function parseExpected(bytes: Uint8Array, file: string): Expected {
  const json = Json.parse(bytes, file, 'make a new challenge: auxcred attest HOST --from=FILE');
  json.version(1);
  const bytesAt = (key: string): Uint8Array => new Uint8Array(Buffer.from(json.at(key).text(), 'base64'));
  const ak = parseAkPublic(bytesAt('ak'));
  if (typeof ak === 'string') throw json.at('ak').unexpected('an attestation key');
  const vendor = json.at('vendor');
  return {
    secret: bytesAt('secret'),
    nonce: bytesAt('nonce'),
    ak,
    vendor: {
      manufacturer: vendor.at('manufacturer').text(),
      model: vendor.at('model').text(),
      firmware: vendor.at('firmware').text(),
    },
    since: json.at('since').whole(0, Number.MAX_SAFE_INTEGER),
  };
}
