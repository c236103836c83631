/** What is under a MAC in the store of a machine, and under whose. */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { concat, utf8 } from '../bytes.ts';
import { stateKey } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { type Scope, scopeName } from '../seeds/scope.ts';
import { canonicalJson, Json } from '../system/json.ts';

const version = 4;

/** Of the line with the MAC: 64 digits and a newline. */
const lineLength = 65;

export const hint = 'run auxcred provision';

function mac(host: Scope, body: Uint8Array): Uint8Array {
  const key = stateKey(host.seed);
  const digest = createHmac('sha256', key).update(body).digest();
  key.fill(0);
  return digest;
}

/** `content` as canonical JSON, after a line with its MAC. */
export function authenticated(content: Readonly<Record<string, unknown>>, host: Scope): Uint8Array {
  const body = utf8(canonicalJson({ version, host: scopeName(host), ...content }));
  return concat(firstLine(host, body), body);
}

const firstLine = (host: Scope, body: Uint8Array): Uint8Array =>
  utf8(`${Buffer.from(mac(host, body)).toString('hex')}\n`);

export function isAuthentic(bytes: Uint8Array, host: Scope): boolean {
  const claimed = bytes.subarray(0, lineLength);
  return claimed.length === lineLength && timingSafeEqual(claimed, firstLine(host, bytes.subarray(lineLength)));
}

/** What {@link authenticated} says it holds, whoever made it. @throws Failure `malformed` */
export const unverified = (bytes: Uint8Array): Json =>
  Json.parse(bytes.subarray(lineLength), 'what was provisioned', hint);

/** Reads {@link authenticated} back. @throws Failure `malformed` if another seed made it */
export function verified(bytes: Uint8Array, host: Scope): Json {
  const body = bytes.subarray(lineLength);
  if (!isAuthentic(bytes, host)) {
    throw new Failure('malformed', "the provisioned snapshot was not made with this machine's seed", { hint });
  }
  const json = Json.parse(body, 'the provisioned snapshot', hint);
  json.at('version').whole(version, version);
  return json;
}
