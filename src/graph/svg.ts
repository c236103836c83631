/** Draws a graph of secrets as SVG 1.1, for light and dark pages, with a title on everything. */
import { type Layout, type Link, layout, type Place } from './layers.ts';
import type { GraphEdge, GraphNode, NodeKind, SecretGraph } from './secret-graph.ts';

/** Pixels. A letter of a monospaced font is 0.6 em wide, and some are a little wider. */
const size = { name: 13, row: 11 } as const;
const letter = 0.615;
const header = 26;
const row = 15;
const padding = 10;
const margin = 20;
const heading = 44;
/** Longer names are cut in the middle; the title has the whole name. */
const longest = 44;

const headings: Readonly<Record<NodeKind, string>> = {
  scope: 'scopes',
  secret: 'secrets',
  made: 'made of secrets',
  unit: 'units',
};

/** Colors of edges that leave neighbouring boxes, readable on white and on black. */
const edgeColors = ['#3b7dd8', '#c2571a', '#2f8f4e', '#a347ba', '#b8860b', '#0f8b8d', '#cf3f6b', '#6b6fd6'] as const;

const style = `
  svg { color: #1f2328; font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
  .page { fill: #ffffff; }
  .box { stroke: currentColor; stroke-opacity: 0.45; }
  .scope .box { fill: #fff1e5; } .secret .box { fill: #ddf4ff; } .made .box { fill: #fbefff; } .unit .box { fill: #dafbe1; }
  text { fill: currentColor; font-size: ${String(size.name)}px; }
  .quiet { font-size: ${String(size.row)}px; fill-opacity: 0.75; }
  .edge { fill: none; stroke-width: 1.4; stroke-opacity: 0.8; }
  .edge:hover { stroke-width: 3.5; stroke-opacity: 1; }
  .of-scope { stroke: currentColor; stroke-opacity: 0.3; stroke-width: 1; }
  @media (prefers-color-scheme: dark) {
    svg { color: #e6edf3; }
    .page { fill: #0d1117; }
    .scope .box { fill: #3d2a1a; } .secret .box { fill: #12304a; } .made .box { fill: #33204a; } .unit .box { fill: #163a24; }
  }`;

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escaped = (text: string): string => text.replaceAll(/[&<>"]/g, (character) => escapes[character] ?? '');
const cut = (text: string): string =>
  text.length <= longest ? text : `${text.slice(0, longest / 2)}…${text.slice(1 - longest / 2)}`;
const widthOf = (text: string, pixels: number): number => Math.ceil(cut(text).length * pixels * letter);
const rounded = (number: number): string => String(Math.round(number * 10) / 10);
/** `key, .pub`: names that begin with the first one are shortened to their ends. */
const rowText = ({ as: [first = '', ...others] }: GraphEdge): string =>
  [first, ...others.map((name) => (name.startsWith(`${first}.`) ? name.slice(first.length) : name))].join(', ');

/** A node with its place, and what leads to it from top to bottom. */
interface Drawn {
  readonly node: GraphNode;
  readonly place: Place;
  readonly rows: readonly GraphEdge[];
}

type Plan = Layout<Link & { readonly edge: GraphEdge }>;

interface Column {
  readonly x: number;
  readonly width: number;
}

/** The text of an SVG file. @param title - what is shown: `Secrets of web1` */
export function svgOf(graph: SecretGraph, title: string): string {
  const rows = new Map<string, GraphEdge[]>();
  for (const edge of graph.edges)
    if (edge.to.kind === 'unit' || edge.to.kind === 'made') {
      const list = rows.get(edge.to.id);
      if (list) list.push(edge);
      else rows.set(edge.to.id, [edge]);
    }
  const rowsOf = ({ id }: GraphNode): readonly GraphEdge[] => rows.get(id) ?? [];
  const heightOf = (node: GraphNode): number =>
    header + (rowsOf(node).length === 0 ? 0 : rowsOf(node).length * row + 6);
  const plan = layout(
    graph.nodes.map((node) => ({
      id: node.id,
      least: { scope: 0, secret: 1, made: 2, unit: 2 }[node.kind],
      isLast: node.kind === 'unit',
      height: heightOf(node),
    })),
    graph.edges.map((edge) => ({ from: edge.from.id, to: edge.to.id, edge })),
  );
  const drawn = drawnIn(graph.nodes, plan, rowsOf);
  const height = Math.max(0, ...plan.columns.flat().map((place) => place.y + place.height / 2));
  const columns = columnsIn(plan, drawn, height);
  const last = columns.at(-1);
  const [width, tall] = [last ? last.x + last.width + margin : 2 * margin, Math.ceil(heading + height + margin)];
  const counts = (['secret', 'made', 'unit'] as const).map(
    (kind) => graph.nodes.filter((node) => node.kind === kind).length,
  );
  const [secrets = 0, made = 0, units = 0] = counts;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${String(width)}" height="${String(tall)}" ` +
      `viewBox="0 0 ${String(width)} ${String(tall)}" role="img" aria-labelledby="title about">`,
    `<title id="title">${escaped(title)}</title>`,
    `<desc id="about">Which unit gets what: ${String(secrets + made)} secrets for ${String(units)} units. Lines lead from ` +
      'a scope to its secrets, and from a secret to what is made of it and to the units that get it.</desc>',
    `<style>${style}\n</style>`,
    `<rect class="page" width="${String(width)}" height="${String(tall)}"/>`,
    ...headingsOf(drawn, columns),
    ...edgesOf(plan, drawn, columns),
    ...drawn.map((item) => boxOf(item, columns)),
    '</svg>',
    '',
  ].join('\n');
}

/** The nodes with their places, and their rows sorted so that lines to one box do not cross. */
function drawnIn(
  nodes: readonly GraphNode[],
  { columns, routes }: Plan,
  rowsOf: (node: GraphNode) => readonly GraphEdge[],
): Drawn[] {
  const from = new Map(routes.map(({ link: { edge }, places }) => [edge, places.at(-2)?.y ?? 0]));
  const places = new Map(columns.flat().map((place) => [place.id, place]));
  return nodes.flatMap((node) => {
    const place = places.get(node.id);
    if (!place) return [];
    return [{ node, place, rows: [...rowsOf(node)].sort((a, b) => (from.get(a) ?? 0) - (from.get(b) ?? 0)) }];
  });
}

/** The boxes of a column have one width. The taller the drawing, the more room the lines need between columns. */
function columnsIn(plan: Plan, drawn: readonly Drawn[], height: number): Column[] {
  const between = Math.round(Math.min(260, Math.max(70, height * 0.13)));
  let x = margin;
  return plan.columns.map((_, column) => {
    const width = Math.max(
      60,
      ...drawn
        .filter(({ place }) => place.column === column)
        .map(({ node: { name, detail }, rows }) =>
          Math.max(
            widthOf(name, size.name) + (detail === '' ? 0 : 14 + widthOf(detail, size.row)),
            ...rows.map((edge) => widthOf(rowText(edge), size.row)),
          ),
        ),
    );
    const result = { x, width: width + 2 * padding };
    x += result.width + between;
    return result;
  });
}

function headingsOf(drawn: readonly Drawn[], columns: readonly Column[]): string[] {
  return columns.map(({ x }, column) => {
    const kinds = new Set(drawn.filter(({ place }) => place.column === column).map(({ node }) => headings[node.kind]));
    return `<text class="quiet" x="${String(x)}" y="26">${[...kinds].join(', ')}</text>`;
  });
}

/** The height at which an edge enters its target. */
const entry = ({ place, rows }: Drawn, edge: GraphEdge): number => {
  const at = rows.indexOf(edge);
  return at < 0 ? place.y : place.y - place.height / 2 + header + row * (at + 0.5);
};

function edgesOf(plan: Plan, drawn: readonly Drawn[], columns: readonly Column[]): string[] {
  const byId = new Map(drawn.map((item) => [item.node.id, item]));
  const position = new Map(plan.columns.flatMap((column) => column.map((place, i) => [place, i] as const)));
  return plan.routes.flatMap(({ link: { edge: of }, places }) => {
    const to = byId.get(of.to.id);
    if (!to) return [];
    const ends = places.map(({ y }, i) => heading + (i === places.length - 1 ? entry(to, of) : y));
    const path = places.slice(1).map((place, i) => {
      const [left, right] = [columns[place.column - 1], columns[place.column]];
      const [x1, x2] = [(left?.x ?? 0) + (left?.width ?? 0), right?.x ?? 0];
      const [y1, y2, middle] = [rounded(ends[i] ?? 0), rounded(ends[i + 1] ?? 0), rounded((x1 + x2) / 2)];
      // The first point follows a passage through a column.
      return `${i === 0 ? 'M' : 'L'}${String(x1)} ${y1}C${middle} ${y1} ${middle} ${y2} ${String(x2)} ${y2}`;
    });
    const start = places[0] ?? to.place;
    const color = edgeColors[((position.get(start) ?? 0) + 5 * start.column) % edgeColors.length] ?? 'currentColor';
    const look = of.from.kind === 'scope' ? 'class="edge of-scope"' : `class="edge" stroke="${color}"`;
    const says = `${of.from.name} → ${of.to.name}${of.as.length === 0 ? '' : ` as ${of.as.join(', ')}`}`;
    return `<path ${look} d="${path.join('')}"><title>${escaped(says)}</title></path>`;
  });
}

function boxOf({ node: { kind, name, detail }, place, rows }: Drawn, columns: readonly Column[]): string {
  const { x, width } = columns[place.column] ?? { x: 0, width: 0 };
  const top = heading + place.y - place.height / 2;
  const text = (at: { x: number; y: number; end?: boolean; quiet?: boolean }, content: string): string =>
    `<text${at.quiet === true ? ' class="quiet"' : ''} x="${rounded(at.x)}" y="${rounded(at.y)}"` +
    `${at.end === true ? ' text-anchor="end"' : ''}>${escaped(cut(content))}</text>`;
  const about =
    rows.length === 0
      ? `${name}${detail === '' ? '' : `: ${detail}`}`
      : `${name}: ${rows.flatMap(({ as }) => as).join(', ')}`;
  return [
    `<g class="${kind}"><title>${escaped(about)}</title>`,
    `<rect class="box" x="${String(x)}" y="${rounded(top)}" width="${String(width)}" height="${String(place.height)}" rx="5"/>`,
    text({ x: x + padding, y: top + 17.5 }, name),
    ...(detail === '' ? [] : [text({ x: x + width - padding, y: top + 17.5, end: true, quiet: true }, detail)]),
    ...rows.map((edge, i) =>
      text({ x: x + padding, y: top + header + row * (i + 0.5) + 3.5, quiet: true }, rowText(edge)),
    ),
    '</g>',
  ].join('');
}
