/** Hooks that could not be run where the manifest asks for them. */
import { lstatSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Problem, SecretDeclaration } from '../manifest/declaration.ts';

/** A secret whose hook can't run. */
export interface MissingHook {
  readonly secret: string;
  /** The manifest's file that declares it. */
  readonly file: string;
  readonly problem: string;
}

/** The declarations whose hook is not there, or is no program, on the machine at `root`. */
export function missingHooks(root: string, declarations: readonly SecretDeclaration[]): MissingHook[] {
  return declarations.flatMap(({ name, file, hook: [command] }) => {
    const problem = command === undefined ? undefined : programProblem(root, command);
    return problem === undefined ? [] : [{ secret: name, file, problem }];
  });
}

/** Warnings of the hooks that can't run: what they belong to may be installed later. */
export const missingHookProblems = (root: string, declarations: readonly SecretDeclaration[]): Problem[] =>
  missingHooks(root, declarations).map(({ secret, file, problem }) => ({
    severity: 'warning',
    file,
    line: undefined,
    key: `secret.${secret}.hook`,
    message: problem,
    hint: 'the secret stays what it is until its hook can run',
  }));

/** Links lead where they would lead in the system at `root`, so one that is absolute is not followed out of it. */
function programProblem(root: string, command: string): string | undefined {
  const path = join(root, command);
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat)
    return root !== '/' && lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true
      ? undefined
      : `there is no ${command}`;
  if (!stat.isFile()) return `${command} is no file`;
  return (stat.mode & 0o111) === 0 ? `${command} is not executable` : undefined;
}
