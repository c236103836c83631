/**
 * Puts an acyclic graph into columns, so that edges lead from left to right and rarely cross: layers, an order by
 * barycenters, and heights (Sugiyama, Tagawa, Toda: Methods for Visual Understanding of Hierarchical System Structures,
 * 1981). The same graph always gets the same places.
 */

export interface Box {
  readonly id: string;
  /** The leftmost column that it may be in, from 0. */
  readonly least: number;
  /** Whether it is in the last column, whatever leads there. */
  readonly isLast: boolean;
  readonly height: number;
}

export interface Link {
  readonly from: string;
  readonly to: string;
}

/** A box, or the place in a column where a longer link passes. */
export interface Place {
  /** Undefined where a link passes. */
  readonly id: string | undefined;
  readonly column: number;
  readonly height: number;
  /** The middle, from the top of the drawing. */
  y: number;
}

/** A link through the columns, from one place to the next. */
export interface Route<L extends Link> {
  readonly link: L;
  readonly places: readonly Place[];
}

export interface Layout<L extends Link> {
  /** From top to bottom. */
  readonly columns: readonly (readonly Place[])[];
  /** In the order of the links. */
  readonly routes: readonly Route<L>[];
}

/** Space between boxes, and around passing links. */
const gap = 8;
const passing = 7;
const sweeps = 24;

/** Both lists in a fixed order: it decides between places that are equally good. */
export function layout<L extends Link>(boxes: readonly Box[], links: readonly L[]): Layout<L> {
  const columnOf = columnsOf(boxes, links);
  const width = Math.max(0, ...columnOf.values()) + 1;
  const columns = Array.from({ length: width }, (): Place[] => []);
  const put = (id: string | undefined, column: number, height: number): Place => {
    const place: Place = { id, column, height, y: 0 };
    columns[column]?.push(place);
    return place;
  };
  const places = new Map(boxes.map(({ id, height }) => [id, put(id, columnOf.get(id) ?? 0, height)]));
  const routes = links.flatMap((link): Route<L>[] => {
    const [from, to] = [places.get(link.from), places.get(link.to)];
    if (!from || !to) return [];
    const between = Array.from({ length: to.column - from.column - 1 }, (_, i) =>
      put(undefined, from.column + 1 + i, 0),
    );
    return [{ link, places: [from, ...between, to] }];
  });
  const neighbours = neighboursIn(routes);
  const ordered = leastCrossing(columns, neighbours);
  settle(ordered, neighbours);
  return { columns: ordered, routes };
}

/** The columns of boxes: each is right of everything that leads to it. */
function columnsOf(boxes: readonly Box[], links: readonly Link[]): Map<string, number> {
  const columns = new Map(boxes.map(({ id, least }) => [id, least]));
  const last = new Set(boxes.filter(({ isLast }) => isLast).map(({ id }) => id));
  // A path is no longer than there are boxes.
  for (let changed = true, round = 0; changed && round <= boxes.length; round++) {
    changed = false;
    for (const { from, to } of links) {
      const least = (columns.get(from) ?? 0) + 1;
      if ((columns.get(to) ?? 0) >= least) continue;
      columns.set(to, least);
      changed = true;
    }
  }
  const end = Math.max(0, ...columns.values());
  for (const id of last) columns.set(id, end);
  return columns;
}

interface Neighbours {
  readonly before: ReadonlyMap<Place, readonly Place[]>;
  readonly after: ReadonlyMap<Place, readonly Place[]>;
}

function neighboursIn(routes: readonly Route<Link>[]): Neighbours {
  const before = new Map<Place, Place[]>();
  const after = new Map<Place, Place[]>();
  const add = (map: Map<Place, Place[]>, place: Place, other: Place): void => {
    const list = map.get(place);
    if (list) list.push(other);
    else map.set(place, [other]);
  };
  for (const { places } of routes)
    places.slice(1).forEach((to, i) => {
      const from = places[i];
      if (!from) return;
      add(after, from, to);
      add(before, to, from);
    });
  return { before, after };
}

/** Sorts each column by the mean position of its neighbours, to the right and back, and keeps the best order seen. */
function leastCrossing(columns: readonly (readonly Place[])[], { before, after }: Neighbours): Place[][] {
  let present = columns.map((column) => [...column]);
  let best = present;
  let fewest = crossingsOf(present, after);
  for (let sweep = 0; sweep < sweeps && fewest > 0; sweep++) {
    const rightward = sweep % 2 === 0;
    const sides = rightward ? before : after;
    const next = present.map((column) => [...column]);
    for (let i = 1; i < next.length; i++) {
      const at = rightward ? i : next.length - 1 - i;
      const fixed = positionsOf(next[rightward ? at - 1 : at + 1] ?? []);
      next[at] = sortedByMean(next[at] ?? [], (place) => sides.get(place) ?? [], fixed);
    }
    present = next;
    const crossings = crossingsOf(present, after);
    if (crossings < fewest) [best, fewest] = [present, crossings];
  }
  return best;
}

