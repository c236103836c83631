import { deriveSecret, type Recipe } from '../derive/secret.ts';
import type { Release } from '../store/snapshot.ts';
import { scopeName, type Scope } from '../store/scope.ts';
import { type CredentialRequest, templateOf } from './request.ts';

/** What the snapshot says of one request, or why it is refused. */
export type Decision = { readonly release: Release; readonly seed: Uint8Array } | { readonly refusal: string };

/** The releases in force and the seeds they are derived from, ready to answer. */
export class ReleaseBook {
  readonly #releases = new Map<string, Release>();
  readonly #units = new Map<string, Release[]>();
  readonly #seeds: ReadonlyMap<string, Uint8Array>;

  constructor(releases: readonly Release[], scopes: readonly Scope[]) {
    this.#seeds = new Map(scopes.map((scope) => [scopeName(scope), scope.seed]));
    for (const release of releases) {
      this.#releases.set(keyOf(release), release);
      const ofUnit = this.#units.get(release.unit);
      if (ofUnit) ofUnit.push(release);
      else this.#units.set(release.unit, [release]);
    }
  }

  /** Looks a request up; an instance is served what its template declares unless it is declared itself. */
  decide(request: CredentialRequest): Decision {
    const template = templateOf(request.unit);
    const release = this.#releases.get(keyOf(request)) ?? (template === undefined ? undefined : this.#releases.get(keyOf({ ...request, unit: template })));
    if (!release) return { refusal: `no credential ${request.credential} is provisioned for ${request.unit}: declare it, then run auxcred apply` };
    const seed = this.#seeds.get(release.scope);
    return seed ? { release, seed } : { refusal: `this machine holds no seed for ${release.scope}` };
  }

  /** What a unit gets staged: its own declarations and those of its template. */
  staged(unit: string): Release[] {
    const names = [unit, templateOf(unit)].filter((name) => name !== undefined);
    return names.flatMap((name) => this.#units.get(name) ?? []).filter(({ delivery }) => delivery === 'stage');
  }
}

const keyOf = ({ unit, credential }: CredentialRequest): string => `${unit}/${credential}`;

/** The secret's bytes. The caller wipes them. */
export const valueOf = ({ release, seed }: { release: { recipe: Recipe }; seed: Uint8Array }): Uint8Array => deriveSecret(seed, release.recipe);
