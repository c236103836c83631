import { ingredients, kindOf, periodOf } from '../derive/recipe.ts';
import { changesOf } from '../drop-ins/rendered-folder.ts';
import { renderUnits } from '../drop-ins/rendering.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { planForNewMachine } from '../provision/provision.ts';
import { wipeScopes } from '../seeds/scope.ts';
import type { Release } from '../snapshot/snapshot.ts';
import { counted, printJson, printTable, say } from '../terminal/say.ts';
import { scopesOf, vaultFiles } from '../vault/vault.ts';
import { manifestFor } from './chosen-manifest.ts';
import { periodNamed } from './chosen-recipe.ts';
import { chosenHost, withFleetSeed } from './chosen-vault.ts';
import type { Options } from './options.ts';
import { sound } from './sound-manifest.ts';

/**
 * Prints what a host would get from the vault's manifest, fixed folder and seeds, as if nothing were active there. Does
 * not contact the host.
 * @returns 0
 * @throws Failure for anything that would keep the host from activating it
 */
export async function showHostPlan(options: Options): Promise<number> {
  const { vault, host } = chosenHost(options);
  const { declarations } = sound(manifestFor(host, options), `auxcred check --host=${host.name}`);
  const at = options.value('at');
  await withFleetSeed(vault, options, (fleetSeed) => {
    const scopes = scopesOf(vault, host, fleetSeed);
    try {
      const folder = new FixedFolder(vaultFiles(vault.folder).fixed);
      const { releases } = planForNewMachine(declarations, scopes, folder, {
        at: at === undefined ? new Date() : periodNamed(at).start,
        acceptEarlier: true,
      });
      const credentials = releases.map(described);
      const dropIns = changesOf(new Map(), renderUnits(declarations));
      if (options.flag('json')) printJson({ host: host.name, credentials, dropIns });
      else sayHostPlan(host.name, credentials);
    } finally {
      wipeScopes(scopes);
    }
  });
  return 0;
}

interface Described {
  readonly unit: string;
  readonly credential: string;
  readonly delivery: string;
  readonly kind: string;
  /** Of everything that it is made of. */
  readonly scope: string;
  readonly period: string;
}

function described({ unit, credential, delivery, recipe }: Release): Described {
  const sources = ingredients(recipe);
  const together = (texts: readonly string[]): string => [...new Set(texts)].filter((text) => text !== '').join(' ');
  const periods = sources.map((source) => (source.form === 'derived' ? periodOf(source) : ''));
  return {
    unit,
    credential,
    delivery,
    kind: kindOf(recipe),
    scope: together(sources.map(({ scope }) => scope)),
    period: together(periods),
  };
}

function sayHostPlan(host: string, credentials: readonly Described[]): void {
  const rows = credentials.map(({ unit, credential, kind, scope, period, delivery }) => [
    unit || 'any',
    credential,
    kind,
    scope || '-',
    period || '-',
    delivery,
  ]);
  if (rows.length > 0) printTable([['UNIT', 'CREDENTIAL', 'KIND', 'SCOPE', 'PERIOD', 'DELIVERY'], ...rows]);
  const units = new Set(credentials.map(({ unit }) => unit).filter((unit) => unit !== ''));
  say(
    `${counted(credentials.length, 'credential')} for ${counted(units.size, 'unit')} of ${host}; auxcred push ` +
      `--manifest --dry-run ${host} asks the host what would be new there`,
  );
}
