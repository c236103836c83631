/** The vault's own history, for who wants one. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { utf8 } from '../bytes.ts';
import { readIfPresent, removeLeftovers, replaceFile } from '../system/files.ts';
import { vaultFiles } from './vault.ts';

/**
 * What git is not to take. An old seed.age stays open to a key that leaks later; `.*.new` is a file while it is being
 * written.
 */
const ignored = ['seed.age', 'fetched.json', 'sealed/', '.*.new'];

/**
 * Removes what killed processes left of the vault's own files, and lets git ignore what it must not take, also in a
 * vault that an earlier version made. A line that somebody turned around (`!sealed/`) stays as it is.
 * @returns the names of files that were changed
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
  const { status, stderr, stdout, error } = spawnSync('git', ['-C', folder, ...args], { encoding: 'utf8' });
  return { status, said: error ? error.message : ((stderr || stdout || '').trim().split('\n')[0] ?? '') };
};

/** Makes a repository of the vault, unless it is one. @returns what went wrong */
export function startRepository(folder: string): string | undefined {
  if (!existsSync(join(folder, '.git'))) {
    const { status, said } = git(folder, 'init', '-q');
    if (status !== 0) return said;
  }
  return commitVault(folder, 'Make the vault', ['fixed', 'enrolled', 'vault.toml', '.gitignore']);
}

/**
 * Commits what changed in these files or folders, where the vault is a git repository.
 * @returns what went wrong, which loses nothing but the commit
 */
export function commitVault(folder: string, message: string, files: readonly string[]): string | undefined {
  if (!existsSync(join(folder, '.git'))) return undefined;
  const paths = files.filter(
    (path) => existsSync(join(folder, path)) || git(folder, 'ls-files', '--error-unmatch', '--', path).status === 0,
  );
  const added = git(folder, 'add', '-A', '--', ...paths);
  if (added.status !== 0) return added.said;
  if (git(folder, 'diff', '--cached', '--quiet', '--', ...paths).status === 0) return undefined;
  const { status, said } = git(folder, 'commit', '-q', '-m', message, '--', ...paths);
  return status === 0 ? undefined : said;
}