const positionsOf = (column: readonly Place[]): Map<Place, number> => new Map(column.map((place, i) => [place, i]));

/** Places without neighbours stay where they are. */
function sortedByMean(
  column: readonly Place[],
  neighbours: (place: Place) => readonly Place[],
  fixed: ReadonlyMap<Place, number>,
): Place[] {
  return column
    .map((place, i) => {
      const positions = neighbours(place).flatMap((other) => fixed.get(other) ?? []);
      const mean = positions.reduce((sum, position) => sum + position, 0) / positions.length;
      return { place, i, key: positions.length === 0 ? (i / column.length) * fixed.size : mean };
    })
    .sort((a, b) => a.key - b.key || a.i - b.i)
    .map(({ place }) => place);
}

/** How many of the numbers below `size` were added that are above one: a binary indexed tree (Fenwick, 1994). */
class Tally {
  readonly #sums: Uint32Array;
  #total = 0;

  constructor(size: number) {
    this.#sums = new Uint32Array(size + 1);
  }

  add(number: number): void {
    this.#total++;
    for (let i = number + 1; i < this.#sums.length; i += i & -i) this.#sums[i] = (this.#sums[i] ?? 0) + 1;
  }

  above(number: number): number {
    let upTo = 0;
    for (let i = number + 1; i > 0; i -= i & -i) upTo += this.#sums[i] ?? 0;
    return this.#total - upTo;
  }
}

/** The number of pairs of links that cross between neighbouring columns. */
export function crossingsOf(
  columns: readonly (readonly Place[])[],
  after: ReadonlyMap<Place, readonly Place[]>,
): number {
  let crossings = 0;
  for (const [i, column] of columns.entries()) {
    const positions = positionsOf(columns[i + 1] ?? []);
    // Ends on the right, in the order of the left: each that is above an earlier one is a crossing.
    const ends = column.map((place) => (after.get(place) ?? []).flatMap((to) => positions.get(to) ?? []));
    const seen = new Tally(positions.size);
    for (const group of ends) {
      for (const end of group) crossings += seen.above(end);
      for (const end of group) seen.add(end);
    }
  }
  return crossings;
}

/** Gives every place a height near its neighbours', without overlap. */
function settle(columns: readonly (readonly Place[])[], { before, after }: Neighbours): void {
  for (const column of columns) {
    let y = 0;
    for (const [i, place] of column.entries()) {
      y += distance(column[i - 1], place);
      place.y = y;
    }
  }
  const mean = (places: readonly Place[], otherwise: number): number =>
    places.length === 0 ? otherwise : places.reduce((sum, { y }) => sum + y, 0) / places.length;
  const tallest = columns.reduce(
    (most, column, i) => ((column.at(-1)?.y ?? 0) > (columns[most]?.at(-1)?.y ?? 0) ? i : most),
    0,
  );
  // The tallest column is the one that cannot be moved together, so the others are placed by it.
  for (let round = 0; round < 8; round++) {
    for (let i = tallest + 1; i < columns.length; i++)
      spread(columns[i] ?? [], (place) => mean(before.get(place) ?? [], place.y));
    for (let i = tallest - 1; i >= 0; i--) spread(columns[i] ?? [], (place) => mean(after.get(place) ?? [], place.y));
    if (columns[tallest]?.some(({ id }) => id === undefined) === true || round > 4) continue;
    spread(columns[tallest] ?? [], (place) =>
      mean([...(before.get(place) ?? []), ...(after.get(place) ?? []), place, place], place.y),
    );
  }
  const top = Math.min(...columns.flat().map(({ y, height }) => y - height / 2));
  for (const place of columns.flat()) place.y -= top;
}

/** Between the middles of two places, one below the other. */
export const distance = (above: Place | undefined, below: Place): number =>
  above === undefined
    ? 0
    : (above.height + below.height) / 2 + (above.id === undefined || below.id === undefined ? passing : gap);

/**
 * Moves the places of a column as near to where they want to be as their order and distances allow: the least squares
 * of an isotonic regression (Barlow, Bartholomew, Bremner, Brunk, 1972, pool adjacent violators).
 */
function spread(column: readonly Place[], wanted: (place: Place) => number): void {
  const blocks: { sum: number; count: number }[] = [];
  let offset = 0;
  const offsets = column.map((place, i) => (offset += distance(column[i - 1], place)));
  for (const [i, place] of column.entries()) {
    let block = { sum: wanted(place) - (offsets[i] ?? 0), count: 1 };
    for (
      let above = blocks.at(-1);
      above && above.sum / above.count >= block.sum / block.count;
      above = blocks.at(-1)
    ) {
      blocks.pop();
      block = { sum: above.sum + block.sum, count: above.count + block.count };
    }
    blocks.push(block);
  }
  const places = column[Symbol.iterator]();
  let i = 0;
  for (const { sum, count } of blocks)
    for (let left = count; left > 0; left--, i++) {
      const next = places.next();
      if (next.done !== true) next.value.y = sum / count + (offsets[i] ?? 0);
    }
}
