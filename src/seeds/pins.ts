/**
 * `/etc/auxcred/scopes.json`: the scopes that this machine accepts, with epoch and key id, and its TPM.
 * Anybody can encrypt a file to a public host key or SRK, so seeds that open do not prove who made them. The pins do.
 */
import { timingSafeEqual } from 'node:crypto';
import { existsSync } from 'node:fs';
import { hex, utf8 } from '../bytes.ts';
import { keyId } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { configurationOf, moduleOptions } from '../system/configuration.ts';
import { readIfPresent, replaceIfChanged } from '../system/files.ts';
import { canonicalJson, Json } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';
import { indexText } from '../tpm2/wire.ts';
import { nvIndexIn } from './payload.ts';
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
  /**
   * Its value when these seeds were sealed. While it has this value, nothing was made active with them. 0, which no
   * counter has, if a configuration pins it.
   */
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
const otherSeedsHint =
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

/** Where a machine's pins are, and who writes them. */
export interface PinsPlace {
  readonly file: string;
  readonly writer: 'auxcred' | 'configuration';
}

/**
 * Finds the pins. If a configuration renders everything but them, they lie beside the store, because /etc may be
 * read-only or gone after the next boot; a scopes.json in /etc still comes first.
 * @throws Failure `malformed` for a damaged configuration.json
 */
export function pinsPlace(paths: Paths): PinsPlace {
  const configuration = configurationOf(paths);
  if (configuration?.pins === true) return { file: paths.pins, writer: 'configuration' };
  const isOwn = configuration !== undefined && !existsSync(paths.pins);
  return { file: isOwn ? paths.ownPins : paths.pins, writer: 'auxcred' };
}

/**
 * What a configuration pins, as one line of JSON. The counter has no start there, since each seal sets another one:
 * once a configuration names the counter, only a store with its number is accepted.
 */
export const pinsForConfiguration = ({ scopes, device, counter }: Pins): string =>
  canonicalJson({
    version: 1,
    scopes: jsonOf(scopes),
    ...(device === undefined ? {} : { tpm2Device: device }),
    ...(counter === undefined ? {} : { tpm2Counter: { index: indexText(counter.index) } }),
  });

/** Encodes pins, pretty-printed, because people read this file and keep it in their configuration. */
export function encodePins({ scopes, next, device, counter }: Pins): Uint8Array {
  const sorted: unknown = JSON.parse(
    canonicalJson({
      version: 1,
      scopes: jsonOf(scopes),
      ...(next === undefined ? {} : { next: jsonOf(next) }),
      ...(device === undefined ? {} : { tpm2Device: device }),
      ...(counter === undefined ? {} : { tpm2Counter: { index: indexText(counter.index), start: counter.start } }),
    }),
  );
  return utf8(`${JSON.stringify(sorted, undefined, 2)}\n`);
}

const jsonOf = (scopes: ReadonlyMap<string, Pin>): unknown =>
  Object.fromEntries([...scopes].map(([name, pin]) => [name, { epoch: pin.epoch, keyId: hex(pin.keyId) }]));

/**
 * Parses {@link encodePins}.
 * @param writer - a configuration's counter has no start
 * @throws Failure `malformed`
 */
export function parsePins(bytes: Uint8Array, file: string, writer: PinsPlace['writer'] = 'auxcred'): Pins {
  const json = Json.parse(bytes, file, pinsHint);
  json.version(1);
  const next = json.at('next').optional(scopesIn);
  const counter = json.at('tpm2Counter').optional((item) => counterIn(item, writer));
  return {
    scopes: scopesIn(json.at('scopes')),
    ...(next === undefined ? {} : { next }),
    device: json.at('tpm2Device').optional((item) => item.text()),
    ...(counter === undefined ? {} : { counter }),
  };
}

function counterIn(item: Json, writer: PinsPlace['writer']): PinnedCounter {
  const index = nvIndexIn(item.at('index'));
  const start = writer === 'configuration' ? 0 : item.at('start').whole(0, Number.MAX_SAFE_INTEGER);
  return { index, start };
}

const scopesIn = (item: Json): ReadonlyMap<string, Pin> =>
  new Map(
    item.entries().map(([name, pin]): [string, Pin] => {
      const id = pin.at('keyId').text();
      if (!/^[0-9a-f]{32}$/.test(id)) throw pin.at('keyId').unexpected('32 hexadecimal digits');
      return [name, { epoch: pin.at('epoch').whole(1, 0xffffffff), keyId: new Uint8Array(Buffer.from(id, 'hex')) }];
    }),
  );

