import { isKeyKind } from '../derive/kind.ts';
import { isFirst, parsePeriod, periodAt, periodBefore } from '../derive/period.ts';
import type { Derived, Fixed, FixedLookup, Hashed, Recipe } from '../derive/recipe.ts';
import { scopeParts } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { nearest } from '../nearest.ts';
import type { DerivedContent, FixedContent, HashedContent, Part, SecretDeclaration } from './declaration.ts';
import { dependencyOf } from './dependencies.ts';

/** A host and a time, for which recipes are made. */
export interface Standpoint {
  /** `host/web1`. */
  readonly host: string;
  /** The epoch of each available scope, by its name. */
  readonly epochs: ReadonlyMap<string, number>;
  /** The time whose periods are active. */
  readonly at: Date;
  /** Looks at the file of a fixed secret. */
  readonly fixed: FixedLookup;
}

/**
 * The previous value: of the period before, or of the generation before if the secret does not rotate.
 * @throws Failure `not-found` for the first period
 */
function previousOf(recipe: Derived): Derived {
  const period = parsePeriod(recipe.period);
  if (period && isFirst(period))
    throw new Failure('not-found', `nothing comes before ${period.name}, the first period of ${recipe.name}`, {
      hint: 'name another period',
    });
  return period
    ? { ...recipe, period: periodBefore(period).name }
    : { ...recipe, generation: Math.max(1, recipe.generation - 1) };
}

/** Makes the recipes of a manifest without errors for one standpoint. */
export class Recipes {
  readonly #declarations: ReadonlyMap<string, SecretDeclaration>;
  readonly #standpoint: Standpoint;
  readonly #known: Map<string, Recipe>;

  /** @param held - recipes that stay as they are, by secret, whatever the manifest says */
  constructor(
    declarations: readonly SecretDeclaration[],
    standpoint: Standpoint,
    held: ReadonlyMap<string, Recipe> = new Map(),
  ) {
    this.#declarations = new Map(declarations.map((declaration) => [declaration.name, declaration]));
    this.#standpoint = standpoint;
    this.#known = new Map(held);
  }

  /**
   * The recipe of a secret, or of a part of it.
   * @throws Failure `not-found` for a secret that is not declared, or whose scope is not available
   */
  of(name: string, part: Part = 'secret'): Recipe {
    const recipe = this.#known.get(name) ?? this.#make(name);
    this.#known.set(name, recipe);
    if (part === 'secret') return recipe;
    if (recipe.form !== 'derived') throw new Failure('not-found', `${name} has no ${part} part`);
    return part === 'public' ? { form: 'public', of: recipe } : previousOf(recipe);
  }

  /** A hint for the name of a credential that holds only a part of a secret, such as `key.pub`: it is not declared. */
  #partHint(id: string): string | undefined {
    const [, name = '', part = ''] = /^(.+)\.(pub|public|previous)$/.exec(id) ?? [];
    const content = this.#declarations.get(name)?.content;
    if (content?.form !== 'derived') return undefined;
    if (part === 'previous')
      return content.rotate === undefined
        ? `auxcred get ${name} --generation=N prints an earlier value`
        : `auxcred get ${name} --at=PERIOD prints an earlier value`;
    return isKeyKind(content.options.kind) ? `auxcred public ${name} prints the public half` : undefined;
  }

  #make(name: string): Recipe {
    const declaration = this.#declarations.get(name);
    if (!declaration)
      throw new Failure('not-found', `no secret ${name} is declared`, {
        hint:
          this.#partHint(name) ?? nearest(name, [...this.#declarations.keys()]) ?? 'auxcred ls shows those that are',
      });
    const { content } = declaration;
    switch (content.form) {
      case 'derived':
        return this.#derived(name, content);
      case 'fixed':
        return this.#fixed(name, content);
      case 'crypt':
        return this.#hashed(name, content);
      case 'template':
        return {
          form: 'template',
          name,
          pieces: content.pieces.map((piece) =>
            typeof piece === 'string' ? piece : { of: this.#referenced(name, piece.reference), escapes: piece.escapes },
          ),
        };
    }
  }

  #derived(name: string, { options, generation, share, rotate, period }: DerivedContent): Derived {
    const { scope, epoch } = this.#scopeOf(name, share);
    const commented =
      options.kind === 'ssh-ed25519' && options.comment === ''
        ? { ...options, comment: `${name}@${scopeParts(scope).name}` }
        : options;
    return {
      form: 'derived',
      scope,
      epoch,
      name,
      options: commented,
      period: period ?? (rotate === undefined ? '' : periodAt(rotate, this.#standpoint.at).name),
      generation,
    };
  }

  #fixed(name: string, { share, path, vault }: FixedContent): Fixed {
    const { scope, epoch } = this.#scopeOf(name, share);
    try {
      return { form: 'fixed', name, scope, epoch, path, ...this.#standpoint.fixed(scope, path) };
    } catch (error) {
      if (vault && error instanceof Failure && error.code === 'not-found')
        throw new Failure('not-found', `${name} has not been fetched from the vault ${vault.name} yet`, {
          hint: 'auxcred fetch',
          cause: error,
        });
      throw error;
    }
  }

  #scopeOf(name: string, share: string | undefined): { scope: string; epoch: number } {
    const scope = share === undefined ? this.#standpoint.host : `group/${share}`;
    const epoch = this.#standpoint.epochs.get(scope);
    if (epoch === undefined) throw withoutSeed(name, scope);
    return { scope, epoch };
  }

  #hashed(name: string, { of, method, rounds }: HashedContent): Hashed {
    const source = this.#referenced(name, of);
    if (source.form !== 'derived' && source.form !== 'fixed')
      throw new Failure('invalid-manifest', `${name}: ${of} can't be hashed`, { hint: 'auxcred check' });
    return { form: 'crypt', name, method, rounds, of: source, sealed: '' };
  }

  #referenced(name: string, reference: string): Recipe {
    const dependency = dependencyOf(reference, (other) => this.#declarations.has(other));
    if (!dependency)
      throw new Failure('invalid-manifest', `${name}: no secret ${reference} is declared`, { hint: 'auxcred check' });
    return this.of(dependency.name, dependency.part);
  }
}

/** The failure for a secret of a group (`group/db`) whose seed this machine lacks. */
export const withoutSeed = (name: string, scope: string): Failure =>
  new Failure('not-found', `${name} is shared by ${scope}, whose seed is not available`, {
    hint:
      `groups = [${JSON.stringify(scope.slice('group/'.length))}] for this host in the operator's vault.toml, ` +
      'then auxcred push',
  });
