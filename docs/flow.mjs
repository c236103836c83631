// Prints docs/flow.svg: how a secret flows from the operator's vault to a unit. `node docs/flow.mjs > docs/flow.svg`

const width = 960;
const height = 372;
const colours = {
  line: '#57606a',
  text: '#1f2328',
  quiet: '#57606a',
  paper: '#ffffff',
  secret: '#fff1e5',
  sealed: '#ddf4ff',
  unit: '#dafbe1',
};

const escaped = (text) =>
  text.replace(/[&<>]/g, (character) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[character]);

const label = (x, y, text, { size = 13, fill = colours.text, anchor = 'middle', weight = 400 } = {}) =>
  `<text x="${x}" y="${y}" font-size="${size}" fill="${fill}" text-anchor="${anchor}" font-weight="${weight}">${escaped(text)}</text>`;

/** A box with a title and quieter lines below it. */
function box({ x, y, w, h, fill, title, lines }) {
  const middle = x + w / 2;
  return [
    `<rect x="${x}" y="${y}" width="${w}" height="${h}" rx="8" fill="${fill}" stroke="${colours.line}"/>`,
    label(middle, y + 24, title, { weight: 600, size: 14 }),
    ...lines.map((line, index) => label(middle, y + 45 + index * 17, line, { size: 12, fill: colours.quiet })),
  ].join('\n');
}

/** A dashed frame around what lies on one machine. */
const frame = ({ x, y, w, h, title }) =>
  `<rect x="${x}" y="${y}" width="${w}" height="${h}" rx="12" fill="none" stroke="${colours.line}" stroke-dasharray="5 5"/>\n${label(x + 14, y + 22, title, { anchor: 'start', fill: colours.quiet })}`;

function arrow({ from, to, text, side = 'above' }) {
  const [x1, y1] = from;
  const [x2, y2] = to;
  const upright = x1 === x2;
  const place = upright ? [x1 + 10, (y1 + y2) / 2 + 4] : [(x1 + x2) / 2, y1 + (side === 'above' ? -9 : 18)];
  return [
    `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="${colours.line}" stroke-width="1.5" marker-end="url(#head)"/>`,
    label(place[0], place[1], text, { size: 12, fill: colours.quiet, anchor: upright ? 'start' : 'middle' }),
  ].join('\n');
}

const parts = [
  frame({ x: 12, y: 12, w: 226, h: 348, title: 'operator' }),
  frame({ x: 330, y: 12, w: 618, h: 348, title: 'machine' }),
  box({
    x: 30,
    y: 48,
    w: 190,
    h: 106,
    fill: colours.secret,
    title: 'vault',
    lines: ['fleet seed (an age file)', 'fixed secrets, encrypted', 'hosts, groups, epochs'],
  }),
  box({
    x: 30,
    y: 236,
    w: 190,
    h: 106,
    fill: colours.paper,
    title: 'manifest',
    lines: ['which unit gets', 'which secret', '(your configuration)'],
  }),
  box({
    x: 350,
    y: 48,
    w: 190,
    h: 106,
    fill: colours.sealed,
    title: 'seeds.age',
    lines: ['seeds of this host and', 'its groups, sealed to TPM', 'and PCRs, or to a host key'],
  }),
  box({
    x: 350,
    y: 236,
    w: 190,
    h: 106,
    fill: colours.sealed,
    title: 'snapshot',
    lines: ['which unit gets which', 'secret, authenticated', 'by a key from the seed'],
  }),
  box({
    x: 640,
    y: 48,
    w: 130,
    h: 106,
    fill: colours.secret,
    title: 'broker',
    lines: ['opens the seed', 'once, derives', 'on request'],
  }),
  box({
    x: 816,
    y: 48,
    w: 116,
    h: 106,
    fill: colours.unit,
    title: 'systemd',
    lines: ['asks for', 'web.service', 'session-key'],
  }),
  box({
    x: 640,
    y: 236,
    w: 292,
    h: 106,
    fill: colours.unit,
    title: 'web.service',
    lines: ['$CREDENTIALS_DIRECTORY/session-key', 'its own secrets, and no other unit’s,', 'or it does not start'],
  }),
  arrow({ from: [220, 90], to: [346, 90], text: 'push (ssh)' }),
  arrow({ from: [220, 289], to: [346, 289], text: 'push, or apply' }),
  arrow({ from: [540, 90], to: [636, 90], text: '1 unseal' }),
  `<path d="M540 270 H590 V130 H634" fill="none" stroke="${colours.line}" stroke-width="1.5" marker-end="url(#head)"/>`,
  arrow({ from: [816, 84], to: [774, 84], text: '' }),
  arrow({ from: [770, 116], to: [812, 116], text: '' }),
  arrow({ from: [874, 154], to: [874, 232], text: '' }),
  label(866, 198, 'KDF(seed, name, …), encrypted', { anchor: 'end', size: 12, fill: colours.quiet }),
];

const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, sans-serif" role="img">
<title>From the operator's vault over a sealed seed to a unit's credential</title>
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="${colours.line}"/></marker></defs>
<rect width="${width}" height="${height}" fill="${colours.paper}"/>
${parts.join('\n')}
</svg>
`;

process.stdout.write(svg);
