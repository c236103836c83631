/**
 * `/etc/auxcred/scopes.json`: which scopes, in which epoch and with which key id, this machine accepts, and its TPM. Anybody can encrypt
 * a file to a public host key or SRK, so a store that opens proves nothing about who made it; the pins do.
 */
import { timingSafeEqual } from 'node:crypto';
import { keyId } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { canonicalJson, Json } from '../system/json.ts';
import { scopeName, type Scope } from './scope.ts';

export interface Pin {
  readonly epoch: number;
  /** 16 bytes. */
  readonly keyId: Uint8Array;
}

export interface Pins {
  readonly scopes: ReadonlyMap<string, Pin>;
  /** The TPM that the store was sealed to, in systemd's notation; undefined without one. */
  readonly device: string | undefined;
}

const hint = 'run auxcred seal again, or restore /etc/auxcred/scopes.json';

export function pinsOf(scopes: readonly Scope[], device: string | undefined): Pins {
  return { scopes: new Map(scopes.map((scope) => [scopeName(scope), { epoch: scope.epoch, keyId: keyId(scope.seed) }])), device };
}

/** Pretty-printed: people read this file and keep it in their configuration. */
export function encodePins(pins: Pins): Uint8Array {
  const scopes = Object.fromEntries([...pins.scopes].map(([name, pin]) => [name, { epoch: pin.epoch, keyId: Buffer.from(pin.keyId).toString('hex') }]));
  const sorted: unknown = JSON.parse(canonicalJson({ version: 1, scopes, ...(pins.device === undefined ? {} : { tpm2Device: pins.device }) }));
  return new TextEncoder().encode(`${JSON.stringify(sorted, undefined, 2)}\n`);
}

/** @throws Failure `malformed`. */
export function parsePins(bytes: Uint8Array, file: string): Pins {
  const json = Json.parse(bytes, file, hint);
  json.at('version').whole(1, 1);
  const scopes = json.at('scopes').entries().map(([name, pin]): [string, Pin] => {
    const id = pin.at('keyId').text();
    if (!/^[0-9a-f]{32}$/.test(id)) throw pin.at('keyId').unexpected('32 hexadecimal digits');
    return [name, { epoch: pin.at('epoch').whole(1, 0xffffffff), keyId: new Uint8Array(Buffer.from(id, 'hex')) }];
  });
  return { scopes: new Map(scopes), device: json.at('tpm2Device').optional((item) => item.text()) };
}

/**
 * Refuses a store with a scope that is not pinned, and one that lacks a pinned scope.
 * @throws Failure `not-pinned` that names the scope.
 */
export function verifyPins(scopes: readonly Scope[], { scopes: pins }: Pins): void {
  for (const scope of scopes) {
    const pin = pins.get(scopeName(scope));
    if (!pin) throw new Failure('not-pinned', `the store holds a seed for ${scopeName(scope)}, which this machine does not expect`, { hint });
    if (pin.epoch !== scope.epoch || !timingSafeEqual(pin.keyId, keyId(scope.seed))) throw new Failure('not-pinned', `the seed of ${scopeName(scope)} is not the one that this machine expects`, { hint });
  }
  for (const name of pins.keys()) {
    if (!scopes.some((scope) => scopeName(scope) === name)) throw new Failure('not-pinned', `the store holds no seed for ${name}, which this machine expects`, { hint });
  }
}
