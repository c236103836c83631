/** Reads the fleet seed from `seed.age`, an age file that holds its 32 bytes. */
import { decryptWith, type Identities } from '../age/identities.ts';
import { seedLength } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { readIfPresent } from '../system/files.ts';

/**
 * Opens the fleet seed, 32 bytes. The caller wipes it.
 * @param content - the file's bytes, if it is not on disk yet
 * @throws Failure `not-found`, `no-recipient`, `malformed`
 */
export async function openFleetSeed(file: string, keys: Identities, content?: Uint8Array): Promise<Uint8Array> {
  const bytes = content ?? readIfPresent(file);
  if (!bytes)
    throw new Failure('not-found', `there is no fleet seed at ${file}`, {
      hint: 'auxcred init makes one; init --from-words makes it from paper',
    });
  const seed = await decryptWith(keys, file, bytes);
  if (seed.length === seedLength) return seed;
  seed.fill(0);
  throw new Failure('malformed', `${file} does not hold a seed of ${String(seedLength)} bytes`);
}
