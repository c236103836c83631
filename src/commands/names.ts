import { placeOf } from '../cli/chosen-folder.ts';
import { viewOf } from '../cli/chosen-manifest.ts';
import { folderSide, secretSide } from '../cli/chosen-side.ts';
import { chosenVault } from '../cli/chosen-vault.ts';
import { exampleNames, examplesFolder } from '../cli/examples.ts';
import { nameLists, verbNames } from '../cli/manual.ts';
import { Options } from '../cli/options.ts';
import { nameText } from '../fixed/name.ts';
import { readPins } from '../seeds/pins.ts';
import { pathsUnder } from '../system/paths.ts';
import { print } from '../terminal/say.ts';
import { knownVaults } from '../vault/settings.ts';
import { readMachineVaults } from '../vault/vault.ts';

/** `auxcred names WHAT`: prints what a shell offers on TAB. Opens no seed; if anything goes wrong it prints nothing. */
export function names(argv: readonly string[]): number {
  for (const name of [...new Set(readable(() => namesOf(new Options('names', argv))))].sort()) print(name);
  return 0;
}

function namesOf(options: Options): string[] {
  switch (nameLists.find((known) => known === options.operands[0])) {
    case 'verbs':
      return verbNames;
    case 'examples':
      return exampleNames(examplesFolder());
    case 'secrets':
      return [...readable(() => declared(options)), ...readable(() => fixed(options))];
    case 'fixed':
      return fixed(options);
    case 'hosts':
      return [...chosenVault(options).hosts.keys()];
    case 'groups':
      return groupsOf(options);
    case 'scopes':
      return folderSide(options) === 'vault'
        ? [
            ...[...chosenVault(options).hosts.keys()].map((name) => `host/${name}`),
            ...groupsOf(options).map((name) => `group/${name}`),
          ]
        : pinned(options);
    case 'vaults':
      return [...Object.keys(knownVaults), ...readable(() => configuredVaults(options))];
    case undefined:
      return [];
  }
}

const configuredVaults = (options: Options): string[] => {
  const vaults =
    folderSide(options) === 'vault'
      ? chosenVault(options).others
      : readMachineVaults(pathsUnder(options.value('root') ?? '/').vaults);
  return [...vaults.keys()];
};

const groupsOf = (options: Options): string[] =>
  [...chosenVault(options).hosts.values()].flatMap(({ groups }) => groups);

const declared = (options: Options): string[] =>
  secretSide(options) === 'machine' || options.value('host') !== undefined
    ? viewOf(options).manifest.declarations.map(({ name }) => name)
    : [];

/** As typed in a call: without a scope if that is given by an option, or is the machine's own. */
function fixed(options: Options): string[] {
  const { folder, scope } = placeOf(options);
  return folder.list(scope).names.map((name) => (scope === undefined ? nameText(name) : name.path));
}

const pinned = (options: Options): string[] => [
  ...(readPins(pathsUnder(options.value('root') ?? '/'))?.scopes.keys() ?? []),
];

function readable(read: () => string[]): string[] {
  try {
    return read();
  } catch {
    return [];
  }
}
