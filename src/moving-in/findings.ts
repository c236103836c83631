/** The secrets that another program keeps, with what their declarations here should say. */
import type { Need } from '../manifest/declaration.ts';

/** The keys of a declaration that replace how the other program delivers a secret. */
export interface Use {
  /** Services that use it, where that can be known. */
  readonly units: readonly string[];
  /** The id under which the units read it, if it is not the secret's name. */
  readonly credential?: string;
  /** Defined if units are reloaded rather than restarted. */
  readonly change?: 'reload';
  /** Defined for a secret that is a file. */
  readonly file?: Partial<FilePlacement>;
}

/** The placement of a file, as the manifest writes it. */
export interface FilePlacement {
  readonly owner: string;
  readonly group: string;
  /** Octal digits. */
  readonly mode: string;
  readonly link: string;
  readonly neededFor: Need;
}

/** One secret of another program. */
export interface FoundSecret {
  /** Its name there, from which {@link manifestName} makes the one here. */
  readonly name: string;
  /** The file, and the key in it, for messages. */
  readonly from: string;
  /** Wiped by the receiver of the findings. */
  readonly value: Uint8Array;
  readonly use: Use;
}

/** Variables in one file, which a template of kind env gives back. */
export interface FoundEnvironment {
  readonly name: string;
  readonly from: string;
  /** Variables and the names of their secrets in the findings; undefined for an empty value. */
  readonly variables: readonly (readonly [string, string | undefined])[];
  /** The lines of units that read the old file. */
  readonly replaces: readonly string[];
  readonly use: Use;
}

/** What was found in a source, and what could not be read. */
export interface Findings {
  readonly secrets: readonly FoundSecret[];
  readonly environments: readonly FoundEnvironment[];
  /** Secrets that could not be read, and why. */
  readonly unread: readonly string[];
  /** What has to be taken out of the old configuration by hand. */
  readonly notes: readonly string[];
}

/** What the sources need to know. */
export interface Asked {
  /** The files and folders that the call names. */
  readonly from: readonly string[];
  /** The system whose units are read. */
  readonly root: string;
  /** Files with keys: age identities, or ansible-vault's passwords. */
  readonly keys: readonly string[];
  /** What `nix eval --json` says of the configuration's secrets; undefined if it is not given. */
  readonly declared: string | undefined;
  readonly device: string | undefined;
}

export const wipeFindings = ({ secrets }: Pick<Findings, 'secrets'>): void => {
  for (const { value } of secrets) value.fill(0);
};

/**
 * The name of a secret in the manifest: lower case, other characters become a dash.
 * @returns undefined if nothing is left of it
 */
export function manifestName(name: string): string | undefined {
  const segments = name
    .normalize('NFKD')
    .replaceAll(/\p{M}/gu, '')
    .toLowerCase()
    .split('/')
    .map((segment) =>
      segment
        .replaceAll(/[^a-z0-9._@+-]+/g, '-')
        .replace(/^[^a-z0-9_]+/, '')
        .replace(/-+$/, ''),
    )
    .filter((segment) => segment !== '');
  // These two begin the full names of fixed secrets.
  const whole = segments.join('/').replace(/^(host|group)\//, '$1-');
  return whole === '' ? undefined : whole;
}
