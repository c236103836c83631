import { Failure } from '../failure.ts';
import { configurationOf } from '../system/configuration.ts';
import { type Objection, objectionTo } from '../system/held-folder.ts';
import { withMemoryFile } from '../system/memory-file.ts';
import { pathsUnder } from '../system/paths.ts';
import { programs, spawnProblem } from '../system/programs.ts';
import type { Hook } from './provision.ts';

const hookTime = 60_000;

/** Where hooks find their programs: where the configuration has them, and where other systems do. */
function hookPath(): string {
  const configured = configurationOf(pathsUnder('/'))?.hookPath;
  const usual = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  return configured === undefined ? usual : `${configured}:${usual}`;
}

/** Why a program must not run as root: others could replace it. */
export const programObjection = (root: string, program: string): Objection | undefined =>
  objectionTo(root, program, { owner: 0, links: 'followed', end: 'file' });

/**
 * Runs a secret's hook with the old value on descriptor 3 and the new one on 4: files in memory, never arguments,
 * environment variables or a disk. Its output goes to standard error.
 * @throws Failure `hook` if others than root could replace it, if it can't be run, does not return 0, or takes over a
 * minute
 */
export const runHook: Hook = ({ name, hook, units }, { before, after }) => {
  const [command = '', ...args] = hook;
  const objection = process.geteuid?.() === 0 ? programObjection('/', command) : undefined;
  if (objection)
    throw new Failure('hook', `${command} is not run as root: ${objection.message}`, { hint: objection.hint });
  withMemoryFile(before, (old) => {
    withMemoryFile(after, (now) => {
      const { status, signal, error } = programs().spawnSync(command, args, {
        stdio: ['ignore', 2, 2, old, now],
        env: {
          PATH: hookPath(),
          LANG: 'C.UTF-8',
          AUXCRED_SECRET: name,
          AUXCRED_UNITS: units.join(' '),
          AUXCRED_OLD: '/dev/fd/3',
          AUXCRED_NEW: '/dev/fd/4',
        },
        timeout: hookTime,
        killSignal: 'SIGKILL',
      });
      if (error !== undefined) throw new Failure('hook', `${command} ${hookProblem(error)}`);
      if (signal !== null) throw new Failure('hook', `${command} was ended by ${signal}`);
      if (status !== 0) throw new Failure('hook', `${command} failed with status ${String(status)}`);
    });
  });
};

/** Why a hook did not end by itself. */
export const hookProblem = (error: NodeJS.ErrnoException): string =>
  error.code === 'ETIMEDOUT' ? `did not end within ${String(hookTime / 1000)} s` : `can't run: ${spawnProblem(error)}`;
