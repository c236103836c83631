/** The drop-ins of all units, as the manifest asks for them and as they were applied last. */
import { join } from 'node:path';
import { credentialsOf } from '../manifest/declaration.ts';
import type { Manifest } from '../manifest/manifest.ts';
import { namesIn, readIfPresent } from '../system/files.ts';
import { dropInName, type Paths } from '../system/paths.ts';
import { systemdVersion } from '../system/systemctl.ts';
import { templateOf } from '../system/unit-name.ts';
import { filesTarget, renderDropIn, renderFilesTarget, type UnitSecret } from './drop-in.ts';

/** The first systemd with RefreshOnReload=credentials (systemd.service(5)). */
const refreshingVersion = 260;

/**
 * Raised with every change of what the same manifest renders to. Drop-ins of another version may ask where no broker
 * answers any more, so the generator, which has this line too, renders the manifest instead of copying them.
 */
export const renderingVersion = '# auxcred rendering 3';

/** The folder of the drop-ins in a rendering. */
export const unitsFolder = 'units';

/** Drop-in text by unit. */
export type Rendering = ReadonlyMap<string, string>;

/**
 * The drop-ins of every unit that the declarations name, and of the target that has files written, for the installed
 * systemd.
 */
export function renderUnits(declarations: Manifest['declarations']): Rendering {
  const secrets = new Map<string, UnitSecret[]>();
  for (const declaration of declarations) {
    for (const unit of declaration.units) {
      const ofUnit = secrets.get(unit);
      if (ofUnit) ofUnit.push(declaration);
      else secrets.set(unit, [declaration]);
    }
  }
  // Asked only if it matters, since the generator has to be quick.
  const canRefresh = declarations.some(({ change }) => change === 'reload') && systemdVersion() >= refreshingVersion;
  const target = renderFilesTarget(declarations);
  return new Map([
    ...[...secrets]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([unit, ofUnit]): [string, string] => [
        unit,
        renderDropIn(unit, [...ofUnit, ...inherited(unit, ofUnit, secrets)], canRefresh),
      ]),
    ...(target === undefined ? [] : [[filesTarget, target] satisfies [string, string]]),
  ]);
}

/**
 * What an instance with secrets of its own gets from its template: its drop-in takes the place of the template's, which
 * has the same name. Its own secrets come before those of the same id.
 */
function inherited(
  unit: string,
  own: readonly UnitSecret[],
  secrets: ReadonlyMap<string, readonly UnitSecret[]>,
): UnitSecret[] {
  const template = templateOf(unit);
  if (template === undefined) return [];
  const ids = new Set(own.flatMap(credentialsOf).map(({ id }) => id));
  return (secrets.get(template) ?? [])
    .filter((secret) => !credentialsOf(secret).some(({ id }) => ids.has(id)))
    .map((secret) => ({ ...secret, template }));
}

/** The drop-ins that were applied last. */
export const readRendering = (paths: Pick<Paths, 'rendered'>): Rendering =>
  dropInsIn(join(paths.rendered, unitsFolder));

/** The drop-ins that the generator gave to the running systemd. */
export const readGenerated = (paths: Pick<Paths, 'generated'>): Rendering => dropInsIn(paths.generated);

function dropInsIn(folder: string): Rendering {
  return new Map(
    namesIn(folder)
      .filter((name) => name.endsWith('.d'))
      .flatMap((name): [string, string][] => {
        const text = readIfPresent(`${folder}/${name}/${dropInName}`);
        return text ? [[name.slice(0, -2), new TextDecoder().decode(text)]] : [];
      }),
  );
}
