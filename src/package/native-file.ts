/** koffi's native file for an architecture: this machine's own, or another one's from the npm registry. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** npm installs packages of this machine's architecture alone: those of others are kept here. */
const cache = 'node_modules/.cache/auxcred';

/**
 * The path of `koffi.node` for an architecture in Node's words, such as `arm64`. Another architecture's is fetched
 * once, and only if it is the file that package-lock.json has.
 * @throws Error if the lock file has no such package, or npm brings another file
 */
export function nativeFile(architecture: string): string {
  const name = `koffi-linux-${architecture}`;
  const inside = join(name, `linux_${architecture}`, 'koffi.node');
  const installed = join('node_modules/@koromix', inside);
  if (existsSync(installed)) return installed;
  const { version, integrity } = lockedPackage(`node_modules/@koromix/${name}`);
  const kept = join(cache, version);
  const file = join(kept, inside);
  if (existsSync(file)) return file;
  mkdirSync(kept, { recursive: true });
  const scratch = mkdtempSync(join(kept, '.fetched-'));
  try {
    run('npm', 'pack', '--silent', '--pack-destination', scratch, `@koromix/${name}@${version}`);
    const archive = join(scratch, `koromix-${name}-${version}.tgz`);
    const found = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`;
    if (found !== integrity) throw new Error(`@koromix/${name} is not the file in package-lock.json: ${found}`);
    run('tar', '-xzf', archive, '-C', scratch, '--no-same-owner');
    rmSync(join(kept, name), { recursive: true, force: true });
    renameSync(join(scratch, 'package'), join(kept, name));
  } finally {
    rmSync(scratch, { recursive: true });
  }
  return file;
}

function lockedPackage(path: string): { version: string; integrity: string } {
  const lock: unknown = JSON.parse(readFileSync('package-lock.json', 'utf8'));
  const within = (value: unknown, key: string): unknown =>
    value !== null && typeof value === 'object' ? Reflect.get(value, key) : undefined;
  const entry = within(within(lock, 'packages'), path);
  const [version, integrity] = [within(entry, 'version'), within(entry, 'integrity')];
  if (typeof version !== 'string' || typeof integrity !== 'string')
    throw new Error(`package-lock.json has no ${path}: koffi has no native file for that architecture`);
  return { version, integrity };
}

function run(command: string, ...args: readonly string[]): void {
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  if (status !== 0) throw new Error(`${command} failed: ${error?.message ?? `exit status ${String(status)}`}`);
}
