import { damagedFile, openAgeFile, type Unwrapped, type Unwrapper } from '../age/file.ts';
import { parseHeader, type Stanza } from '../age/header.ts';
import { parseOpensshKey } from '../age/openssh-key.ts';
import { sshSharedSecret, sshUnwrapper } from '../age/ssh-ed25519.ts';
import { x25519Unwrapper } from '../age/x25519.ts';
import { Failure, resealHint } from '../failure.ts';
import { readIfPresent } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import { readCounter } from '../tpm2/nv-counter.ts';
import type { TpmPolicy } from '../tpm2/policy.ts';
import { type SealedObject, unseal } from '../tpm2/sealed-object.ts';
import type { RecordedSrk } from '../tpm2/srk.ts';
import { openTpm, type Tpm } from '../tpm2/tpm.ts';
import { hadSeeds, restoreHint } from './lost-seeds.ts';
import { type Payload, parsePayload } from './payload.ts';
import { pinsHint, pinsPlace, readPins, verifyPins } from './pins.ts';
import { inOrder, tpmObjects } from './policies.ts';
import { wipeScopes } from './scope.ts';
import { raiseCounter, type TpmCounter } from './tpm-counter.ts';
import { type ParsedTpmStanza, parseStanza, type TpmStanzaType, unwrapStanza } from './tpm-stanza.ts';

/** The names under which auxcred.service gets the machine's host keys as credentials. */
export const hostKeyCredentials = { ssh: 'ssh-host-key', age: 'age-host-key', sealed: 'sealed-host-key' } as const;

/** What such a credential holds if the key's file is missing: the broker then starts anyway, and says so. */
export const missingKey = 'missing';

/** Milliseconds to wait during boot for udev to make the TPM's device node. */
export const devicePatience = 15_000;

/** Milliseconds that opening the seeds may take: a TPM that hangs must not hold up the units that wait. */
export const openingPatience = 20_000;

/** The machine's own private keys, the first two as files; undefined if there is none. */
export interface HostKeys {
  /** An OpenSSH ed25519 private key. */
  readonly ssh: string | undefined;
  /** An age identity. */
  readonly age: string | undefined;
  /** Decrypts the age identity that systemd-creds encrypted, with the named TPM. The caller wipes it. */
  readonly sealed?: ((device: string | undefined) => Promise<Uint8Array>) | undefined;
}

/** The keys that can open a machine's seeds. */
export interface Openers {
  readonly keys: HostKeys;
  /** The TPM device in systemd's notation; undefined for the one that the seeds are sealed to. */
  readonly device: string | undefined;
  /** Milliseconds to wait for the TPM's device node. */
  readonly patience?: number;
  /** The files of keys that should be there, and are not. */
  readonly absent?: readonly string[];
}

/** The opened seeds of a machine. */
export interface OpenedSeeds {
  readonly payload: Payload;
  /** What opened it: `ssh host key`, `tpm2`, `tpm2+host`, `age host key`, `systemd-creds`. */
  readonly openedBy: string;
  /** The SRK of the TPM that opened it; undefined if something else did. */
  readonly srk: RecordedSrk | undefined;
  /** The policy under which the TPM opened it; undefined if something else did. */
  readonly policy: TpmPolicy | undefined;
  /** The pinned counter; undefined if none is pinned. */
  readonly counter?: TpmCounter;
  /** The TPM device that was asked, or would have been; undefined for the default one. */
  readonly device?: string | undefined;
}

/** What a TPM that opens the seeds tells beside their key. */
interface TpmFindings extends Required<Pick<OpenedSeeds, 'srk' | 'policy'>> {
  /** The counter's value; undefined if none was asked for, or the TPM lacks it. */
  readonly value: number | undefined;
}

/**
 * Opens this machine's seeds and checks them against its pins. The caller wipes them (`wipeScopes`).
 * @throws Failure `not-found`, `not-pinned`, `malformed`, or one that says which recipient failed and why
 */
export async function openPinnedSeeds(paths: Paths, openers: Openers): Promise<OpenedSeeds> {
  const file = readIfPresent(paths.seeds);
  if (!file) throw missingSeeds(paths);
  const pins = readPins(paths);
  if (!pins)
    throw new Failure(
      'not-pinned',
      `${pinsPlace(paths).file} is missing, so nothing says which seeds this machine expects`,
      { hint: pinsHint },
    );
  const known = { ...openers, device: openers.device ?? pins.device };
  const { counter } = pins;
  const { value, ...store } = await openWith(file, known, counter?.index).catch((error: unknown) => {
    throw damagedFile(paths.seeds, error);
  });
  try {
    verifyPins(store.payload.scopes, pins);
  } catch (error) {
    wipeScopes(store.payload.scopes);
    throw error;
  }
  const opened = { ...store, device: known.device };
  if (!counter) return opened;
  const increment = async (): Promise<void> => {
    if (value !== undefined) await raiseCounter(known, counter.index, store.srk);
  };
  return { ...opened, counter: { ...counter, value, increment } };
}

