import type { Problem, SecretDeclaration } from '../manifest/declaration.ts';

/** A problem that a declared secret has on a particular machine, at one of its keys. Its line is not known there. */
export const secretProblem = (
  { name, file }: Pick<SecretDeclaration, 'name' | 'file'>,
  key: string,
  problem: Pick<Problem, 'severity' | 'message' | 'hint'>,
): Problem => ({ ...problem, file, line: undefined, key: `secret.${name}.${key}` });
