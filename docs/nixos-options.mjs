// Prints docs/nixos-options.md: the options of the NixOS module, as nixos/options.nix describes them.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

function options() {
  const home = mkdtempSync(join(tmpdir(), 'auxcred-nix-'));
  try {
    const env = { PATH: process.env.PATH, HOME: home, NIX_REMOTE: 'dummy://' };
    const args = ['--eval', '--strict', '--json', join(import.meta.dirname, '../nixos/options-page.nix')];
    const { status, stdout, stderr, error } = spawnSync('nix-instantiate', args, { encoding: 'utf8', env });
    if (status !== 0) throw new Error(error?.message ?? stderr);
    return JSON.parse(stdout);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

const isIdentifier = (key) => /^[A-Za-z_][A-Za-z0-9_'-]*$/.test(key);

/** Writes a value as people write it in Nix. */
function expression(value) {
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (Array.isArray(value)) return value.length === 0 ? '[ ]' : `[ ${value.map(expression).join(' ')} ]`;
  if (typeof value.literal === 'string') return value.literal.trim();
  const members = Object.entries(value).map(
    ([key, item]) => `${isIdentifier(key) ? key : JSON.stringify(key)} = ${expression(item)};`,
  );
  return members.length === 0 ? '{ }' : `{ ${members.join(' ')} }`;
}

const code = (label, value) => {
  const text = expression(value);
  return text.includes('\n')
    ? `${label}:\n\n${text.replaceAll(/^(?=.)/gm, '    ')}`
    : `${label}: \`${text.replaceAll('`', "'")}\``;
};

/** Markdown of at most 120 columns; NixOS' own roles become code. */
function prose(text) {
  const words = text
    .replaceAll(/\{option\}(`[^`]+`)/g, '$1')
    .trim()
    .split(/\s+/);
  const lines = [''];
  for (const word of words) {
    const line = lines.at(-1);
    if (line !== '' && line.length + 1 + word.length > 120) lines.push(word);
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`;
  }
  return lines.join('\n');
}

const section = ({ name, type, description, readOnly, defaultText, example, ...rest }) => {
  const facts = [`Type: ${type}${readOnly ? ', read-only' : ''}`];
  const shown = defaultText ?? rest.default;
  if ('default' in rest || defaultText !== undefined) facts.push(code('Default', shown));
  if (example !== undefined) facts.push(code('Example', example));
  return `## ${name.replaceAll(/<(\w+)>/g, '&lt;$1&gt;')}\n\n${prose(description)}\n\n${facts.map((fact) => (fact.includes('\n') ? fact : prose(fact))).join('\n\n')}\n`;
};

console.log(`# NixOS options

Every option of the module, as \`nixos/options.nix\` has it. \`node docs/nixos-options.mjs\` prints
this page; [nixos.md](nixos.md) says how they are used. A service's own secrets,
\`systemd.services.<name>.auxcred.<name>\`, have the options of \`auxcred.secrets.<name>\`.

${options().map(section).join('\n')}`);
