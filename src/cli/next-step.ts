/** What is left to do on a machine after its fixed folder was changed: units keep the value that is active. */
import { type FixedName, nameText } from '../fixed/name.ts';
import type { SecretDeclaration } from '../manifest/declaration.ts';
import { readManifest } from '../manifest/manifest.ts';
import { configurationOf } from '../system/configuration.ts';
import type { Paths } from '../system/paths.ts';
import { commandLine } from '../system/shell.ts';
import { waysOutWith } from '../system/ways-out.ts';
import { say, warn } from '../terminal/say.ts';
import type { Place } from './chosen-folder.ts';

/** The command that makes the secrets of the manifest active. */
export const activation = (paths: Paths): string =>
  commandLine(
    'auxcred',
    configurationOf(paths) === undefined ? 'apply' : 'provision',
    ...(paths.root === '/' ? [] : [`--root=${paths.root}`]),
  );

/** Says which command delivers a secret that was written, or that nothing declares it. Silent in a vault. */
export function sayNext({ vault, paths }: Place, name: FixedName): void {
  if (vault) return;
  const { declarations, problems } = readManifest(paths.root);
  const isDeclared = declarations.some((declaration) => isMadeOf(declaration, name));
  if (isDeclared || problems.some(({ severity }) => severity === 'error')) {
    say(`next: ${activation(paths)}, which delivers it`);
  } else
    say(
      `next: declare a secret of kind "fixed" for it in the manifest, then ${waysOutWith(configurationOf(paths)).apply}`,
    );
}

/**
 * Warns of secrets that are declared of files which are gone: nothing is activated without them.
 * @param gone - each file that was removed, with its new name if it was moved
 */
export function warnOfLost(
  { vault, paths }: Place,
  gone: readonly (readonly [removed: FixedName, moved?: FixedName])[],
): void {
  if (vault) return;
  for (const declaration of readManifest(paths.root).declarations) {
    const [lost, moved] = gone.find(([name]) => isMadeOf(declaration, name)) ?? [];
    if (lost)
      warn(
        `${declaration.file} declares ${declaration.name} of ${nameText(lost)}: without it, no change becomes active`,
        moved?.scope === lost.scope
          ? `path = ${JSON.stringify(moved.path)}, or rename it there too`
          : 'take it out there too',
      );
  }
}

const isMadeOf = ({ content }: SecretDeclaration, { scope, path }: FixedName): boolean =>
  content.form === 'fixed' &&
  content.path === path &&
  (content.share === undefined ? scope.startsWith('host/') : scope === `group/${content.share}`);
