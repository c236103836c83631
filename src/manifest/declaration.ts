import { isKeyKind, type KindOptions } from '../derive/kind.ts';
import type { Rotation } from '../derive/period.ts';
import type { Escape, HashMethod } from '../derive/recipe.ts';

/** How a secret reaches its unit. */
export const deliveries = ['socket', 'stage', 'credstore', 'file'] as const;
export type Delivery = (typeof deliveries)[number];

/** What happens to a running unit whose secret changed. */
export const unitActions = ['restart', 'reload', 'none'] as const;
export type UnitAction = (typeof unitActions)[number];

/** A secret of its own. */
export interface DerivedContent {
  readonly form: 'derived';
  readonly options: KindOptions;
  /** Counts from 1; another one is another secret. */
  readonly generation: number;
  /** The group that shares it; undefined for a secret of this host alone. */
  readonly share: string | undefined;
  /** How often it becomes another secret; undefined for never. */
  readonly rotate: Rotation | undefined;
  /** The period that it is held in, whatever the clock says; undefined if it rotates. */
  readonly period: string | undefined;
  /** Whether the one before it is delivered beside it. */
  readonly previous: boolean;
}

/** Where another program keeps a secret. */
export interface VaultReference {
  /** The vault's name in vault.toml, or that of a program `auxcred-vault-NAME`. */
  readonly name: string;
  /** The secret's name there. */
  readonly path: string;
  readonly options: Readonly<Record<string, string>>;
}

/** A secret that somebody chose. */
export interface FixedContent {
  readonly form: 'fixed';
  /** In the scope's part of the fixed folder. */
  readonly path: string;
  /** The group that shares it; undefined for a secret of this host alone. */
  readonly share: string | undefined;
  /** Where `auxcred fetch` gets it; undefined if `auxcred put` does. */
  readonly vault: VaultReference | undefined;
}

/** Another secret's hash. */
export interface HashedContent {
  readonly form: 'crypt';
  /** The other secret's name. */
  readonly of: string;
  readonly method: HashMethod;
  readonly rounds: number;
}

/**
 * A place in a template: `{{NAME}}`, `{{NAME.public}}` or `{{NAME.previous}}`, which one is known once all names are.
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

export type Content = DerivedContent | FixedContent | HashedContent | TemplateContent;

/** Before what a file has to be there: the units that name it, or systemd-sysusers, which makes users. */
export const needs = ['units', 'users'] as const;
export type Need = (typeof needs)[number];

/** Where and how a secret lies as a file. */
export interface Placement {
  /** A user's and a group's name, or number. */
  readonly owner: string;
  readonly group: string;
  /** Permission bits. */
  readonly mode: number;
  /** The absolute path of a symbolic link to the file; undefined for none. */
  readonly link: string | undefined;
  readonly neededFor: Need;
}

/** One `[secret.NAME]` of the manifest, checked, defaults filled in. */
export interface SecretDeclaration {
  readonly name: string;
  readonly content: Content;
  /** Services, or templates for all their instances. */
  readonly units: readonly string[];
  /** The credential's id, under which the unit reads it. */
  readonly credential: string;
  readonly delivery: Delivery;
  /** Of `delivery = "file"` alone. */
  readonly placement: Placement | undefined;
  readonly change: UnitAction;
  /** A command that is told the old and the new value before units are; empty for none. */
  readonly hook: readonly string[];
  readonly file: string;
}

/** Stands for whoever reads a file or a credential of the store that is not one unit's own. */
export const anyUnit = '';

/**
 * To whom a declaration gives its credentials: its units; as a file or in systemd's own store, without units, to
 * whoever reads them.
 */
export const receiversOf = ({ units, delivery }: Pick<SecretDeclaration, 'units' | 'delivery'>): readonly string[] =>
  units.length === 0 && (delivery === 'credstore' || delivery === 'file') ? [anyUnit] : units;

/** What a credential holds of its secret. */
export const parts = ['secret', 'public', 'previous'] as const;
export type Part = (typeof parts)[number];

/** The credentials that a declaration gives to each of its units: the secret under its id, and what goes with it. */
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

/** Whether another period makes it another secret by itself. */
export const rotates = (content: Content): boolean =>
  content.form === 'derived' && content.rotate !== undefined && content.period === undefined;

/** The same without the periods that secrets are held in. */
export const unheld = (declarations: readonly SecretDeclaration[]): SecretDeclaration[] =>
  declarations.map((declaration) =>
    declaration.content.form === 'derived'
      ? { ...declaration, content: { ...declaration.content, period: undefined } }
      : declaration,
  );

/** `password`, `fixed`, `vault`, `crypt`, `template`. */
export function kindOfContent(content: Content): string {
  if (content.form === 'fixed') return content.vault === undefined ? 'fixed' : 'vault';
  return content.form === 'derived' ? content.options.kind : content.form;
}

/** What is wrong with a manifest, where, and the way out. */
export interface Problem {
  readonly severity: 'error' | 'warning';
  readonly file: string;
  /** Counts from 1. */
  readonly line: number | undefined;
  /** `secret.db-password.length`. */
  readonly key: string | undefined;
  readonly message: string;
  readonly hint: string | undefined;
}
