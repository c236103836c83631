// Prints docs/peers.svg, a plot of the deliveries in docs/peers.json: `node docs/peers.mjs > docs/peers.svg`. With `page`
// it prints docs/bench.md with these tables. `npm run bench -- peers tpm --write-docs` measures and writes all of them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const data = JSON.parse(readFileSync(join(import.meta.dirname, 'peers.json'), 'utf8'));
const ofKind = (kind) => data.filter((entry) => entry.kind === kind);
const sizes = [...new Set(ofKind('delivery').map(({ secrets }) => secrets))].sort((a, b) => a - b);

/** The ways in the order of their first measurement. */
const ways = [...new Map(ofKind('delivery').map(({ way, label }) => [way, { id: way, label }])).values()];
const took = (kind, way, size) =>
  ofKind(kind).find((entry) => entry.way === way && entry.secrets === size)?.milliseconds;

const count = (number) => number.toLocaleString('en');
const duration = (milliseconds) => {
  if (milliseconds === undefined) return 'not run';
  if (milliseconds < 995) return `${Number(milliseconds.toPrecision(milliseconds < 10 ? 2 : 3)).toFixed(0)} ms`;
  return `${(milliseconds / 1000).toFixed(milliseconds < 9950 ? 1 : 0)} s`;
};

// The plot. Pixels.
const width = 960;
const height = 500;
const plot = { left: 78, right: 700, top: 60, bottom: 446 };
const label = { size: 13, apart: 18 };

const points = ways.map(({ id }) =>
  sizes.flatMap((size) => {
    const time = took('delivery', id, size);
    return time === undefined ? [] : [{ size, time }];
  }),
);
const times = points.flat().map(({ time }) => time);
/** Powers of ten around everything. */
const decades = [Math.floor(Math.log10(Math.min(...times))), Math.ceil(Math.log10(Math.max(...times)))];
const widest = Math.log10(Math.max(...sizes));

const rounded = (number) => Math.round(number * 10) / 10;
const xOf = (size) => rounded(plot.left + (Math.log10(size) / widest) * (plot.right - plot.left));
const yOf = (time) => {
  const part = (Math.log10(time) - decades[0]) / (decades[1] - decades[0]);
  return rounded(plot.bottom - part * (plot.bottom - plot.top));
};

const escaped = (text) =>
  text.replace(/[&<>]/g, (character) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[character]);
const text = (x, y, content, { kind = 'quiet', anchor = 'middle' } = {}) =>
  `<text class="${kind}" x="${x}" y="${y}" text-anchor="${anchor}">${escaped(content)}</text>`;

const tick = (decade) => duration(10 ** decade).replace('.0 s', ' s');

function axes() {
  const rows = Array.from({ length: decades[1] - decades[0] + 1 }, (_, i) => decades[0] + i);
  return [
    ...rows.flatMap((decade) => [
      `<path class="grid" d="M${plot.left} ${yOf(10 ** decade)}H${plot.right}"/>`,
      text(plot.left - 10, yOf(10 ** decade) + 4, tick(decade), { anchor: 'end' }),
    ]),
    ...sizes.flatMap((size) => [
      `<path class="grid" d="M${xOf(size)} ${plot.top}V${plot.bottom}"/>`,
      text(xOf(size), plot.bottom + 20, count(size)),
    ]),
    text((plot.left + plot.right) / 2, plot.bottom + 42, 'secrets'),
  ];
}

/** Labels beside the ends of their lines, moved apart where lines end close to each other. */
function labelled() {
  const ends = ways
    .map((way, i) => ({ way, end: points[i].at(-1) }))
    .filter(({ end }) => end !== undefined)
    .map(({ way, end }) => ({
      way,
      x: xOf(end.size),
      y: yOf(end.time),
      whole: end.size === sizes.at(-1),
      time: end.time,
    }));
  const column = ends.filter(({ whole }) => whole).sort((a, b) => a.y - b.y);
  const places = column.map(({ y }) => y);
  // Each pass moves neighbours that overlap away from each other by the same amount.
  for (let pass = 0; pass < 200; pass++)
    for (let i = 1; i < places.length; i++) {
      const lacking = label.apart - (places[i] - places[i - 1]);
      if (lacking <= 0) continue;
      places[i - 1] -= lacking / 2;
      places[i] += lacking / 2;
    }
  return [
    ...column.flatMap(({ way, x, y, time }, i) => {
      const at = rounded(places[i]);
      return [
        `<path class="leader ${way.id}" d="M${x + 5} ${y}L${x + 18} ${at}"/>`,
        text(x + 22, rounded(at + 4), `${way.label}  ${duration(time)}`, { kind: `label ${way.id}`, anchor: 'start' }),
      ];
    }),
    ...ends
      .filter(({ whole }) => !whole)
      .map(({ way, x, y }) => text(x + 9, rounded(y + 4), way.label, { kind: `label ${way.id}`, anchor: 'start' })),
  ];
}

