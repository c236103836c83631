/** Hooks that can't run. */
import { lstatSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Problem, SecretDeclaration } from '../manifest/declaration.ts';
import { secretProblem } from './secret-problem.ts';

/** A secret whose hook can't run. */
export interface MissingHook {
  readonly secret: string;
  /** The manifest file that declares it. */
  readonly file: string;
  readonly problem: string;
}

/** The declarations whose hook is missing, or is not a program, on the machine at `root`. */
export function missingHooks(root: string, declarations: readonly SecretDeclaration[]): MissingHook[] {
  return declarations.flatMap(({ name, file, hook: [command] }) => {
    const problem = command === undefined ? undefined : programProblem(root, command);
    return problem === undefined ? [] : [{ secret: name, file, problem }];
  });
}

/** Warnings, not errors, about hooks that can't run: their program may be installed later. */
export const missingHookProblems = (root: string, declarations: readonly SecretDeclaration[]): Problem[] =>
  missingHooks(root, declarations).map(({ secret, file, problem }) =>
    secretProblem({ name: secret, file }, 'hook', {
      severity: 'warning',
      message: problem,
      hint: 'the secret is unchanged until its hook can run',
    }),
  );

/** Links are resolved within the system at `root`: an absolute one is not followed out of it. */
function programProblem(root: string, command: string): string | undefined {
  const path = join(root, command);
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat)
    return root !== '/' && lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true
      ? undefined
      : `there is no ${command}`;
  if (!stat.isFile()) return `${command} is not a file`;
  return (stat.mode & 0o111) === 0 ? `${command} is not executable` : undefined;
}
