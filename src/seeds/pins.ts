/**
 * `/etc/auxcred/scopes.json`: the scopes that this machine accepts, with epoch and key id, and its TPM.
 * Anybody can encrypt a file to a public host key or SRK, so seeds that open do not prove who made them. The pins do.
 */
import { timingSafeEqual } from 'node:crypto';
import { existsSync } from 'node:fs';
import { keyId } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { readIfPresent, replaceFile } from '../system/files.ts';
import { canonicalJson, Json } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';
import { counterText } from '../tpm2/nv-counter.ts';
import { type Scope, scopeName } from './scope.ts';

/** The epoch and the key id of an accepted scope. */
export interface Pin {
  readonly epoch: number;
  /** 16 bytes. */
  readonly keyId: Uint8Array;
}

/** The counter in the TPM that numbers what is made active here. */
export interface PinnedCounter {
  /** The NV index. */
  readonly index: number;
  /** Its value when these seeds were sealed. While it has this value, nothing was made active with them. */
  readonly start: number;
}

/** The content of scopes.json. */
export interface Pins {
  readonly scopes: ReadonlyMap<string, Pin>;
  /**
   * The pins of seeds that are replacing the present ones at this moment; at a first seal, equal to `scopes`. Undefined
   * otherwise.
   */
  readonly next?: ReadonlyMap<string, Pin>;
  /** The TPM that the seeds are sealed to, in systemd's notation; undefined if there is none. */
  readonly device: string | undefined;
  /** Undefined if the machine has no counter. */
  readonly counter?: PinnedCounter;
}

/** The hint for missing or damaged pins. No step of it makes new seeds. */
export const pinsHint = [
  'restore it from a backup',
  'auxcred reseal --identity=FILE with a recovery key, or with the ssh host key that the seed is sealed to, writes it again',
  'auxcred seal --replace --seed-file=- with the 24 words does too, and auxcred push from the vault',
].join('; ');

/** The hint for seeds that do not match the pins. */
const hint =
  'put back the newest /var/lib/auxcred/seeds.age and /etc/auxcred/scopes.json, or bring the seed again: ' +
  'auxcred reseal --scopes=- with what auxcred scopes prints, or --seed-file=-';

/** Pins exactly these scopes. */
export function pinsOf(scopes: readonly Scope[], device: string | undefined, counter?: PinnedCounter): Pins {
  return {
    ...(counter === undefined ? {} : { counter }),
    scopes: new Map(scopes.map((scope) => [scopeName(scope), { epoch: scope.epoch, keyId: keyId(scope.seed) }])),
    device,
  };
}

/** Encodes pins, pretty-printed, because people read this file and keep it in their configuration. */
export function encodePins({ scopes, next, device, counter }: Pins): Uint8Array {
  const sorted: unknown = JSON.parse(
    canonicalJson({
      version: 1,
      scopes: jsonOf(scopes),
      ...(next === undefined ? {} : { next: jsonOf(next) }),
      ...(device === undefined ? {} : { tpm2Device: device }),
      ...(counter === undefined ? {} : { tpm2Counter: { index: counterText(counter.index), start: counter.start } }),
    }),
  );
  return new TextEncoder().encode(`${JSON.stringify(sorted, undefined, 2)}\n`);
}

const jsonOf = (scopes: ReadonlyMap<string, Pin>): unknown =>
  Object.fromEntries(
    [...scopes].map(([name, pin]) => [name, { epoch: pin.epoch, keyId: Buffer.from(pin.keyId).toString('hex') }]),
  );

/** Parses {@link encodePins}. @throws Failure `malformed` */
export function parsePins(bytes: Uint8Array, file: string): Pins {
  const json = Json.parse(bytes, file, pinsHint);
  json.at('version').whole(1, 1);
  const next = json.at('next').optional(scopesIn);
  const counter = json.at('tpm2Counter').optional(counterIn);
  return {
    scopes: scopesIn(json.at('scopes')),
    ...(next === undefined ? {} : { next }),
    device: json.at('tpm2Device').optional((item) => item.text()),
    ...(counter === undefined ? {} : { counter }),
  };
}

