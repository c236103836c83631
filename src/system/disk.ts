/** Explains write errors of a full or read-only disk: names the disk and the fix. */
import { readFileSync, realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import { Failure, systemCode } from '../failure.ts';
import { waysOut } from './ways-out.ts';

const troubles: Readonly<
  Record<string, (mount: string, path: string) => { readonly what: string; readonly hint: string }>
> = {
  ENOSPC: (mount) => ({ what: 'is full', hint: `make room on it (df -h ${mount}; df -i ${mount}), then run it again` }),
  EDQUOT: (mount) => ({
    what: 'has no quota left',
    hint: `make room on it (quota; df -h ${mount}), then run it again`,
  }),
  EROFS: (mount, path) => ({ what: 'is read-only', hint: waysOut().readOnly(path, mount) }),
};

/**
 * Runs `work`, which writes `path`.
 * @throws Failure `system` that names the disk if it takes nothing, and whatever `work` throws
 */
export function writing<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw diskFailure(error, path) ?? error;
  }
}

function diskFailure(error: unknown, path: string): Failure | undefined {
  const trouble = troubles[systemCode(error) ?? ''];
  if (trouble === undefined) return undefined;
  const { mount, source } = diskOf(path);
  const { what, hint } = trouble(mount, path);
  return new Failure('system', `${path} can't be written: the disk ${source} at ${mount} ${what}`, {
    hint,
    cause: error,
  });
}

/**
 * The mount that holds a path (proc_pid_mountinfo(5)): the longest mount point above it; of several at the same place,
 * the last.
 */
function diskOf(path: string): { readonly mount: string; readonly source: string } {
  const real = nearestReal(path);
  let found = { mount: '/', source: 'unknown' };
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const mount = (before.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, digits: string) =>
      String.fromCharCode(Number.parseInt(digits, 8)),
    );
    const isAbove = mount === '/' || real === mount || real.startsWith(`${mount}/`);
    if (mount !== '' && isAbove && mount.length >= found.mount.length)
      found = { mount, source: after.split(' ')[1] ?? 'unknown' };
  }
  return found;
}

/** Resolves the symlinks of a path, or of the part of it that exists. */
function nearestReal(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path === '/' || path === '.' ? path : nearestReal(dirname(path));
  }
}
