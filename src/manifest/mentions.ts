/** What a file may mean that can't be read as a manifest: no encoding, no escape and no cut hides a unit's name. */
import { isOwnUnit } from './units.ts';

const names = /[A-Za-z0-9:_.\\@-]+\.service\b/g;
/** A string that begins and does not end, but not in a comment. */
const openString = /^(?!\s*#).*["']([A-Za-z0-9:_.\\@-]+)$/;
const control = /[^\t\n\r\x20-\x7e\x80-\xff]/;
const longestLine = 1024;
/**
 * Units without which there is no boot and no way in. A guess spares them, unless it spells that much of their names.
 */
const vital = /^(?:systemd-|dbus|(?:serial-)?getty@|console-getty|emergency|rescue|initrd-|user@|user-runtime-dir@)/;

/** What a file mentions. */
export interface Mentions {
  /** Names of services, valid or not. */
  readonly units: readonly string[];
  /** How the names begin in whose middle the file was cut off. */
  readonly beginnings: readonly string[];
}

/**
 * Reads bytes in any encoding that keeps ASCII but for NUL bytes (UTF-8, ISO 8859, UTF-16, UTF-32), as they stand and
 * with the escapes of TOML and JSON resolved. auxcred's own units are left out. `generators/auxcred-generator` does the
 * same without Node.
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

/** Whether bytes are no text at all, so that nobody can tell what they mention. */
export const isOpaque = (bytes: Uint8Array | undefined): boolean =>
  bytes === undefined || control.test(Buffer.from(bytes).toString('latin1'));

/** Whether a unit is one whose name may have been cut off to `beginning`. */
export function mayBe(unit: string, beginning: string): boolean {
  if (isOwnUnit(unit) || (vital.exec(unit)?.[0].length ?? 0) > beginning.length) return false;
  const at = beginning.indexOf('@');
  return unit.startsWith(beginning) || (at > 0 && unit === `${beginning.slice(0, at + 1)}.service`);
}

/**
 * The name that a piece of text ends in the middle of; up to its first backslash too, where an escape may have been
 * cut.
 */
function cutNames(piece: string): string[] {
  const end = piece.trimEnd().slice(-longestLine);
  return [end, unescaped(end)].flatMap((reading) => {
    const start = openString.exec(reading.slice(reading.lastIndexOf('\n') + 1))?.[1] ?? '';
    return [start, start.replace(/\\.*/, '')].filter((one) => one !== '');
  });
}

/**
 * With escapes and line-ending backslashes resolved (TOML 1.1, RFC 8259); what is not ASCII becomes a question mark.
 */
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
