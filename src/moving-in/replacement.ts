/** The configuration that takes the place of the old one: a manifest, or options of the NixOS module. */
import { printable } from '../system/printable.ts';
import type { Use } from './findings.ts';
import { nixText } from './nix-text.ts';

/** A secret in its new place. */
export interface Moved {
  /** Its name in the manifest, which is also its path in the fixed folder. */
  readonly name: string;
  readonly use: Use;
}

/** An environment file in its new place. */
export interface MovedEnvironment extends Moved {
  /** Variables and the names of their secrets; undefined for an empty value. */
  readonly variables: readonly (readonly [string, string | undefined])[];
  readonly replaces: readonly string[];
}

/** What the replacement says. */
export interface Moving {
  readonly secrets: readonly Moved[];
  readonly environments: readonly MovedEnvironment[];
  /** The group that shares the secrets; undefined for those of one host. */
  readonly share: string | undefined;
  /** What is left to do by hand. */
  readonly notes: readonly string[];
}

type Value = string | readonly string[];
type Keys = readonly (readonly [string, Value])[];

/** A declaration: its keys, and the variables of a template. */
interface Declared {
  readonly name: string;
  readonly keys: Keys;
  readonly env: readonly (readonly [string, string])[];
}

/** The forms of a replacement. */
export const forms = ['toml', 'nix'] as const;
/** One form of a replacement. */
export type Form = (typeof forms)[number];

/** The lines of the replacement. */
export function replacementLines(moving: Moving, form: Form): string[] {
  const declared = [
    ...moving.secrets.map((secret) => ({ name: secret.name, keys: fixedKeys(secret, moving.share), env: [] })),
    ...moving.environments.map(environment),
  ];
  const notes = [
    ...moving.notes,
    ...moving.environments.flatMap(({ name, replaces }) =>
      replaces.map((line) => `${line} becomes EnvironmentFile=/run/auxcred/files/${name.replaceAll('/', '_')}`),
    ),
  ];
  // A note quotes unit files, in which no line may begin a declaration.
  const comments = notes.map((note) => `# ${printable(note, note.length)}`);
  return [
    ...comments,
    ...(comments.length === 0 ? [] : ['']),
    ...(form === 'nix' ? declared.flatMap(nix) : apart(declared.map(toml))),
  ];
}

function fixedKeys({ name, use }: Moved, share: string | undefined): Keys {
  return [['kind', 'fixed'], ...(share === undefined ? [] : [['share', share] as const]), ...useKeys(name, use)];
}

function environment({ name, use, variables }: MovedEnvironment): Declared {
  return {
    name,
    keys: [['kind', 'template'], ...useKeys(name, use)],
    env: variables.map(([key, secret]) => [key, secret === undefined ? '' : `{{${secret}}}`]),
  };
}

function useKeys(name: string, { units, credential, change, file }: Use): Keys {
  const usual = name.replaceAll('/', '_');
  const given = Object.entries(file ?? {}).map(([key, value]): [string, string] => [
    key === 'neededFor' ? 'needed-for' : key,
    value,
  ]);
  return [
    ...(units.length === 0 ? [] : [['units', units] as const]),
    ...(credential === undefined || credential === usual ? [] : [['credential', credential] as const]),
    ...(file === undefined ? [] : [['delivery', 'file'] as const]),
    ...given,
    ...(change === undefined ? [] : [['change', change] as const]),
  ];
}

/** A basic string of TOML: JSON's escapes, and DEL. */
const tomlText = (text: string): string => JSON.stringify(text).replaceAll('\x7f', '\\u007F');
const tomlKey = (key: string): string => (/^[A-Za-z0-9_-]+$/.test(key) ? key : tomlText(key));
const tomlValue = (value: Value): string =>
  typeof value === 'string' ? tomlText(value) : `[${value.map(tomlText).join(', ')}]`;

const toml = ({ name, keys, env }: Declared): string[] => [
  `[secret.${tomlKey(name)}]`,
  ...keys.map(([key, value]) => `${tomlKey(key)} = ${tomlValue(value)}`),
  ...(env.length === 0 ? [] : [`[secret.${tomlKey(name)}.env]`]),
  ...env.map(([key, value]) => `${tomlKey(key)} = ${tomlText(value)}`),
];

/** Lists of lines, with an empty line between. */
const apart = (lists: readonly (readonly string[])[]): string[] =>
  lists.flatMap((lines, i) => (i === 0 ? lines : ['', ...lines]));

const nixKeyword = /^(?:assert|else|if|in|inherit|let|or|rec|then|with)$/;
const nixKey = (key: string): string =>
  /^[A-Za-z_][A-Za-z0-9_-]*$/.test(key) && !nixKeyword.test(key) ? key : nixText(key);
const nixValue = (value: Value): string =>
  typeof value === 'string' ? nixText(value) : `[ ${value.map(nixText).join(' ')} ]`;

/** The module's option for a key of the manifest: neededFor for needed-for. */
const optionName = (key: string): string => key.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());

const nix = ({ name, keys, env }: Declared): string[] => [
  `auxcred.secrets.${nixKey(name)} = {`,
  ...keys.map(([key, value]) => `  ${nixKey(optionName(key))} = ${nixValue(value)};`),
  ...(env.length === 0 ? [] : ['  env = {']),
  ...env.map(([key, value]) => `    ${nixKey(key)} = ${nixText(value)};`),
  ...(env.length === 0 ? [] : ['  };']),
  '};',
];
