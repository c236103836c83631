/**
 * Reads templates: text with `{{NAME}}` in it (`content`), variables for EnvironmentFile= or a shell (`env`), or a JSON
 * document (`json`). In the last two, every value is quoted as a whole, so that no secret can end it early.
 */

import { utf8 } from '../bytes.ts';
import { type Escape, escapers } from '../derive/escape.ts';
import { namePattern } from '../derive/realm.ts';
import { nearest } from '../nearest.ts';
import type { Reference, TemplateContent } from './declaration.ts';
import type { ManifestTable } from './table.ts';

type Piece = string | Reference;
type Complain = (message: string, hint: string | undefined) => void;

/** The keys of a template's declaration, one of which it must have. */
export const templateKeys = ['content', 'env', 'json'] as const;

/** Names of variables, as shells and systemd take them. */
export const variablePattern = /^[A-Za-z_][A-Za-z0-9_]*$/;

const hint = '{{name}}, {{name.public}}, {{name | url}}; {{"{{"}} stands for two braces';
/** The escapes that `{{NAME | ...}}` may use. The last two quote a value as a whole. */
const filters: readonly Escape[] = ['base64', 'url', 'json', 'env'];
const quoting: readonly Escape[] = ['json', 'env'];

/**
 * Reads a template's declaration into pieces, with neighbouring texts joined. Reports what is wrong as problems of the
 * table.
 */
export function readTemplate(table: ManifestTable): TemplateContent {
  const given = templateKeys.filter((key) => table.value(key) !== undefined);
  const [key = 'content'] = given;
  if (given.length !== 1)
    table.problem(
      given[1] ?? '',
      'a template has one of content, env and json',
      'content = "..." for a text, [secret.NAME.env] for variables, [secret.NAME.json] for JSON',
    );
  const complain: Complain = (message, way) => {
    table.problem(key, message, way);
  };
  const value = table.value(key);
  const pieces =
    key === 'env'
      ? environment(value, complain)
      : key === 'json'
        ? [...json(value, '', complain), '\n']
        : text(table.text('content', ''), complain);
  return { form: 'template', pieces: joined(pieces) };
}

function joined(pieces: readonly Piece[]): Piece[] {
  const result: Piece[] = [];
  for (const piece of pieces) {
    const last = result.at(-1);
    if (typeof piece === 'string' && typeof last === 'string') result[result.length - 1] = last + piece;
    else if (piece !== '') result.push(piece);
  }
  return result;
}

/** Splits a text at its `{{...}}`. */
function text(content: string, complain: Complain): Piece[] {
  const pieces: Piece[] = [];
  for (let at = 0; ; ) {
    const open = content.indexOf('{{', at);
    if (open === -1) return [...pieces, content.slice(at)];
    // A literal may itself hold closing braces.
    const [whole, literal, inside = ''] = /^\{\{\s*(?:"([^"]*)"|([^{}]*?))\s*\}\}/.exec(content.slice(open)) ?? [];
    pieces.push(content.slice(at, open));
    if (whole === undefined) {
      complain(`${JSON.stringify(content.slice(open, open + 20))} is not the name of a secret in braces`, hint);
      return pieces;
    }
    if (literal === undefined) pieces.push(...slot(inside, complain));
    else pieces.push(literal);
    at = open + whole.length;
  }
}

function slot(inside: string, complain: Complain): Piece[] {
  const [reference = '', ...names] = inside.split('|').map((part) => part.trim());
  if (!namePattern.test(reference)) {
    complain(`${JSON.stringify(inside)} is not the name of a secret`, hint);
    return [];
  }
  const asked = names.flatMap((name) => {
    const known = filters.find((filter) => filter === name);
    if (known === undefined)
      complain(
        `${JSON.stringify(name)} is not an escape`,
        nearest(name, filters) ?? `escapes are ${filters.join(', ')}`,
      );
    return known === undefined ? [] : [known];
  });
  const last = asked.at(-1);
  if (asked.slice(0, -1).some((filter) => quoting.includes(filter)))
    complain(`${inside}: json and env quote a value, so they come last`, undefined);
  const piece: Reference = { reference, escapes: asked };
  return last !== undefined && quoting.includes(last) ? ['"', piece, '"'] : [piece];
}

/** Text between double quotes: its characters and its secrets are escaped alike. */
function quoted(content: string, form: 'json' | 'env', complain: Complain): Piece[] {
  const pieces = text(content, complain).map((piece): Piece => {
    if (typeof piece === 'string') return new TextDecoder().decode(escapers[form](utf8(piece)));
    if (piece.escapes.some((filter) => quoting.includes(filter)))
      complain(`${piece.reference}: the whole value is quoted here, so json and env are not needed`, undefined);
    return { ...piece, escapes: [...piece.escapes, form] };
  });
  return ['"', ...pieces, '"'];
}

function environment(value: unknown, complain: Complain): Piece[] {
  if (!isRecord(value)) {
    complain(
      'a table of variables is expected here',
      'env = { DATABASE_URL = "postgres://web:{{db-password | url}}@db/web" }',
    );
    return [];
  }
  return Object.entries(value).flatMap(([name, content]) => {
    if (!variablePattern.test(name))
      complain(`${JSON.stringify(name)} is not the name of a variable`, 'letters, digits and _');
    if (typeof content !== 'string' && typeof content !== 'boolean' && typeof content !== 'number') {
      complain(`${name} is neither text nor a number`, undefined);
      return [];
    }
    if (typeof content === 'number' && !isExact(content))
      complain(`${name} is ${String(content)}, which is not an exact number`, 'write it as text');
    // systemd reads no variables with control characters (env_value_is_valid() in its src/basic/env-util.c).
    if (/[\0-\x08\x0b-\x1f\x7f]/.test(String(content))) complain(`${name} has a control character`, undefined);
    return [`${name}=`, ...quoted(String(content), 'env', complain), '\n'];
  });
}

/** The most levels of lists and tables in a JSON document: more than programs read, and few enough for the stack. */
const deepestJson = 64;

/** JSON, indented by two spaces. Numbers, lists and tables keep the types that they have in the manifest. */
function json(value: unknown, indent: string, complain: Complain): Piece[] {
  const deeper = `${indent}  `;
  if (deeper.length > 2 * (deepestJson + 1)) {
    complain(`lists and tables are nested more than ${String(deepestJson)} deep`, undefined);
    return [];
  }
  const between = (items: readonly (readonly Piece[])[], open: string, close: string): Piece[] =>
    items.length === 0
      ? [open + close]
      : [open, ...items.flatMap((item, i) => [`${i === 0 ? '' : ','}\n${deeper}`, ...item]), `\n${indent}${close}`];
  if (typeof value === 'string') return quoted(value, 'json', complain);
  if (typeof value === 'number' && Number.isFinite(value) && !isExact(value))
    complain(`${String(value)} is not an exact number`, 'write it as text');
  if (value === null || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value)))
    return [JSON.stringify(value)];
  if (Array.isArray(value))
    return between(
      value.map((item: unknown) => json(item, deeper, complain)),
      '[',
      ']',
    );
  if (isRecord(value))
    return between(
      Object.entries(value).map(([key, item]) => [`${JSON.stringify(key)}: `, ...json(item, deeper, complain)]),
      '{',
      '}',
    );
  complain("JSON can't hold such a value", 'write a date, nan or inf as text');
  return [];
}

/**
 * Whole numbers from 2^53 up to those that ECMAScript writes with an exponent may have been rounded when they were
 * read.
 */
const isExact = (value: number): boolean =>
  Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value) || Math.abs(value) >= 1e21);

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  value !== null && typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date);
