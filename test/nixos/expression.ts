/** Values as Nix expressions, and Debian's nix to evaluate them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What declarations are made of. */
export type Value = null | boolean | number | string | readonly Value[] | { readonly [key: string]: Value };

/** Whether a value is a list. */
export const isList = (value: Value): value is readonly Value[] => Array.isArray(value);

/** Writes a text as a Nix string. It can't hold NUL. */
export const nixText = (text: string): string =>
  `"${text
    .replaceAll(/["\\$]/g, '\\$&')
    .replaceAll('\n', '\\n')
    .replaceAll('\r', '\\r')
    .replaceAll('\t', '\\t')}"`;

/** Writes a value as a Nix expression. */
export function nixValue(value: Value): string {
  if (typeof value === 'string') return nixText(value);
  if (typeof value === 'number')
    // Nix has no notation for all numbers, but reads JSON's.
    return Number.isSafeInteger(value) && value >= 0 ? String(value) : `(builtins.fromJSON ${nixText(String(value))})`;
  if (value === null || typeof value === 'boolean') return String(value);
  if (isList(value)) return `[ ${value.map(nixValue).join(' ')} ]`;
  const members = Object.entries(value).map(([key, item]) => `${nixText(key)} = ${nixValue(item)};`);
  return `{ ${members.join(' ')} }`;
}

/** Evaluates an expression to JSON, without a store and without a configuration. @throws Error with what nix said */
export function evaluated(expression: string): unknown {
  const folder = mkdtempSync(join(tmpdir(), 'auxcred-nix-'));
  try {
    const file = join(folder, 'expression.nix');
    writeFileSync(file, expression);
    const args = ['--eval', '--strict', '--json', file];
    const { status, stdout, stderr, error } = nix('nix-instantiate', args, folder);
    if (error !== undefined || status !== 0) throw new Error(`nix-instantiate: ${error?.message ?? stderr}`);
    const parsed: unknown = JSON.parse(stdout);
    return parsed;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Why one of these files does not parse; empty if they do. */
export function parseErrors(files: readonly string[]): string {
  const { status, stderr, error } = nix('nix-instantiate', ['--parse', ...files], tmpdir());
  return status === 0 ? '' : (error?.message ?? stderr);
}

/** Runs a program of nix with a store and a state of its own. */
function nix(program: string, args: readonly string[], home: string) {
  return spawnSync(program, args, {
    encoding: 'utf8',
    maxBuffer: 256 << 20,
    env: {
      PATH: process.env['PATH'],
      HOME: home,
      NIX_REMOTE: 'dummy://',
      NIX_CONFIG: 'build-users-group =\nsandbox = false',
    },
  });
}