function counterIn(item: Json): PinnedCounter {
  const index = item.at('index').text();
  if (!/^0x1[0-9a-f]{6}$/.test(index)) throw item.at('index').unexpected('an NV index');
  return { index: Number(index), start: item.at('start').whole(0, Number.MAX_SAFE_INTEGER) };
}

const scopesIn = (item: Json): ReadonlyMap<string, Pin> =>
  new Map(
    item.entries().map(([name, pin]): [string, Pin] => {
      const id = pin.at('keyId').text();
      if (!/^[0-9a-f]{32}$/.test(id)) throw pin.at('keyId').unexpected('32 hexadecimal digits');
      return [name, { epoch: pin.at('epoch').whole(1, 0xffffffff), keyId: new Uint8Array(Buffer.from(id, 'hex')) }];
    }),
  );

/** Reads this machine's pins; undefined if there are none. @throws Failure `malformed` */
export function readPins({ pins }: Paths): Pins | undefined {
  const file = readIfPresent(pins);
  return file && parsePins(file, pins);
}

/** Whether two sets of pins have the same scopes, epochs and key ids. */
export function samePins(one: ReadonlyMap<string, Pin>, other: ReadonlyMap<string, Pin>): boolean {
  return (
    one.size === other.size &&
    [...one].every(([name, { epoch, keyId: id }]) => {
      const pin = other.get(name);
      return pin?.epoch === epoch && timingSafeEqual(pin.keyId, id);
    })
  );
}

/**
 * Checks that these are exactly the pinned scopes.
 * @throws Failure `not-pinned` that names the scope
 */
export function verifyPins(scopes: readonly Scope[], { scopes: pins, next, device }: Pins): void {
  if (next !== undefined && samePins(pinsOf(scopes, device).scopes, next)) return;
  for (const scope of scopes) {
    const pin = pins.get(scopeName(scope));
    if (!pin)
      throw new Failure(
        'not-pinned',
        `seeds.age holds a seed for ${scopeName(scope)}, which this machine does not expect`,
        { hint },
      );
    if (pin.epoch !== scope.epoch || !timingSafeEqual(pin.keyId, keyId(scope.seed)))
      throw new Failure('not-pinned', `the seed of ${scopeName(scope)} is not the one that this machine expects`, {
        hint,
      });
  }
  for (const name of pins.keys()) {
    if (!scopes.some((scope) => scopeName(scope) === name))
      throw new Failure('not-pinned', `seeds.age holds no seed for ${name}, which this machine expects`, { hint });
  }
}

/** Reads the pins; undefined if they are missing or damaged. */
export function pinsIn(paths: Paths): Pins | undefined {
  const pins = pinsSeen(paths);
  return pins === 'damaged' ? undefined : pins;
}

/**
 * Reads the pins of seeds that were on this disk before. Ignores the pins of a first seal that was killed before it
 * wrote seeds.age.
 */
export function establishedPins(paths: Paths): Pins | 'damaged' | undefined {
  const pins = pinsSeen(paths);
  if (pins === undefined || pins === 'damaged') return pins;
  const isUnfinished = pins.next !== undefined && samePins(pins.scopes, pins.next) && !existsSync(paths.seeds);
  return isUnfinished ? undefined : pins;
}

function pinsSeen(paths: Paths): Pins | 'damaged' | undefined {
  try {
    return readPins(paths);
  } catch (error) {
    if (error instanceof Failure && error.code === 'malformed') return 'damaged';
    throw error;
  }
}

/** Writes the pins, unless the file has them already. */
export function writePins(paths: Paths, pins: Pins): void {
  const bytes = encodePins(pins);
  if (Buffer.compare(readIfPresent(paths.pins) ?? new Uint8Array(0), bytes) !== 0)
    replaceFile(paths.pins, bytes, { mode: 0o644 });
}

/** Finishes the work of a killed seal: pins only the seeds that opened. The caller holds the lock. */
export function settlePins(paths: Paths, scopes: readonly Scope[]): void {
  const pins = pinsIn(paths);
  if (pins?.next !== undefined) writePins(paths, pinsOf(scopes, pins.device, pins.counter));
}
