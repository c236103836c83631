/**
 * The three messages of an attestation, one line of canonical JSON each (docs/formats.md):
 *
 *     machine  -> verifier   statement: its EK, the certificate of that, and its AK
 *     verifier -> machine    challenge: a credential that only that EK opens, beside that AK, and a nonce
 *     machine  -> verifier   answer: the credential's secret, a quote, the SRK certified, and both logs
 */
import { base64, utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { largestLog } from '../measured/firmware-log.ts';
import { canonicalJson, Json, valuesIn } from '../system/json.ts';
import { printable } from '../system/printable.ts';
import type { Credential } from '../tpm2/credential.ts';
import { type EkPublic, parseEkPublic } from '../tpm2/endorsement-key.ts';
import type { SignedStatement } from '../tpm2/quote.ts';
import type { TpmVendor } from '../tpm2/vendor.ts';

/** An endorsement key, and the certificate that its TPM stores. */
export interface Endorsement {
  readonly ek: EkPublic;
  /** DER; undefined if the TPM stores none. */
  readonly certificate: Uint8Array | undefined;
}

/** A machine's keys. Nothing in it is proven. */
export interface Statement extends Endorsement {
  /** TPM2B_PUBLIC of the AK. */
  readonly ak: Uint8Array;
  /** What the TPM says that it is. */
  readonly vendor: TpmVendor;
}

/** What a machine has to answer. */
export interface Challenge {
  readonly credential: Credential;
  /** 32 bytes. */
  readonly nonce: Uint8Array;
}

/** A machine's answer. Nothing in it is proven. */
export interface Answer {
  /** The credential's secret. */
  readonly secret: Uint8Array;
  /** Over {@link quotedPcrs} of the SHA-256 bank. */
  readonly quote: SignedStatement;
  readonly srk: SignedStatement;
  /** 32 bytes each, in ascending order. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  readonly firmwareLog: Uint8Array | undefined;
  readonly userspaceLog: Uint8Array | undefined;
  /** Every tpm2-pcr-signature.json that systemd would read: the one of the booted image is among them. */
  readonly pcrSignatures: readonly Uint8Array[];
}

/** The PCRs that a quote is over: all that the boot measures into. */
export const quotedPcrs: readonly number[] = Array.from({ length: 16 }, (_, pcr) => pcr);

/** Maximum size of a message: two logs and the signatures, in base64. */
export const longestMessage = 12 << 20;
/** Maximum number of JSON values in a message: parsed, `[[],[],` takes many times its bytes. */
const mostValues = 200;
const largestPart = 64 << 10;
const largestSignatures = 1 << 20;
const version = 1;
const hint = 'both machines need the same version of auxcred';

const line = (content: Readonly<Record<string, unknown>>): Uint8Array =>
  utf8(`${canonicalJson({ attestation: version, ...content })}\n`);

/** The statement's line. */
export const encodeStatement = ({ ek, certificate, ak, vendor }: Statement): Uint8Array =>
  line({ ...endorsementJson({ ek, certificate }), ak: base64(ak), vendor });

/** An endorsement as it is in JSON. */
export const endorsementJson = ({ ek, certificate }: Endorsement): Readonly<Record<string, unknown>> => ({
  ek: base64(ek.public),
  ...(certificate && { ekCertificate: base64(certificate) }),
});

/** Parses {@link endorsementJson}. @throws Failure `malformed` */
export function endorsementIn(json: Json): Endorsement {
  const ek = parseEkPublic(bytesIn(json.at('ek'), largestPart));
  if (!ek) throw json.at('ek').unexpected('an endorsement key with a standard template');
  return { ek, certificate: json.at('ekCertificate').optional((item) => bytesIn(item, largestPart)) };
}

/** Parses {@link encodeStatement}. @param whose - the sender, for failures @throws Failure `malformed` */
export function parseStatement(bytes: Uint8Array, whose: string): Statement {
  const json = parsed(bytes, `the statement of ${whose}`);
  const vendor = json.at('vendor');
  const text = (key: string): string => printable(vendor.at(key).text(), 100);
  return {
    ...endorsementIn(json),
    ak: bytesIn(json.at('ak'), largestPart),
    vendor: { manufacturer: text('manufacturer'), model: text('model'), firmware: text('firmware') },
  };
}

/** The challenge's line. */
export const encodeChallenge = (challenge: Challenge): Uint8Array => line(challengeJson(challenge));

/** A challenge as it is in JSON. */
export const challengeJson = ({ credential, nonce }: Challenge): Readonly<Record<string, unknown>> => ({
  credential: { blob: base64(credential.blob), encryptedSeed: base64(credential.encryptedSeed) },
  nonce: base64(nonce),
});

/** Parses {@link encodeChallenge}. @throws Failure `malformed` */
export const parseChallenge = (bytes: Uint8Array, file: string): Challenge => challengeIn(parsed(bytes, file));

/** Parses {@link challengeJson}. @throws Failure `malformed` */
export const challengeIn = (json: Json): Challenge => ({
  credential: {
    blob: bytesIn(json.at('credential').at('blob'), 1024),
    encryptedSeed: bytesIn(json.at('credential').at('encryptedSeed'), 1024),
  },
  nonce: bytesIn(json.at('nonce'), 32),
});

/** The answer's line. */
export function encodeAnswer(answer: Answer): Uint8Array {
  const { secret, quote, srk, pcrs, firmwareLog, userspaceLog, pcrSignatures } = answer;
  return line({
    secret: base64(secret),
    quote: statementJson(quote),
    srk: statementJson(srk),
    pcrs: [...pcrs.values()].map(base64),
    ...(firmwareLog && { firmwareLog: base64(firmwareLog) }),
    ...(userspaceLog && { userspaceLog: base64(userspaceLog) }),
    pcrSignatures: pcrSignatures.map(base64),
  });
}

/** Parses {@link encodeAnswer}. @param whose - the sender, for failures @throws Failure `malformed` */
export function parseAnswer(bytes: Uint8Array, whose: string): Answer {
  const json = parsed(bytes, `the attestation of ${whose}`);
  const values = json.at('pcrs').list();
  if (values.length !== quotedPcrs.length) throw json.at('pcrs').unexpected(`a list of ${String(quotedPcrs.length)}`);
  return {
    secret: bytesIn(json.at('secret'), 64),
    quote: statementIn(json.at('quote')),
    srk: statementIn(json.at('srk')),
    pcrs: new Map(quotedPcrs.map((pcr, i) => [pcr, digestOf(values[i] ?? json)])),
    firmwareLog: json.at('firmwareLog').optional((item) => bytesIn(item, largestLog)),
    userspaceLog: json.at('userspaceLog').optional((item) => bytesIn(item, largestLog)),
    pcrSignatures: json
      .at('pcrSignatures')
      .list()
      .map((item) => bytesIn(item, largestSignatures)),
  };
}

const statementJson = ({ attest, signature }: SignedStatement): unknown => ({
  attest: base64(attest),
  signature: base64(signature),
});
const statementIn = (json: Json): SignedStatement => ({
  attest: bytesIn(json.at('attest'), largestPart),
  signature: bytesIn(json.at('signature'), largestPart),
});

function digestOf(item: Json): Uint8Array {
  const bytes = bytesIn(item, 32);
  if (bytes.length !== 32) throw item.unexpected('32 bytes in base64');
  return bytes;
}

function bytesIn(item: Json, most: number): Uint8Array {
  const text = item.text();
  const bytes = new Uint8Array(Buffer.from(text, 'base64'));
  if (base64(bytes) !== text || bytes.length > most) throw item.unexpected(`at most ${String(most)} bytes in base64`);
  return bytes;
}

function parsed(bytes: Uint8Array, what: string): Json {
  if (bytes.length > longestMessage || valuesIn(bytes) > mostValues)
    throw new Failure('malformed', `${what} is too large`, { hint });
  const json = Json.parse(bytes, what, hint);
  json.at('attestation').whole(version, version);
  return json;
}
