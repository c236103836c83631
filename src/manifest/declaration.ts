import type { Escape } from '../derive/escape.ts';
import type { HashMethod } from '../derive/hash-methods.ts';
import { isKeyKind, type KindOptions } from '../derive/kind.ts';
import type { Rotation } from '../derive/period.ts';

/** The ways in which a secret reaches its unit. */
export const deliveries = ['socket', 'stage', 'credstore', 'file'] as const;
/** One way in which a secret reaches its unit. */
export type Delivery = (typeof deliveries)[number];

/** What auxcred can do with a running unit whose secret changed. */
export const unitActions = ['restart', 'reload', 'none'] as const;
/** What auxcred does with a running unit whose secret changed. */
export type UnitAction = (typeof unitActions)[number];

/** A secret derived from a seed. */
export interface DerivedContent {
  readonly form: 'derived';
  readonly options: KindOptions;
  /** Counts from 1. Another generation is another secret. */
  readonly generation: number;
  /** The group that shares it; undefined for a secret of this host alone. */
  readonly share: string | undefined;
  /** How often it becomes another secret; undefined if it does not rotate. */
  readonly rotate: Rotation | undefined;
  /** The period that it is pinned to, whatever the clock says; undefined if it rotates. */
  readonly period: string | undefined;
  /** Whether the previous value is delivered too. */
  readonly previous: boolean;
}

/** A secret in another program's vault. */
export interface VaultReference {
  /** The vault's name in vault.toml, or that of a program `auxcred-vault-NAME`. */
  readonly name: string;
  /** The secret's name there. */
  readonly path: string;
  readonly options: Readonly<Record<string, string>>;
}

/** A secret that somebody chose or issued. */
export interface FixedContent {
  readonly form: 'fixed';
  /** The path in the scope's part of the fixed folder. */
  readonly path: string;
  /** The group that shares it; undefined for a secret of this host alone. */
  readonly share: string | undefined;
  /** The vault that `auxcred fetch` gets it from; undefined if `auxcred put` writes it. */
  readonly vault: VaultReference | undefined;
}

/** A hash of another secret. */
export interface HashedContent {
  readonly form: 'crypt';
  /** The other secret's name. */
  readonly of: string;
  readonly method: HashMethod;
  readonly rounds: number;
}

/**
 * A place in a template: `{{NAME}}`, `{{NAME.public}}` or `{{NAME.previous}}`. All names must be known to tell which.
 */
export interface Reference {
  readonly reference: string;
  readonly escapes: readonly Escape[];
}

/** A text with other secrets in it. */
export interface TemplateContent {
  readonly form: 'template';
  readonly pieces: readonly (string | Reference)[];
}

/** What a secret is made of. */
export type Content = DerivedContent | FixedContent | HashedContent | TemplateContent;

/** What a file must exist before: the units that name it, or systemd-sysusers, which makes users. */
export const needs = ['units', 'users'] as const;
/** What a file must exist before. */
export type Need = (typeof needs)[number];

/** The owner, mode and link of a secret that is delivered as a file. */
export interface Placement {
  /** The name or number of a user, and below of a group. */
  readonly owner: string;
  readonly group: string;
  /** Permission bits. */
  readonly mode: number;
  /** The absolute path of a symbolic link to the file; undefined if there is none. */
  readonly link: string | undefined;
  readonly neededFor: Need;
}

/** One `[secret.NAME]` of the manifest, checked, with defaults filled in. */
export interface SecretDeclaration {
  readonly name: string;
  readonly content: Content;
  /** Services, or templates, which stand for all their instances. */
  readonly units: readonly string[];
  /** The id under which the unit reads the credential. */
  readonly credential: string;
  readonly delivery: Delivery;
  /** Defined for `delivery = "file"` only. */
  readonly placement: Placement | undefined;
  readonly change: UnitAction;
  /** A command that gets the old and the new value before the new one becomes active; empty if there is none. */
  readonly hook: readonly string[];
  readonly file: string;
}

/**
 * Stands in place of a unit for secrets that no unit owns: files, and credentials of systemd's store, that anybody may
 * read.
 */
export const anyUnit = '';

/**
 * The receivers of a declaration's credentials: its units, or {@link anyUnit} for a file or systemd's store without
 * units.
 */
export const receiversOf = ({ units, delivery }: Pick<SecretDeclaration, 'units' | 'delivery'>): readonly string[] =>
  units.length === 0 && (delivery === 'credstore' || delivery === 'file') ? [anyUnit] : units;

/** The parts of a secret that a credential can hold. */
export const parts = ['secret', 'public', 'previous'] as const;
/** A part of a secret. */
export type Part = (typeof parts)[number];

/** The credentials that each unit of a declaration gets: the secret, and its public half or previous value. */
export function credentialsOf({
  credential,
  content,
}: Pick<SecretDeclaration, 'credential' | 'content'>): { readonly id: string; readonly part: Part }[] {
  const all: { id: string; part: Part }[] = [{ id: credential, part: 'secret' }];
  if (content.form === 'derived' && isKeyKind(content.options.kind))
    all.push({ id: `${credential}.pub`, part: 'public' });
  if (content.form === 'derived' && content.previous) all.push({ id: `${credential}.previous`, part: 'previous' });
  return all;
}

/** Whether the secret changes by itself with the period. */
export const rotates = (content: Content): boolean =>
  content.form === 'derived' && content.rotate !== undefined && content.period === undefined;

/** The declarations without pinned periods. */
export const unheld = (declarations: readonly SecretDeclaration[]): SecretDeclaration[] =>
  declarations.map((declaration) =>
    declaration.content.form === 'derived'
      ? { ...declaration, content: { ...declaration.content, period: undefined } }
      : declaration,
  );

/** The kind of a content: `password`, `fixed`, `vault`, `crypt`, `template`. */
export function kindOfContent(content: Content): string {
  if (content.form === 'fixed') return content.vault === undefined ? 'fixed' : 'vault';
  return content.form === 'derived' ? content.options.kind : content.form;
}

/** Something wrong with a manifest: the place, the message and a hint. */
export interface Problem {
  readonly severity: 'error' | 'warning';
  readonly file: string;
  /** Counts from 1. */
  readonly line: number | undefined;
  /** Such as `secret.db-password.length`; undefined if the problem is about the whole file. */
  readonly key: string | undefined;
  readonly message: string;
  readonly hint: string | undefined;
}
