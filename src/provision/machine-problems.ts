/** Problems that a valid manifest has on a particular machine. */
import type { Problem, SecretDeclaration } from '../manifest/declaration.ts';
import { type Manifest, readManifest } from '../manifest/manifest.ts';
import { systemIsRunning, unitProperties } from '../system/systemctl.ts';
import { UnitFiles } from '../system/unit-files.ts';
import { isTemplate } from '../system/unit-name.ts';
import { fileProblems } from './file-folder.ts';
import { programObjection } from './hook.ts';
import { idleUnitProblems } from './idle-units.ts';
import { missingHookProblems } from './missing-hooks.ts';
import { secretProblem } from './secret-problem.ts';

/** The manifest, with its problems on the machine at `root` added. */
export function withMachineProblems(root: string, manifest: Manifest): Manifest {
  const files = new UnitFiles(root);
  return {
    ...manifest,
    problems: [
      ...manifest.problems,
      ...fileProblems(root, manifest.declarations),
      ...aliasProblems(root, manifest.declarations, files),
      ...hookProblems(root, manifest.declarations),
      ...missingHookProblems(root, manifest.declarations),
      ...idleUnitProblems(files, manifest.declarations),
    ],
  };
}

/**
 * Why the machine at `root` refuses these declarations, aliases left out. Empty for a user who is not root, who can't
 * look at everything.
 */
export const refusalsOn = (root: string, declarations: readonly SecretDeclaration[]): Problem[] =>
  process.geteuid?.() === 0
    ? [...fileProblems(root, declarations), ...hookProblems(root, declarations)].filter(
        ({ severity }) => severity === 'error',
      )
    : [];

/** Units that are named by an alias: systemd asks under their real name, which the broker would not know. */
function aliasProblems(root: string, declarations: readonly SecretDeclaration[], files: UnitFiles): Problem[] {
  const aliases = aliasesAmong(root, new Set(declarations.flatMap(({ units }) => units)), files);
  return declarations.flatMap((declaration) =>
    declaration.units.flatMap((unit) => {
      const target = aliases.get(unit);
      if (target === undefined) return [];
      const message = `${unit} is an alias of ${target}, and systemd asks for secrets only under that name`;
      return [secretProblem(declaration, 'units', { severity: 'error', message, hint: `units = ["${target}"]` })];
    }),
  );
}

/** Hooks run as root, so nobody else may be able to replace them. */
function hookProblems(root: string, declarations: readonly SecretDeclaration[]): Problem[] {
  return declarations.flatMap((declaration) => {
    const [program = ''] = declaration.hook;
    const objection = program.startsWith('/') ? programObjection(root, program) : undefined;
    if (!objection) return [];
    const message = `${program} would run as root: ${objection.message}`;
    return [secretProblem(declaration, 'hook', { severity: 'error', message, hint: objection.hint })];
  });
}

/** Each alias with the unit that it stands for, according to the machine at `root`. */
export function aliasesAmong(
  root: string,
  units: ReadonlySet<string>,
  files = new UnitFiles(root),
): Map<string, string> {
  const aliases = new Map(
    [...units].flatMap((unit) => {
      const target = files.aliased(unit);
      return target === undefined ? [] : [[unit, target] satisfies [string, string]];
    }),
  );
  if (!systemIsRunning(root)) return aliases;
  // Aliases that systemd got from generators and other programs.
  const others = [...units].filter((unit) => !aliases.has(unit) && !isTemplate(unit));
  for (const { unit, values } of unitProperties(others, ['Id'])) {
    const id = values.get('Id') ?? '';
    if (id !== '' && id !== unit) aliases.set(unit, id);
  }
  return aliases;
}

/** The manifest of the system at `root`, with its problems on that machine added. */
export const manifestOn = (root: string): Manifest => withMachineProblems(root, readManifest(root));
