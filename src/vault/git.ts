/** Keeps the vault in a git repository, if the operator wants one. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { readIfPresent, removeLeftovers, replaceFile } from '../system/files.ts';
import { programs, spawnProblem } from '../system/programs.ts';
import { vaultFiles } from './vault.ts';

/**
 * The files that git must ignore. A key that leaks later would open an old seed.age; `.*.new` are files being written.
 */
const ignored = ['seed.age', 'fetched.json', 'sealed/', 'challenges/', '.*.new'];

/**
 * Removes the leftovers of killed processes, and completes .gitignore, also in a vault that an earlier version made.
 * Leaves a line that somebody negated (`!sealed/`) as it is.
 * @returns the names of the changed files
 */
export function sweepVault(folder: string): string[] {
  for (const path of [folder, vaultFiles(folder).enrolled]) removeLeftovers(path);
  const file = join(folder, '.gitignore');
  const text = new TextDecoder().decode(readIfPresent(file));
  const lines = text.split('\n').map((line) => line.trim());
  const missing = ignored.filter(
    (name) => ![name, `/${name}`, `!${name}`, `!/${name}`].some((line) => lines.includes(line)),
  );
  if (missing.length === 0) return [];
  replaceFile(file, utf8(`${text === '' || text.endsWith('\n') ? text : `${text}\n`}${missing.join('\n')}\n`), {
    mode: 0o600,
  });
  return ['.gitignore'];
}

const git = (folder: string, ...args: string[]): { status: number | null; said: string } => {
  const { status, stderr, stdout, error } = programs().spawnSync('git', ['-C', folder, ...args], { encoding: 'utf8' });
  return { status, said: error ? spawnProblem(error) : ((stderr || stdout || '').trim().split('\n')[0] ?? '') };
};

/** @throws Failure `not-found` if there is no git: a vault would be without its history from then on */
export function refuseMissingGit(): void {
  const { error } = programs().spawnSync('git', ['--version']);
  if (error)
    throw new Failure('not-found', `git can't be run, so nothing was created: ${spawnProblem(error)}`, {
      hint: 'apt install git; or leave --git out, and git init in the vault later',
    });
}

/** Makes the vault a repository, unless it is one already. @returns what went wrong; undefined if nothing did */
export function startRepository(folder: string): string | undefined {
  if (!existsSync(join(folder, '.git'))) {
    const { status, said } = git(folder, 'init', '-q');
    if (status !== 0) return said;
  }
  return commitVault(folder, 'Make the vault', ['fixed', 'enrolled', 'vault.toml', '.gitignore']);
}

/** The files in which a merge left a conflict, by their paths in the repository. */
function unmergedIn(folder: string): string[] {
  const { stdout, error } = programs().spawnSync(
    'git',
    ['-C', folder, 'diff', '--name-only', '--diff-filter=U', '-z'],
    {
      encoding: 'utf8',
    },
  );
  return error ? [] : stdout.split('\0').filter((path) => path !== '');
}

const mostNamed = 3;
const conflictText = (paths: readonly string[]): string =>
  `a merge left conflicts in ${paths.slice(0, mostNamed).join(', ')}` +
  (paths.length > mostNamed ? ` and ${String(paths.length - mostNamed)} more` : '');

/**
 * Commits the changes in these files or folders, if the vault is a git repository.
 * @returns what went wrong, which costs only the commit; undefined if nothing did
 */
export function commitVault(folder: string, message: string, files: readonly string[]): string | undefined {
  if (!existsSync(join(folder, '.git'))) return undefined;
  const conflicts = unmergedIn(folder);
  // To add a file would settle its conflict in favour of what happens to lie there.
  if (conflicts.length > 0) return conflictText(conflicts);
  const paths = files.filter(
    (path) => existsSync(join(folder, path)) || git(folder, 'ls-files', '--error-unmatch', '--', path).status === 0,
  );
  const added = git(folder, 'add', '-A', '--', ...paths);
  if (added.status !== 0) return added.said;
  if (git(folder, 'diff', '--cached', '--quiet', '--', ...paths).status === 0) return undefined;
  const { status, said } = git(folder, 'commit', '-q', '-m', message, '--', ...paths);
  return status === 0 ? undefined : said;
}
