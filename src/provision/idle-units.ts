/** Declared units that have nothing to run. */
import type { Problem, SecretDeclaration } from '../manifest/declaration.ts';
import { isIdle, partsOf, servicesStartedBy } from '../system/idle-unit.ts';
import type { UnitFiles } from '../system/unit-files.ts';
import { secretProblem } from './secret-problem.ts';

/** Warnings about units that run nothing, with the units that were probably meant. */
export function idleUnitProblems(files: UnitFiles, declarations: readonly SecretDeclaration[]): Problem[] {
  const named = new Set(declarations.flatMap(({ units }) => units));
  const idle = new Map([...named].filter((unit) => isIdle(files, unit)).map((unit) => [unit, hintFor(files, unit)]));
  return declarations.flatMap((declaration) =>
    declaration.units
      .filter((unit) => idle.has(unit))
      .map((unit) =>
        secretProblem(declaration, 'units', {
          severity: 'warning',
          message: `${unit} runs nothing that could read a secret`,
          hint: idle.get(unit),
        }),
      ),
  );
}

function hintFor(files: UnitFiles, unit: string): string | undefined {
  const started = servicesStartedBy(files, unit);
  if (started.length > 0) return `it starts others: units = ${JSON.stringify(started)}`;
  const parts = partsOf(files, unit);
  return parts.length > 0 ? `its parts run: name those of ${parts.join(', ')}` : undefined;
}
