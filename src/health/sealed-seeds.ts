/** What seeds.age shows without being opened: its recipients, and whether they are still here. */
import { existsSync } from 'node:fs';
import { parseHeader, type Stanza } from '../age/header.ts';
import { parseOpensshKey } from '../age/openssh-key.ts';
import { hostKeyTag } from '../age/ssh-ed25519.ts';
import { Failure, systemCode } from '../failure.ts';
import { hadSeeds } from '../seeds/lost-seeds.ts';
import type { KeySource } from '../seeds/payload.ts';
import { type Pins, parsePins, pinsPlace, readPins } from '../seeds/pins.ts';
import { tpmObjects } from '../seeds/policies.ts';
import { isNoLoss, lossText, lossUnder } from '../snapshot/loss.ts';
import { LaterFormat } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';
import type { TpmPolicy } from '../tpm2/policy.ts';
import type { SealedObject } from '../tpm2/sealed-object.ts';
import type { ReadableFiles } from './readable-files.ts';

/** What is known of seeds.age without opening it. */
export interface SealedSeeds {
  readonly state: 'missing' | 'hidden' | 'damaged' | 'there';
  /** Whether a later version of auxcred wrote it; its state is `damaged` then, since no more is known of it. */
  readonly isLater: boolean;
  readonly withKey: KeySource | undefined;
  /** Recipients that open it without this machine. */
  readonly recovery: number;
  /**
   * Whether the ssh host key is the one that it was sealed to; undefined if it was sealed to none, or the key can't be
   * read.
   */
  readonly hostKey: 'same' | 'other' | 'missing' | undefined;
  /** The part that the TPM opens; undefined without one. */
  readonly object: SealedObject | undefined;
  /** The alternative policies of the TPM, in the order in which they are tried; empty without one. */
  readonly policies: readonly TpmPolicy[];
  readonly pins: Pins | 'missing' | 'hidden' | 'damaged';
  /**
   * If seeds.age is gone from a machine that had one: what a new seed would lose, and whether that includes the
   * snapshot. Undefined otherwise.
   */
  readonly lost: { readonly text: string; readonly snapshot: boolean } | undefined;
}

/** What `seeds.age` and the pins show, without a key and without the TPM. */
export function sealedSeeds(readable: ReadableFiles, paths: Paths): SealedSeeds {
  const pins = pinsSeen(readable, paths);
  const none = {
    isLater: false,
    withKey: undefined,
    recovery: 0,
    hostKey: undefined,
    object: undefined,
    policies: [],
    pins,
    lost: undefined,
  };
  const file = readable.read(paths.seeds);
  if (!file)
    return readable.isHidden(paths.seeds)
      ? { ...none, state: 'hidden' }
      : { ...none, state: 'missing', lost: lostOn(paths) };
  try {
    const { stanzas } = parseHeader(file);
    const of = (type: string): Stanza[] => stanzas.filter(({ args }) => args[0] === type);
    const [tpm] = [...of('auxcred/tpm2'), ...of('auxcred/tpm2+host')];
    const objects = tpmObjects(stanzas);
    const hostKeys = [...of('ssh-ed25519'), ...of('auxcred/tpm2+host')];
    // Without an ssh host key the machine's own recipient is an age one.
    const hasAgeHostKey = !tpm && hostKeys.length === 0;
    const withKey = tpm
      ? tpm.args[0] === 'auxcred/tpm2'
        ? 'tpm2'
        : 'tpm2+host'
      : hasAgeHostKey && existsSync(paths.sealedHostKey)
        ? 'systemd-creds'
        : 'host';
    return {
      state: 'there',
      isLater: false,
      withKey,
      pins,
      lost: undefined,
      recovery: of('X25519').length - (hasAgeHostKey ? 1 : 0),
      hostKey: hostKeys.length === 0 ? undefined : hostKeySeen(readable, paths, hostKeys),
      object: objects[0],
      policies: objects.map(({ policy }) => policy),
    };
  } catch (error) {
    if (error instanceof Failure && error.code === 'malformed')
      return { ...none, state: 'damaged', isLater: error instanceof LaterFormat };
    throw error;
  }
}

function lostOn(paths: Paths): SealedSeeds['lost'] {
  try {
    const loss = lossUnder(paths, []);
    return isNoLoss(loss) ? undefined : { text: lossText(loss), snapshot: loss.snapshot };
  } catch (error) {
    // This user may not read the fixed folder, and so can't count what is in it.
    if (systemCode(error) !== 'EACCES') throw error;
    return hadSeeds(paths) ? { text: 'every secret of this machine', snapshot: false } : undefined;
  }
}

function pinsSeen(readable: ReadableFiles, paths: Paths): SealedSeeds['pins'] {
  const { file, writer } = pinsPlace(paths);
  const bytes = readable.read(file);
  if (!bytes) return readable.isHidden(file) ? 'hidden' : 'missing';
  try {
    // What the machine has recorded beside a configuration's pins may be hidden.
    return readable.isHidden(paths.ownPins) ? parsePins(bytes, file, writer) : (readPins(paths) ?? 'missing');
  } catch (error) {
    if (error instanceof Failure && error.code === 'malformed') return 'damaged';
    throw error;
  }
}

function hostKeySeen(readable: ReadableFiles, paths: Paths, stanzas: readonly Stanza[]): SealedSeeds['hostKey'] {
  const file = readable.read(paths.sshHostKey);
  if (!file) return readable.isHidden(paths.sshHostKey) ? undefined : 'missing';
  try {
    const { publicKey, seed } = parseOpensshKey(file);
    seed.fill(0);
    return stanzas.some(({ args }) => args[1] === hostKeyTag(publicKey)) ? 'same' : 'other';
  } catch (error) {
    if (error instanceof Failure) return 'other';
    throw error;
  } finally {
    file.fill(0);
  }
}
