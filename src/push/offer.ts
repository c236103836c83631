/** A target's description of itself, from its files: no seed and no TPM is opened. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseOpensshKey } from '../age/openssh-key.ts';
import { Failure } from '../failure.ts';
import { digestOf, readHeader } from '../fixed/file.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { type FixedName, nameText } from '../fixed/name.ts';
import { type Pin, usablePins } from '../seeds/pins.ts';
import { readIfPresent } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import { isManifestName, type Offer, type OfferedFile, type OfferedFixed } from './protocol.ts';
import { isPushed, readPushed } from './pushed.ts';

/** @throws Failure `malformed` for a record of pushes that is damaged */
export function offerOf(paths: Paths): Offer {
  const pushed = readPushed(paths);
  const folder = new FixedFolder(paths.fixed);
  const fixed = folder.list().names.flatMap((name): [string, OfferedFixed][] => {
    const bytes = folder.read(name);
    return bytes
      ? [
          [
            nameText(name),
            {
              digest: digestOf(bytes),
              sequence: sequenceIn(name, bytes),
              pushed: isPushed(pushed.fixed, nameText(name), bytes),
            },
          ],
        ]
      : [];
  });
  const manifest = manifestNames(paths).flatMap((name): [string, OfferedFile][] => {
    const bytes = readIfPresent(join(paths.manifestFolders[0] ?? '', name));
    return bytes ? [[name, { digest: digestOf(bytes), pushed: isPushed(pushed.manifest, name, bytes) }]] : [];
  });
  return {
    sshHostKey: hostKey(paths),
    pins: sealedPins(paths),
    fixed: new Map(fixed),
    manifest: new Map(manifest),
    unfinished: pushed.unfinished,
    dropsRecipients: true,
  };
}

function hostKey({ sshHostKey }: Paths): Uint8Array | undefined {
  const file = readIfPresent(sshHostKey);
  if (!file) return undefined;
  try {
    const { publicKey, seed } = parseOpensshKey(file);
    seed.fill(0);
    return publicKey;
  } catch (error) {
    // A key of another type can't be sealed to.
    if (error instanceof Failure) return undefined;
    throw error;
  } finally {
    file.fill(0);
  }
}

/** The sealed scopes; none if the seeds or their pins are gone or damaged. */
const sealedPins = (paths: Paths): ReadonlyMap<string, Pin> =>
  (existsSync(paths.seeds) ? usablePins(paths)?.scopes : undefined) ?? new Map<string, Pin>();

/** Only files that a push could bring. */
function manifestNames({ manifestFolders: [folder = ''] }: Paths): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isFile() && isManifestName(entry.name))
      .map(({ name }) => name);
  } catch {
    return [];
  }
}

/** When a fixed file was written (milliseconds since 1970, from its header); 0 for a damaged one. */
export function sequenceIn(name: FixedName, bytes: Uint8Array): number {
  try {
    return readHeader(name, bytes).sequence;
  } catch (error) {
    if (error instanceof Failure) return 0;
    throw error;
  }
}