/** The failure for a missing seeds.age. A machine that had one needs the same seeds again. */
export function missingSeeds(paths: Paths): Failure {
  if (!hadSeeds(paths))
    return new Failure('not-found', `no seed is sealed on this machine: ${paths.seeds} is missing`, {
      hint: 'run auxcred seal',
    });
  return new Failure('not-found', `this machine's seed is lost: ${paths.seeds} is missing`, {
    hint: restoreHint(paths),
  });
}

/**
 * Opens the bytes of a seeds.age without checking pins. The caller wipes the seeds.
 * @throws Failure as {@link openPinnedSeeds} does
 */
export async function openSeeds(file: Uint8Array, openers: Openers): Promise<OpenedSeeds> {
  const { value: _, ...store } = await openWith(file, openers, undefined);
  return store;
}

/** Opens the seeds. If that takes the TPM, also reads the counter at the index. */
async function openWith(
  file: Uint8Array,
  openers: Openers,
  index: number | undefined,
): Promise<OpenedSeeds & { value: number | undefined }> {
  const keyFiles = readKeyFiles(openers.keys);
  const { plaintext, openedBy, found } = await openAgeFile(file, unwrappers(openers, keyFiles, index))
    .catch((error: unknown) => {
      throw withoutKeys(openers.absent ?? [], error);
    })
    .finally(() => {
      keyFiles.ssh?.fill(0);
      keyFiles.age?.fill(0);
    });
  try {
    const payload = parsePayload(plaintext);
    return { payload, openedBy, srk: found?.srk, policy: found?.policy, value: found?.value };
  } finally {
    plaintext.fill(0);
  }
}

/** Nothing opened the file: if a key's file is missing, that is why. */
const withoutKeys = (absent: readonly string[], error: unknown): unknown =>
  absent.length > 0 && error instanceof Failure && error.code === 'no-recipient'
    ? new Failure('no-recipient', `the key that opens the seed is missing: ${absent.join(', ')}`, {
        hint: `put it back from a backup; or ${resealHint}`,
        cause: error,
      })
    : error;

/** The bytes of the machine's private keys. The caller wipes them. */
interface KeyFiles {
  readonly ssh: Uint8Array | undefined;
  readonly age: Uint8Array | undefined;
}

const readKeyFiles = ({ ssh, age }: HostKeys): KeyFiles => ({
  ssh: ssh === undefined ? undefined : readIfPresent(ssh),
  age: age === undefined ? undefined : readIfPresent(age),
});

/** The unwrappers that this machine has, the fastest first. The TPM's also read the counter at the index. */
function unwrappers(
  { keys, device, patience = 0 }: Openers,
  { ssh, age }: KeyFiles,
  index: number | undefined,
): Unwrapper<TpmFindings>[] {
  const all: Unwrapper<TpmFindings>[] = [];
  const openDevice = async (): Promise<Tpm> => await openTpm(device, patience);
  if (ssh) all.push(sshUnwrapper(ssh));
  if (age) all.push(x25519Unwrapper(age));
  const { sealed } = keys;
  if (sealed) all.push(sealedUnwrapper(async () => await sealed(device)));
  all.push(
    tpmUnwrapper('auxcred/tpm2', openDevice, ssh, index),
    tpmUnwrapper('auxcred/tpm2+host', openDevice, ssh, index),
  );
  return all;
}

/** Decrypts the identity only if there is a stanza for it, because a TPM is slow. */
function sealedUnwrapper(identity: () => Promise<Uint8Array>): Unwrapper {
  return {
    name: 'systemd-creds',
    unwrap: async (stanzas) => {
      if (stanzas.every(({ args }) => args[0] !== 'X25519')) return undefined;
      const key = await identity();
      try {
        return await x25519Unwrapper(key).unwrap(stanzas);
      } finally {
        key.fill(0);
      }
    },
  };
}

