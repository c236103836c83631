import { existsSync } from 'node:fs';

/**
 * Node's way to start programs, loaded at the first call: most runs of the generator, `get` and `apply` start none, and
 * it loads sockets and datagrams too.
 */
export const programs = () => process.getBuiltinModule('node:child_process');

/** Why a program could not be started. */
export function spawnProblem(error: NodeJS.ErrnoException): string {
  if (error.code !== 'ENOENT') return error.message;
  const { path = '' } = error;
  return path.includes('/') && existsSync(path)
    ? 'there is no interpreter as its first line names it'
    : 'there is no such program';
}
