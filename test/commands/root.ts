/** A machine's root folder as an installer sees it, what is active in it, and its files. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { readRendering } from '../../src/drop-ins/rendering.ts';
import { openPinnedSeeds } from '../../src/seeds/open.ts';
import { hostScope, wipeScopes } from '../../src/seeds/scope.ts';
import { readReleases, readSnapshot } from '../../src/snapshot/snapshot.ts';
import { linkTarget, namesIn, readIfPresent } from '../../src/system/files.ts';
import { pathsUnder } from '../../src/system/paths.ts';

export const manifestIn = (root: string): string => join(root, 'etc/auxcred/secrets.d/web.toml');

/** Fills an empty folder with a host key, a name and a manifest. */
export function furnish(root: string, manifest: string): void {
  for (const folder of ['etc/ssh', 'etc/auxcred/secrets.d']) mkdirSync(join(root, folder), { recursive: true });
  writeFileSync(join(root, 'etc/hostname'), 'web1\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nauxcred:x:0:\n');
  writeFileSync(manifestIn(root), manifest);
  assert.equal(
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(root, 'etc/ssh/ssh_host_ed25519_key')]).status,
    0,
  );
}

/** What is active. The times of activation differ from run to run, so they are left out. */
export async function stateOf(root: string): Promise<{
  counter: number | undefined;
  recipients: number | undefined;
  releases: string;
  record: unknown;
  fixed: string[];
  dropIns: Record<string, string>;
  rendered: string;
}> {
  const paths = pathsUnder(root);
  const text = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes);
  const rest = {
    releases: text(readReleases(paths)),
    fixed: namesIn(join(paths.snapshot, 'fixed')).sort(),
    dropIns: Object.fromEntries(readRendering(paths)),
    rendered: text(readIfPresent(join(paths.rendered, 'manifest'))),
  };
  if (readIfPresent(paths.seeds) === undefined)
    return { counter: undefined, recipients: undefined, record: undefined, ...rest };
  const { payload } = await openPinnedSeeds(paths, {
    keys: { ssh: paths.sshHostKey, age: undefined },
    device: undefined,
  });
  const snapshot = readSnapshot(paths, hostScope(payload.scopes));
  wipeScopes(payload.scopes);
  const record = snapshot && {
    fingerprints: [...snapshot.fingerprints],
    history: [...snapshot.history].map(([name, entries]) => [name, entries.map(({ recipe }) => recipe)]),
  };
  return { counter: payload.counter, recipients: payload.sealing.recovery.length, record, ...rest };
}

/** Every path below the folders that auxcred writes to. */
export const listing = (root: string, folders: readonly string[] = ['var', 'etc']): string[] =>
  folders.flatMap((folder) => pathsBelow(root, folder)).sort();

function pathsBelow(root: string, folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory()
      ? [`${path}/`, ...pathsBelow(root, path)]
      : [entry.isSymbolicLink() ? `${path} -> ${basename(linkTarget(join(root, path)) ?? '')}` : path];
  });
}

/** Every path with its content. */
export const contents = (root: string): string[] =>
  listing(root).map((path) =>
    /\/$| -> /.test(path) ? path : `${path}: ${readFileSync(join(root, path)).toString('base64')}`,
  );
