/**
 * Finds the units that a broken manifest file may mean, whatever its encoding, its escapes and the place where it was
 * cut off.
 */
import { isOwnUnit } from './units.ts';

const names = /[A-Za-z0-9:_.\\@-]+\.service\b/g;
/** A string without an end, outside of comments. */
const openString = /^(?!\s*#).*["']([A-Za-z0-9:_.\\@-]+)$/;
const control = /[^\t\n\r\x20-\x7e\x80-\xff]/;
const longestLine = 1024;
/**
 * Units without which the machine does not boot, or nobody can log in. A guess from a cut-off name leaves them alone,
 * unless it holds at least this much of their names.
 */
const vital = /^(?:systemd-|dbus|(?:serial-)?getty@|console-getty|emergency|rescue|initrd-|user@|user-runtime-dir@)/;

/** The units that a file mentions. */
export interface Mentions {
  /** Names of services, valid or not. */
  readonly units: readonly string[];
  /** The beginnings of names that were cut off. */
  readonly beginnings: readonly string[];
}

/**
 * Finds unit names in bytes of any encoding that is ASCII apart from NUL bytes (UTF-8, ISO 8859, UTF-16, UTF-32), both
 * as they are and with the escapes of TOML and JSON resolved. Leaves out auxcred's own units.
 * `generators/auxcred-generator` does the same without Node.
 */
export function mentionsIn(bytes: Uint8Array): Mentions {
  const text = Buffer.from(bytes).toString('latin1');
  const whole = text.replaceAll('\0', '');
  const beginnings = [whole, ...text.split(/\0+/)].flatMap(cutNames);
  const complete = beginnings
    .filter((start) => /.\.(?:s(?:e(?:r(?:v(?:i(?:ce?)?)?)?)?)?)?$/.test(start))
    .map((start) => `${start.slice(0, start.lastIndexOf('.'))}.service`);
  const units = [...[whole, unescaped(whole)].flatMap((reading) => reading.match(names) ?? []), ...complete];
  return { units: [...new Set(units)].filter((unit) => !isOwnUnit(unit)), beginnings: [...new Set(beginnings)] };
}

/** Whether bytes are not text at all, so that they may mention any unit. */
export const isOpaque = (bytes: Uint8Array | undefined): boolean =>
  bytes === undefined || control.test(Buffer.from(bytes).toString('latin1'));

/** Whether `beginning` may be the cut-off name of this unit. */
export function mayBe(unit: string, beginning: string): boolean {
  if (isOwnUnit(unit) || (vital.exec(unit)?.[0].length ?? 0) > beginning.length) return false;
  const at = beginning.indexOf('@');
  return unit.startsWith(beginning) || (at > 0 && unit === `${beginning.slice(0, at + 1)}.service`);
}

/**
 * The cut-off name at the end of a piece of text, and the same up to its first backslash, because an escape may have
 * been cut.
 */
function cutNames(piece: string): string[] {
  const end = piece.trimEnd().slice(-longestLine);
  return [end, unescaped(end)].flatMap((reading) => {
    const start = openString.exec(reading.slice(reading.lastIndexOf('\n') + 1))?.[1] ?? '';
    return [start, start.replace(/\\.*/, '')].filter((one) => one !== '');
  });
}

/** Resolves escapes and line-ending backslashes (TOML 1.1, RFC 8259). Turns what is not ASCII into question marks. */
function unescaped(text: string): string {
  return text.replaceAll(
    /\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|[ \t]*\r?\n\s*|([bfnrte])|(.))/g,
    (_, four?: string, eight?: string, two?: string, white?: string, other?: string) => {
      const digits = four ?? eight ?? two;
      if (digits !== undefined) return parseInt(digits, 16) < 0x80 ? String.fromCharCode(parseInt(digits, 16)) : '?';
      return white === undefined ? (other ?? '') : '\n';
    },
  );
}
