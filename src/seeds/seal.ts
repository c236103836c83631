/** Writes seeds.age. Not for the boot path: the age library takes longer to load than a boot may take. */
import { Encrypter, type Recipient, Stanza } from 'age-encryption';
import type { Stanza as ParsedStanza } from '../age/header.ts';
import { sshEphemeralSecret, sshStanza } from '../age/ssh-ed25519.ts';
import { Failure } from '../failure.ts';
import type { TpmPolicy } from '../tpm2/policy.ts';
import type { SealedObject } from '../tpm2/sealed-object.ts';
import { encodePayload, type Payload } from './payload.ts';
import { freshTpmSecret, wrapStanza } from './tpm-stanza.ts';

/** A TPM, and the alternative policies under which it opens the seeds. */
export interface TpmSealer {
  readonly policies: readonly TpmPolicy[];
  /** Seals K (32 bytes) under one of them. */
  readonly seal: (secret: Uint8Array, policy: TpmPolicy) => SealedObject | Promise<SealedObject>;
}

/** The keys of this or another machine that seeds can be sealed to. */
export interface SealingKeys {
  /** The ssh-ed25519 host key's public half, 32 bytes. */
  readonly sshHostKey: Uint8Array | undefined;
  /** The recipient of the age identity that systemd-creds protects, or that replaces a missing ssh host key. */
  readonly ageHostKey: string | undefined;
  /** The machine's TPM. */
  readonly tpm: TpmSealer | undefined;
}

/**
 * Encrypts a seeds.age for `payload`, whose sealing names the key to use and the recovery recipients.
 * @throws Failure `no-recipient` or `no-tpm` for a missing key, `usage` for an invalid recipient
 */
export async function sealPayload(payload: Payload, keys: SealingKeys): Promise<Uint8Array> {
  return await encrypted(payload, [machineRecipient(payload, keys), ...payload.sealing.recovery]);
}

/**
 * Encrypts a payload to a machine's ssh host key only, for its way to that machine, which seals it to its own TPM.
 */
export async function sealForTransit(payload: Payload, sshHostKey: Uint8Array): Promise<Uint8Array> {
  return await encrypted(payload, [wrappingWith((fileKey) => [sshStanza(sshHostKey, fileKey)])]);
}

async function encrypted(payload: Payload, recipients: readonly (string | Recipient)[]): Promise<Uint8Array> {
  const encrypter = new Encrypter();
  for (const recipient of recipients) addRecipient(encrypter, recipient);
  const plaintext = encodePayload(payload);
  try {
    return await encrypter.encrypt(plaintext);
  } finally {
    plaintext.fill(0);
  }
}

/** Adds a recipient. @throws Failure `usage` for an invalid one */
function addRecipient(encrypter: Encrypter, recipient: string | Recipient): void {
  try {
    encrypter.addRecipient(recipient);
  } catch (error) {
    if (typeof recipient !== 'string') throw error;
    throw new Failure('usage', `${recipient.slice(0, 24)} is not a recipient that can be encrypted to`, {
      hint: 'age1..., as age-keygen prints it',
      cause: error,
    });
  }
}

function machineRecipient({ sealing }: Payload, { sshHostKey, ageHostKey, tpm }: SealingKeys): string | Recipient {
  if (sealing.withKey === 'host' || sealing.withKey === 'systemd-creds') {
    if (sealing.withKey === 'host' && sshHostKey) return wrappingWith((fileKey) => [sshStanza(sshHostKey, fileKey)]);
    if (ageHostKey !== undefined) return ageHostKey;
    throw new Failure('no-recipient', 'this machine has no host key to seal to');
  }
  if (!tpm) throw new Failure('no-tpm', 'there is no TPM to seal to');
  if (sealing.withKey === 'tpm2')
    return wrappingWith(
      async (fileKey) => await tpmStanzas(tpm, () => ({ args: ['auxcred/tpm2'], host: [] }), fileKey),
    );
  if (!sshHostKey)
    throw new Failure('no-recipient', 'tpm2+host needs an ssh host key, and this machine has none', {
      hint: 'ssh-keygen -A makes one; --with-key=tpm2 does without',
    });
  const hostShare = (): Share => {
    const { tag, share, secret } = sshEphemeralSecret(sshHostKey);
    return { args: ['auxcred/tpm2+host', tag, share], host: [secret] };
  };
  return wrappingWith(async (fileKey) => await tpmStanzas(tpm, hostShare, fileKey));
}

function wrappingWith(
  wrap: (fileKey: Uint8Array) => readonly ParsedStanza[] | Promise<readonly ParsedStanza[]>,
): Recipient {
  return {
    wrapFileKey: async (fileKey) => (await wrap(fileKey)).map(({ args, body }) => new Stanza([...args], body)),
  };
}

/** The arguments of a stanza, and what the host key adds to the TPM's secret. */
interface Share {
  readonly args: Parameters<typeof wrapStanza>[0];
  readonly host: readonly Uint8Array[];
}

/** One stanza for each policy, each with a secret of its own. */
async function tpmStanzas(
  { policies, seal }: TpmSealer,
  share: () => Share,
  fileKey: Uint8Array,
): Promise<ParsedStanza[]> {
  const stanzas: ParsedStanza[] = [];
  for (const policy of policies) {
    const { args, host } = share();
    const tpmSecret = freshTpmSecret();
    try {
      stanzas.push(wrapStanza(args, await seal(tpmSecret, policy), [tpmSecret, ...host], fileKey));
    } finally {
      for (const secret of [tpmSecret, ...host]) secret.fill(0);
    }
  }
  return stanzas;
}
