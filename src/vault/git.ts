/** Keeps the vault in a git repository, if the operator wants one. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { readIfPresent, removeLeftovers, replaceFile } from '../system/files.ts';
import { programs, spawnProblem } from '../system/programs.ts';
import { commandLine } from '../system/shell.ts';
import { waysOut } from '../system/ways-out.ts';
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

/**
 * What a hook of some repository gets from git, so that its commands work on that repository: `git rev-parse
 * --local-env-vars`, without the settings of `git -c`.
 */
const ofRepository = [
  ...['GIT_DIR', 'GIT_WORK_TREE', 'GIT_IMPLICIT_WORK_TREE', 'GIT_COMMON_DIR', 'GIT_PREFIX', 'GIT_INDEX_FILE'],
  ...['GIT_OBJECT_DIRECTORY', 'GIT_ALTERNATE_OBJECT_DIRECTORIES', 'GIT_SHALLOW_FILE', 'GIT_GRAFT_FILE'],
  ...['GIT_NO_REPLACE_OBJECTS', 'GIT_REPLACE_REF_BASE', 'GIT_CONFIG'],
];

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  /** The first line of what it said, or why it can't be run. */
  readonly said: string;
  /** Whether it can't be run. */
  readonly isMissing: boolean;
}

/** Runs git on the vault's repository, whatever hook auxcred runs in. */
function git(folder: string, ...args: string[]): Ran {
  const env = { ...process.env };
  for (const name of ofRepository) delete env[name];
  const { status, stderr, stdout, error } = programs().spawnSync('git', ['-C', folder, ...args], {
    encoding: 'utf8',
    env,
  });
  if (error) return { status, stdout: '', said: `git can't be run: ${spawnProblem(error)}`, isMissing: true };
  return { status, stdout, said: (stderr || stdout).trim().split('\n')[0] ?? '', isMissing: false };
}

/** What is not as it should be after a change, and what to do about it. */
export interface GitProblem {
  readonly text: string;
  readonly hint: string;
}

const commandIn = (folder: string, ...words: string[]): string => commandLine('git', '-C', folder, ...words);
const uncommitted = ({ said, isMissing }: Ran, hint: string): GitProblem => ({
  text: `git did not commit it: ${said}`,
  hint: isMissing ? waysOut().install('git') : hint,
});

/** @throws Failure `not-found` if there is no git: a vault would be without its history from then on */
export function refuseMissingGit(): void {
  const { error } = programs().spawnSync('git', ['--version']);
  if (error)
    throw new Failure('not-found', `git can't be run, so nothing was created: ${spawnProblem(error)}`, {
      hint: `${waysOut().install('git')}; or leave --git out, and git init in the vault later`,
    });
}

/** Makes the vault a repository, unless it is one already. @returns what went wrong; undefined if nothing did */
export function startRepository(folder: string): GitProblem | undefined {
  if (!existsSync(join(folder, '.git'))) {
    const made = git(folder, 'init', '-q');
    if (made.status !== 0) return uncommitted(made, commandIn(folder, 'init'));
  }
  return commitVault(folder, 'Make the vault', ['fixed', 'enrolled', 'vault.toml', '.gitignore']);
}

/**
 * The files in which a merge left a conflict, by their paths in the vault; none without git.
 * @param below - files or folders of the vault; none for all of it
 */
export function unmergedIn(folder: string, ...below: readonly string[]): string[] {
  if (!existsSync(join(folder, '.git'))) return [];
  const { status, stdout } = git(folder, 'diff', '--relative', '--name-only', '--diff-filter=U', '-z', '--', ...below);
  return status === 0 ? stdout.split('\0').filter((path) => path !== '') : [];
}

const mostNamed = 3;
/** Names the files in which a merge left a conflict. */
export const unmergedText = (paths: readonly string[]): string =>
  `a merge left conflicts in ${paths.slice(0, mostNamed).join(', ')}` +
  (paths.length > mostNamed ? ` and ${String(paths.length - mostNamed)} more` : '');

/**
 * Commits the changes in these files or folders, if the vault is a git repository.
 * @returns what went wrong, which costs only the commit; undefined if nothing did
 */
export function commitVault(folder: string, message: string, files: readonly string[]): GitProblem | undefined {
  if (!existsSync(join(folder, '.git'))) return undefined;
  const conflicts = unmergedIn(folder);
  // To add a file would settle its conflict in favour of what happens to lie there.
  if (conflicts.length > 0)
    return { text: `git did not commit it: ${unmergedText(conflicts)}`, hint: commandIn(folder, 'status') };
  const paths = files.filter(
    (path) => existsSync(join(folder, path)) || git(folder, 'ls-files', '--error-unmatch', '--', path).status === 0,
  );
  const commit = commandIn(folder, 'commit');
  const added = git(folder, 'add', '-A', '--', ...paths);
  if (added.status !== 0) return uncommitted(added, `${commandIn(folder, 'add', '-A', '--', ...paths)} && ${commit}`);
  if (git(folder, 'diff', '--cached', '--quiet', '--', ...paths).status === 0) return undefined;
  const committed = git(folder, 'commit', '-q', '-m', message, '--', ...paths);
  if (committed.status !== 0) return uncommitted(committed, commit);
  if (git(folder, 'symbolic-ref', '-q', 'HEAD').status === 0) return undefined;
  return {
    text: 'no branch has its commit, since HEAD is detached',
    hint: `${commandIn(folder, 'switch', '-c', 'NAME')} gives it one; during a rebase, finish that`,
  };
}