function tpmUnwrapper(
  type: TpmStanzaType,
  openDevice: () => Promise<Tpm>,
  sshKey: Uint8Array | undefined,
  index: number | undefined,
): Unwrapper<TpmFindings> {
  const unwrap = async ({ stanza, parsed }: Candidate): Promise<Unwrapped<TpmFindings>> => {
    const secrets: Uint8Array[] = [];
    try {
      if (type === 'auxcred/tpm2+host') secrets.push(hostSecretOf(stanza, sshKey));
      const { secret, value } = await unsealed(parsed.sealed, openDevice, index);
      secrets.unshift(secret);
      const fileKey = unwrapStanza(type, parsed, secrets);
      // Only now: until a stanza opens, the SRK in it is untrusted input.
      const { srkName, srkTemplate, policy } = parsed.sealed;
      return { fileKey, found: { value, srk: { srkName, srkTemplate }, policy } };
    } finally {
      for (const secret of secrets) secret.fill(0);
    }
  };
  return {
    name: type.slice('auxcred/'.length),
    unwrap: async (stanzas) => {
      const candidates = stanzas
        .filter(({ args }) => args[0] === type)
        .map((stanza): Candidate => ({ stanza, parsed: parseStanza(stanza) }))
        .sort((a, b) => inOrder(a.parsed.sealed.policy, b.parsed.sealed.policy));
      const failures: unknown[] = [];
      for (const candidate of candidates) {
        try {
          return await unwrap(candidate);
        } catch (error) {
          failures.push(error);
        }
      }
      if (failures.length > 0) throw together(failures);
      return undefined;
    },
  };
}

/** A policy that the TPM does not accept now, and why. */
export interface ClosedAlternative {
  readonly policy: TpmPolicy;
  readonly failure: Failure;
}

/**
 * Tries each TPM policy of a seeds.age by itself.
 * @throws Failure for an alternative that is damaged, or sealed to another TPM
 */
export async function closedAlternatives(file: Uint8Array, openers: Openers): Promise<ClosedAlternative[]> {
  const closed: ClosedAlternative[] = [];
  for (const { policy, ...object } of tpmObjects(parseHeader(file).stanzas)) {
    try {
      const { secret } = await unsealed(
        { ...object, policy },
        async () => await openTpm(openers.device, openers.patience),
        undefined,
      );
      secret.fill(0);
    } catch (error) {
      if (!(error instanceof Failure) || (error.code !== 'pcr-mismatch' && error.code !== 'until-boot')) throw error;
      closed.push({ policy, failure: error });
    }
  }
  return closed;
}

interface Candidate {
  readonly stanza: Stanza;
  readonly parsed: ParsedTpmStanza;
}

/** One failure that says why no alternative opened the seeds. Its code and hint are the first one's, or a lock's. */
function together(failures: readonly unknown[]): unknown {
  const locked = failures.find((failure) => failure instanceof Failure && failure.code === 'until-boot');
  const first = locked ?? failures[0];
  if (failures.length === 1 || !(first instanceof Failure)) return first;
  const texts = failures.map((failure) => (failure instanceof Error ? failure.message : String(failure)));
  return new Failure(first.code, [...new Set(texts)].join('; nor: '), {
    ...(first.hint === undefined ? {} : { hint: first.hint }),
    cause: first,
  });
}

/** The secret that the ssh host key adds to the TPM's. The caller wipes it. @throws Failure `no-recipient` */
function hostSecretOf(stanza: Stanza, sshKey: Uint8Array | undefined): Uint8Array {
  if (!sshKey)
    throw new Failure(
      'no-recipient',
      'the seed is sealed to the TPM and the ssh host key, and this machine has no ssh host key',
    );
  const pair = parseOpensshKey(sshKey);
  try {
    const secret = sshSharedSecret(pair, stanza);
    if (secret) return secret;
  } finally {
    pair.seed.fill(0);
  }
  throw new Failure('no-recipient', 'the seed is sealed to the TPM and another ssh host key', { hint: resealHint });
}

/** Unseals the TPM's secret, which the caller wipes, and reads the counter in the same session. @throws Failure */
async function unsealed(
  sealed: SealedObject,
  openDevice: () => Promise<Tpm>,
  index: number | undefined,
): Promise<{ secret: Uint8Array; value: number | undefined }> {
  const tpm = await openDevice();
  let value: number | undefined;
  const alsoRead = async (session: number): Promise<void> => {
    if (index !== undefined) value = await readCounter(tpm, index, session);
  };
  try {
    const secret = await unseal(tpm, sealed, undefined, index === undefined ? undefined : alsoRead);
    return { secret, value };
  } finally {
    await tpm.close();
  }
}
