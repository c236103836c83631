/** Authenticates the files of a machine's store with a key from the seed of the host's own scope. */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { concat, hex, utf8 } from '../bytes.ts';
import { stateKey } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { type Scope, scopeName } from '../seeds/scope.ts';
import { canonicalJson, Json } from '../system/json.ts';

const version = 4;

/** Bytes of the line with the MAC: 64 digits and a newline. */
const lineLength = 65;

/** The hint for a file that can't be trusted. */
const hint = 'run auxcred provision';

function mac(host: Scope, body: Uint8Array): Uint8Array {
  const key = stateKey(host.seed);
  const digest = createHmac('sha256', key).update(body).digest();
  key.fill(0);
  return digest;
}

/** Encodes `content` as canonical JSON, after a line with its MAC (HMAC-SHA256 in hexadecimal). */
export function authenticated(content: Readonly<Record<string, unknown>>, host: Scope): Uint8Array {
  const body = utf8(canonicalJson({ version, host: scopeName(host), ...content }));
  return concat(firstLine(host, body), body);
}

const firstLine = (host: Scope, body: Uint8Array): Uint8Array => utf8(`${hex(mac(host, body))}\n`);

/** Whether the bytes have a MAC made with this scope's seed. */
export function isAuthentic(bytes: Uint8Array, host: Scope): boolean {
  const claimed = bytes.subarray(0, lineLength);
  return claimed.length === lineLength && timingSafeEqual(claimed, firstLine(host, bytes.subarray(lineLength)));
}

/** Parses {@link authenticated} without checking the MAC: the result is untrusted input. @throws Failure `malformed` */
export const unverified = (bytes: Uint8Array): Json =>
  Json.parse(bytes.subarray(lineLength), 'what was provisioned', hint);

/**
 * Checks the MAC of {@link authenticated} and parses it.
 * @throws Failure `malformed`, also if it was made with another seed
 */
export function verified(bytes: Uint8Array, host: Scope): Json {
  const body = bytes.subarray(lineLength);
  if (!isAuthentic(bytes, host)) {
    throw new Failure('malformed', "the provisioned snapshot was not made with this machine's seed", { hint });
  }
  const json = Json.parse(body, 'the provisioned snapshot', hint);
  json.version(version);
  return json;
}