/**
 * Reads this machine's pins; undefined if there are none. What a configuration's pins leave out about the TPM comes
 * from the machine's own record.
 * @throws Failure `malformed`
 */
export function readPins(paths: Paths): Pins | undefined {
  const { file, writer } = pinsPlace(paths);
  const bytes = readIfPresent(file);
  const pins = bytes && parsePins(bytes, file, writer);
  if (!pins || writer === 'auxcred') return pins;
  const recorded = readIfPresent(paths.ownPins);
  const own = recorded && parsePins(recorded, paths.ownPins);
  const counter = pins.counter ?? own?.counter;
  return { scopes: pins.scopes, device: pins.device ?? own?.device, ...(counter === undefined ? {} : { counter }) };
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

/** Where seeds come from, and the way out if they are not the pinned ones. */
export interface SeedSource {
  readonly what: string;
  readonly hint: string;
}

/**
 * Checks that these are exactly the pinned scopes.
 * @throws Failure `not-pinned` that names the scope
 */
export function verifyPins(
  scopes: readonly Scope[],
  { scopes: pins, next, device }: Pins,
  { what, hint }: SeedSource = { what: 'seeds.age', hint: otherSeedsHint },
): void {
  if (next !== undefined && samePins(pinsOf(scopes, device).scopes, next)) return;
  for (const scope of scopes) {
    const pin = pins.get(scopeName(scope));
    if (!pin)
      throw new Failure(
        'not-pinned',
        `${what} holds a seed for ${scopeName(scope)}, which this machine does not expect`,
        { hint },
      );
    if (pin.epoch !== scope.epoch || !timingSafeEqual(pin.keyId, keyId(scope.seed)))
      throw new Failure('not-pinned', `the seed of ${scopeName(scope)} is not the one that this machine expects`, {
        hint,
      });
  }
  for (const name of pins.keys()) {
    if (!scopes.some((scope) => scopeName(scope) === name))
      throw new Failure('not-pinned', `${what} holds no seed for ${name}, which this machine expects`, {
        hint,
      });
  }
}

/** Reads the pins; undefined if they are missing or damaged. */
export function usablePins(paths: Paths): Pins | undefined {
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
  // A configuration may pin seeds that are yet to be sealed.
  if (pinsPlace(paths).writer === 'configuration' && ![paths.ownPins, paths.seeds].some((file) => existsSync(file)))
    return undefined;
  const isUnfinished = pins.next !== undefined && samePins(pins.scopes, pins.next) && !existsSync(paths.seeds);
  return isUnfinished ? undefined : pins;
}

function pinsSeen(paths: Paths): Pins | 'damaged' | undefined {
  // Outside of the try: a damaged configuration.json is a failure, not damaged pins.
  pinsPlace(paths);
  try {
    return readPins(paths);
  } catch (error) {
    if (error instanceof Failure && error.code === 'malformed') return 'damaged';
    throw error;
  }
}

/**
 * Writes the pins, unless the file has them already. Pins that come from the configuration stay as they are, and what
 * only the machine knows is recorded beside the store.
 */
export function writePins(paths: Paths, pins: Pins): void {
  const { file, writer } = pinsPlace(paths);
  const written = writer === 'auxcred' ? file : paths.ownPins;
  replaceIfChanged(written, encodePins(pins), { mode: 0o644 });
}

/**
 * Refuses seeds that the configuration does not pin: sealed, they would not open.
 * @throws Failure `not-pinned` with what to pin
 */
export function refuseUnpinned(paths: Paths, pins: Pins): void {
  if (pinsPlace(paths).writer === 'auxcred') return;
  const pinned = usablePins(paths);
  if (pinned && samePins(pinned.scopes, pins.scopes)) return;
  throw new Failure(
    'not-pinned',
    pinned
      ? 'the configuration pins other seeds than these, so nothing was sealed'
      : `${paths.pins} is missing or damaged, and the configuration is to write it`,
    { hint: `${moduleOptions.pins} = builtins.fromJSON ''${pinsForConfiguration(pins)}'', or null to seal first` },
  );
}

/** Finishes the work of a killed seal: pins only the seeds that opened. The caller holds the lock. */
export function settlePins(paths: Paths, scopes: readonly Scope[]): void {
  const pins = usablePins(paths);
  if (pins?.next !== undefined) writePins(paths, pinsOf(scopes, pins.device, pins.counter));
}
