/** Which entry systemd-boot boots: their order, and what overrides it (systemd-boot(7), loader.conf(5)). */
import { utf8Text } from './reader.ts';
import type { Uki } from './uki.ts';

/** What an entry is sorted by. */
export interface MenuEntry {
  readonly id: string;
  readonly sortKey: string | undefined;
  readonly machineId: string | undefined;
  readonly version: string | undefined;
  /** How often it may still be tried before it counts as bad; undefined if tries are not counted. */
  readonly triesLeft: number | undefined;
}

/** What the user or the system chose, strongest first; undefined for what is not set. */
export interface MenuChoice {
  /** LoaderEntryOneShot. */
  readonly once: string | undefined;
  /** LoaderEntryDefault. */
  readonly always: string | undefined;
  /** `default` of loader.conf. */
  readonly configured: string | undefined;
  /** LoaderEntryLastBooted, which `@saved` stands for. */
  readonly last: string | undefined;
}

/** The entry that boots if nobody chooses another one in the menu. Undefined without entries. */
export function defaultEntry<T extends MenuEntry>(entries: readonly T[], choice: MenuChoice): T | undefined {
  const ordered = inMenuOrder(entries);
  for (const wanted of [choice.once, choice.always, choice.configured]) {
    const pattern = wanted === '@saved' ? choice.last : wanted;
    const found = pattern === undefined ? undefined : ordered.find(({ id }) => fits(pattern, id));
    if (found) return found;
  }
  return ordered.find(({ triesLeft }) => triesLeft !== 0) ?? ordered[0];
}

/** In the order of the menu: the newest first, and bad entries last. */
export const inMenuOrder = <T extends MenuEntry>(entries: readonly T[]): T[] => [...entries].sort(compared);

function compared(a: MenuEntry, b: MenuEntry): number {
  const steps = [
    Number(a.triesLeft === 0) - Number(b.triesLeft === 0),
    Number(a.sortKey === undefined) - Number(b.sortKey === undefined),
    ...(a.sortKey === undefined || b.sortKey === undefined
      ? []
      : [
          textOrder(a.sortKey, b.sortKey),
          textOrder(a.machineId ?? '', b.machineId ?? ''),
          versionOrder(b.version ?? '', a.version ?? ''),
        ]),
    versionOrder(b.id.toLowerCase(), a.id.toLowerCase()),
  ];
  return steps.find((step) => step !== 0) ?? 0;
}

const textOrder = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/**
 * Compares versions (UAPI.10 Version Format Specification, "Comparing"): negative if `a` is older than `b`.
 * Everything but letters, digits and `~ - ^ .` only separates.
 */
export function versionOrder(a: string, b: string): number {
  let [left, right] = [a, b];
  for (;;) {
    left = left.replace(/^[^A-Za-z0-9~\-^.]+/, '');
    right = right.replace(/^[^A-Za-z0-9~\-^.]+/, '');
    // A version with a mark that the other lacks is the older one; ~ is older than even the end.
    for (const mark of ['~', '-', '^', '.']) {
      if (mark === '-' && (left === '' || right === '')) return Number(left !== '') - Number(right !== '');
      if (!left.startsWith(mark) && !right.startsWith(mark)) continue;
      if (!left.startsWith(mark) || !right.startsWith(mark)) return left.startsWith(mark) ? -1 : 1;
      [left, right] = [left.slice(1), right.slice(1)];
    }
    const isNumber = /^\d/.test(left) || /^\d/.test(right);
    const pattern = isNumber ? /^\d*/ : /^[A-Za-z]*/;
    const [one = '', other = ''] = [pattern.exec(left)?.[0], pattern.exec(right)?.[0]];
    const order = isNumber ? numberOrder(one, other) : textOrder(one, other);
    if (order !== 0) return order;
    [left, right] = [left.slice(one.length), right.slice(other.length)];
  }
}

function numberOrder(a: string, b: string): number {
  // A letter is older than a digit.
  if (a === '' || b === '') return Number(a !== '') - Number(b !== '');
  const [one, other] = [BigInt(a), BigInt(b)];
  return one < other ? -1 : one > other ? 1 : 0;
}

/** Whether a pattern of loader.conf fits an id: `*`, `?` and `[...]`. */
function fits(pattern: string, id: string): boolean {
  const source = pattern
    .toLowerCase()
    .replace(/[.+^${}()|\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
    .replaceAll('[!', '[^');
  try {
    return new RegExp(`^${source}$`, 'u').test(id.toLowerCase());
  } catch {
    return pattern.toLowerCase() === id.toLowerCase();
  }
}

/** A file name without its counter of tries, and the tries that are left: `a+3-1.efi` is `a.efi` with 3. */
export function countedName(name: string): Pick<MenuEntry, 'id' | 'triesLeft'> {
  const [, start, left, end] = /^(.*)\+(\d+)(?:-\d+)?(\.[^.]+)$/.exec(name) ?? [];
  return left === undefined
    ? { id: name, triesLeft: undefined }
    : { id: `${start ?? ''}${end ?? ''}`, triesLeft: Number(left) };
}

/** What systemd-boot sorts a UKI by: its os-release. */
export function ukiSorting({ image }: Uki): Pick<MenuEntry, 'sortKey' | 'version' | 'machineId'> {
  const content = image.sections.find(({ name }) => name === '.osrel')?.content;
  const text = content === undefined ? '' : utf8Text(content);
  const of = (key: string): string | undefined => new RegExp(`^${key}=(["']?)(.+)\\1$`, 'm').exec(text)?.[2];
  return {
    sortKey: of('IMAGE_ID') ?? of('ID'),
    version: of('IMAGE_VERSION') ?? of('VERSION') ?? of('VERSION_ID') ?? of('BUILD_ID'),
    machineId: undefined,
  };
}