const lines = ways.flatMap(({ id, label: name }, i) => {
  const path = points[i].map(({ size, time }, at) => `${at === 0 ? 'M' : 'L'}${xOf(size)} ${yOf(time)}`).join('');
  return [
    `<path class="line ${id}" d="${path}"><title>${escaped(name)}</title></path>`,
    ...points[i].map(
      ({ size, time }) =>
        `<circle class="dot ${id}" cx="${xOf(size)}" cy="${yOf(time)}" r="3.5">` +
        `<title>${escaped(`${name}: ${count(size)} secrets in ${duration(time)}`)}</title></circle>`,
    ),
  ];
});

/** Readable on white and on black; whatever uses a TPM is dashed. */
const style = `
  svg { color: #1f2328; font-family: system-ui, sans-serif; }
  .page { fill: #ffffff; }
  text { fill: currentColor; font-size: ${label.size}px; }
  .quiet { fill-opacity: 0.75; font-size: 12px; } .heading { font-size: 15px; font-weight: 600; }
  .label { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; }
  .grid { stroke: currentColor; stroke-opacity: 0.15; fill: none; }
  .line { fill: none; stroke: currentColor; stroke-width: 1.8; } .leader { fill: none; stroke: currentColor; }
  .dot { fill: currentColor; }
  .auxcred-host, .auxcred-tpm { color: #0969da; } .creds-host, .creds-tpm { color: #bc4c00; }
  .age { color: #1a7f37; } .pass { color: #8250df; } .plain { color: #6e7781; }
  .line.auxcred-host, .line.auxcred-tpm { stroke-width: 3; }
  .line.auxcred-tpm, .line.creds-tpm { stroke-dasharray: 7 5; }
  .label.auxcred-host, .label.auxcred-tpm { font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    svg { color: #e6edf3; }
    .page { fill: #0d1117; }
    .label { stroke: #0d1117; }
    .auxcred-host, .auxcred-tpm { color: #58a6ff; } .creds-host, .creds-tpm { color: #f0883e; }
    .age { color: #56d364; } .pass { color: #bc8cff; } .plain { color: #8b949e; }
  }`;

const svg =
  () => `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title about">
<title id="title">From nothing running to all secrets delivered</title>
<desc id="about">Time for ${sizes.map(count).join(', ')} secrets on one machine, by ${ways.map(({ label: name }) => escaped(name)).join('; ')}. Both axes are logarithmic.</desc>
<style>${style}
</style>
<rect class="page" width="${width}" height="${height}"/>
${text(plot.left, 32, 'From nothing running to all secrets delivered', { kind: 'heading', anchor: 'start' })}
${[...axes(), ...lines, ...labelled()].join('\n')}
</svg>
`;

// The tables.
const row = (cells) => `| ${cells.join(' | ')} |`;
const table = (head, rows) => [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');

const timeTable = (kind) =>
  table(
    ['', ...sizes.map((size) => (size === 1 ? '1 secret' : count(size)))],
    ways.map(({ id, label: name }) => [name, ...sizes.map((size) => duration(took(kind, id, size)))]),
  );

function tpmTable() {
  const rows = ofKind('tpm').map(({ secrets, ours, theirs, oursTook, theirsTook }) => [
    count(secrets),
    ours,
    theirs,
    duration(oursTook),
    duration(theirsTook),
  ]);
  const head = ['secrets', 'commands, auxcred', 'commands, systemd-creds', 'time, auxcred', 'time, systemd-creds'];
  return table(head, rows);
}

const cutTable = () =>
  table(
    ['', 'auxcred', 'systemd-creds'],
    [
      ...ofKind('power cuts').map(({ ours, theirs }) => ['power cuts, each after an unseal', ours, theirs]),
      ...ofKind('lockout').map(({ ours, theirs }) => ['in the lockout that systemd-creds led to', ours, theirs]),
    ],
  );

const machineTable = () =>
  table(
    ['', ''],
    ofKind('machine').flatMap(({ kind: _, ...facts }) => Object.entries(facts)),
  );

const parts = {
  machine: machineTable,
  delivery: () => timeTable('delivery'),
  rotation: () => timeTable('rotation'),
  tpm: tpmTable,
  cuts: cutTable,
};
/** The page with the tables in the places that comments mark. */
const page = () =>
  readFileSync(join(import.meta.dirname, 'bench.md'), 'utf8').replaceAll(
    /(<!-- table: ([a-z]+) -->\n)[^]*?(<!-- end -->)/g,
    (_, start, name, end) => `${start}\n${parts[name]()}\n\n${end}`,
  );

process.stdout.write(process.argv[2] === 'page' ? page() : svg());
