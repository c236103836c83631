/** Reads the fleet seed from `seed.age`, an age file that holds its 32 bytes. */
import { existsSync, readdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { decryptWith, type Identities } from '../age/identities.ts';
import { keyId, scopeParts, scopeSeed, seedLength } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { readHeader } from '../fixed/file.ts';
import { FixedFolder } from '../fixed/folder.ts';
import type { FixedName } from '../fixed/name.ts';
import { readIfPresent } from '../system/files.ts';
import { epochOfScope, readVault, type Vault, vaultFiles } from './vault.ts';

/**
 * Opens the fleet seed, 32 bytes. The caller wipes it.
 * @param content - the file's bytes, if it is not on disk yet
 * @throws Failure `not-found`, `no-recipient`, `malformed`
 */
export async function openFleetSeed(file: string, keys: Identities, content?: Uint8Array): Promise<Uint8Array> {
  const bytes = content ?? readIfPresent(file);
  if (!bytes)
    throw new Failure('not-found', `there is no fleet seed at ${file}`, {
      hint: hasHadSeed(dirname(file)) ? bringSeed : 'auxcred init makes one; init --from-words makes it from paper',
    });
  const seed = await decryptWith(keys, file, bytes);
  if (seed.length === seedLength) return seed;
  seed.fill(0);
  throw new Failure('malformed', `${file} does not hold a seed of ${String(seedLength)} bytes`);
}

const bringSeed =
  'copy seed.age from an operator or a backup that has it: git does not carry it; ' +
  'auxcred init --from-words makes it from paper';

/** Whether the vault in this folder has what an earlier fleet seed left: fixed secrets, or enrolled hosts. */
function hasHadSeed(folder: string): boolean {
  const { fixed, enrolled } = vaultFiles(folder);
  return [fixed, enrolled].some(
    (path) =>
      existsSync(path) && readdirSync(path, { recursive: true, withFileTypes: true }).some((one) => one.isFile()),
  );
}

/** A new fleet seed fits neither the fixed secrets of a vault nor its hosts. @throws Failure `refused` */
export function refuseNewSeed(folder: string): void {
  if (hasHadSeed(folder))
    throw new Failure(
      'refused',
      `${folder} has fixed secrets or hosts of a fleet seed already, and a new one fits none`,
      {
        hint: bringSeed,
      },
    );
}

/** @throws Failure `refused` if the vault has fixed secrets, and none of them is encrypted under this fleet seed */
export function refuseOtherSeed(folder: string, fleetSeed: Uint8Array): void {
  const { fixed, settings } = vaultFiles(folder);
  if (!existsSync(settings)) return;
  const vault = readVault(folder);
  const files = new FixedFolder(fixed);
  const judged = files.list().names.map((name) => isUnder(fleetSeed, vault, files, name));
  if (judged.includes(false) && !judged.includes(true))
    throw new Failure('refused', `no secret in ${fixed} is encrypted under the fleet seed of these words`, {
      hint: 'they are the words of another vault, or of a single machine',
    });
}

/** The most epochs of a scope that are tried. */
const mostEpochs = 1000;

/** Whether a fixed file is encrypted under the fleet seed, in some epoch; undefined if that can't be known. */
function isUnder(fleetSeed: Uint8Array, vault: Vault, files: FixedFolder, name: FixedName): boolean | undefined {
  try {
    const { keyId: actual } = readHeader(name, files.bytes(name));
    const { kind, name: scope } = scopeParts(name.scope);
    const epoch = epochOfScope(vault, name.scope);
    return Array.from({ length: Math.min(epoch, mostEpochs) }, (_, i) => epoch - i).some((candidate) => {
      const seed = scopeSeed(fleetSeed, kind, scope, candidate);
      const id = keyId(seed);
      seed.fill(0);
      return Buffer.compare(id, actual) === 0;
    });
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}
