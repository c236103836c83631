import { recipeValue, type Sources } from '../derive/value.ts';
import { Failure } from '../failure.ts';
import { type Release, releaseKey } from '../snapshot/snapshot.ts';
import { templateOf } from '../system/unit-name.ts';
import { waysOut } from '../system/ways-out.ts';
import type { CredentialRequest } from './request.ts';

/** The active releases and the sources of their values, ready to answer. */
export class ReleaseBook {
  readonly #releases = new Map<string, Release>();
  readonly #units = new Map<string, Release[]>();
  readonly #sources: Sources;

  constructor(releases: readonly Release[], sources: Sources) {
    this.#sources = sources;
    for (const release of releases) {
      this.#releases.set(releaseKey(release), release);
      const ofUnit = this.#units.get(release.unit);
      if (ofUnit) ofUnit.push(release);
      else this.#units.set(release.unit, [release]);
    }
  }

  /**
   * Finds the release for a request. An instance gets what its template declares, unless it is declared itself.
   * @throws Failure `refused` if there is none
   */
  find(request: CredentialRequest): Release {
    const template = templateOf(request.unit);
    const release =
      this.#releases.get(releaseKey(request)) ??
      (template === undefined ? undefined : this.#releases.get(releaseKey({ ...request, unit: template })));
    if (!release)
      throw new Failure(
        'refused',
        `no credential ${request.credential} is provisioned for ${request.unit}: declare it, then run ${waysOut().apply}`,
      );
    return release;
  }

  /** Makes the secret of a release. The caller wipes it. @throws Failure if this machine lacks a seed for it */
  value({ recipe }: Release): Uint8Array {
    return recipeValue(recipe, this.#sources);
  }

  /** The staged releases of a unit, its template's included. */
  staged(unit: string): Release[] {
    const names = [unit, templateOf(unit)].filter((name) => name !== undefined);
    return names.flatMap((name) => this.#units.get(name) ?? []).filter(({ delivery }) => delivery === 'stage');
  }
}
