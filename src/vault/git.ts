/** The vault's own history, for who wants one. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const git = (folder: string, ...args: string[]): { status: number | null; said: string } => {
  const { status, stderr, stdout, error } = spawnSync('git', ['-C', folder, ...args], { encoding: 'utf8' });
  return { status, said: error ? error.message : (stderr || stdout || '').trim().split('\n')[0] ?? '' };
};

/** Makes a repository of the vault, unless it is one. @returns what went wrong */
export function startRepository(folder: string): string | undefined {
  if (!existsSync(join(folder, '.git'))) {
    const { status, said } = git(folder, 'init', '-q');
    if (status !== 0) return said;
  }
  return commitVault(folder, 'Make the vault', ['fixed', 'enrolled', 'vault.toml', '.gitignore']);
}

/** Commits what changed in these files or folders, where the vault is a git repository. @returns what went wrong, which loses nothing but the commit */
export function commitVault(folder: string, message: string, files: readonly string[]): string | undefined {
  if (!existsSync(join(folder, '.git'))) return undefined;
  const paths = files.filter((path) => existsSync(join(folder, path)) || git(folder, 'ls-files', '--error-unmatch', '--', path).status === 0);
  const added = git(folder, 'add', '-A', '--', ...paths);
  if (added.status !== 0) return added.said;
  if (git(folder, 'diff', '--cached', '--quiet', '--', ...paths).status === 0) return undefined;
  const { status, said } = git(folder, 'commit', '-q', '-m', message, '--', ...paths);
  return status === 0 ? undefined : said;
}
