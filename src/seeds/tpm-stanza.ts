/**
 * The stanzas `auxcred/tpm2` and `auxcred/tpm2+host` of seeds.age.
 *
 *     arguments: for tpm2+host: the host key's 4-byte tag and the ephemeral share, in base64 without padding,
 *                as in age's ssh-ed25519 stanza
 *     body:      LP(SRK Name) LP(SRK template) LP(policy) LP(TPM2B_PUBLIC) LP(TPM2B_PRIVATE)
 *                || wrapped file key (32 bytes)
 *                or, sealed on another machine: ... LP(duplicate) LP(TPM2B_ENCRYPTED_SECRET) || wrapped file key
 *     policy:    as in stanza-policy.ts
 *     wrap key:  HKDF-SHA256(ikm = K or K||S,
 *                            salt = SHA-256(LP(type) LP(argument)... LP(body before the wrapped key)),
 *                            info = "auxcred/v1/" || type, 32)
 *     file key:  ChaCha20-Poly1305(wrap key, zero nonce)
 *
 * K: 32 random bytes of this seal, which only the TPM gives back. S: the shared secret of age's ssh-ed25519 scheme.
 * The zero nonce is sound because a wrap key wraps one file key.
 */
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';
import type { Stanza } from '../age/header.ts';
import { concat, framed, utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import type { SealedObject } from '../tpm2/sealed-object.ts';
import { damagedHint } from './payload.ts';
import { encodePolicy, parsePolicy } from './stanza-policy.ts';

/** The types of the stanzas. */
export type TpmStanzaType = 'auxcred/tpm2' | 'auxcred/tpm2+host';

const wrappedLength = 16 + 16;
const zeroNonce = new Uint8Array(12);

/** A parsed stanza. */
export interface ParsedTpmStanza {
  readonly sealed: SealedObject;
  readonly salt: Uint8Array;
  readonly wrapped: Uint8Array;
}

function saltOf(args: readonly string[], framedBody: Uint8Array): Uint8Array {
  return createHash('sha256')
    .update(concat(...args.map(framed), framed(framedBody)))
    .digest();
}

function wrapKey(type: string, secrets: readonly Uint8Array[], salt: Uint8Array): Uint8Array {
  const ikm = concat(...secrets);
  const key = new Uint8Array(hkdfSync('sha256', ikm, salt, utf8(`auxcred/v1/${type}`), 32));
  ikm.fill(0);
  return key;
}

/** Wraps `fileKey` (16 bytes) under `secrets`: K, or K and S (32 bytes each). `args` starts with the type. */
export function wrapStanza(
  args: readonly [TpmStanzaType, ...string[]],
  sealed: SealedObject,
  secrets: readonly Uint8Array[],
  fileKey: Uint8Array,
): Stanza {
  const body = concat(
    framed(sealed.srkName),
    framed(sealed.srkTemplate),
    framed(encodePolicy(sealed.policy)),
    framed(sealed.public),
    ...('private' in sealed ? [sealed.private] : [sealed.duplicate, sealed.encryptedSeed]).map(framed),
  );
  const key = wrapKey(args[0], secrets, saltOf(args, body));
  const cipher = createCipheriv('chacha20-poly1305', key, zeroNonce, { authTagLength: 16 });
  const wrapped = concat(cipher.update(fileKey), cipher.final(), cipher.getAuthTag());
  key.fill(0);
  return { args, body: concat(body, wrapped) };
}

/** Parses a stanza. @throws Failure `malformed` */
export function parseStanza({ args, body }: Stanza): ParsedTpmStanza {
  const framedBody = body.subarray(0, Math.max(0, body.length - wrappedLength));
  const [srkName, srkTemplate, policy, publicArea, privateArea, encryptedSeed, ...more] = unframed(framedBody);
  if (!srkName || !srkTemplate || !policy || !publicArea || !privateArea || more.length > 0) throw malformed();
  const common = { srkName, srkTemplate, policy: parsePolicy(policy), public: publicArea };
  return {
    sealed: encryptedSeed ? { ...common, duplicate: privateArea, encryptedSeed } : { ...common, private: privateArea },
    salt: saltOf(args, framedBody),
    wrapped: body.subarray(framedBody.length),
  };
}

/**
 * Unwraps the file key (16 bytes), which the caller wipes.
 * @throws Failure `malformed` if the secrets do not match the stanza
 */
export function unwrapStanza(
  type: string,
  { salt, wrapped }: ParsedTpmStanza,
  secrets: readonly Uint8Array[],
): Uint8Array {
  const key = wrapKey(type, secrets, salt);
  try {
    const decipher = createDecipheriv('chacha20-poly1305', key, zeroNonce, { authTagLength: 16 });
    decipher.setAuthTag(wrapped.subarray(16));
    return concat(decipher.update(wrapped.subarray(0, 16)), decipher.final());
  } catch {
    throw malformed();
  } finally {
    key.fill(0);
  }
}

/** Draws a new K, 32 bytes. The caller wipes it. */
export const freshTpmSecret = (): Uint8Array => new Uint8Array(randomBytes(32));

const malformed = (): Failure => new Failure('malformed', 'the TPM stanza is damaged', { hint: damagedHint });

function unframed(bytes: Uint8Array): Uint8Array[] {
  const fields: Uint8Array[] = [];
  let offset = 0;
  while (offset < bytes.length) {
    const [high, low] = bytes.subarray(offset, offset + 2);
    const end = offset + 2 + (high ?? 0) * 256 + (low ?? 0);
    if (low === undefined || end > bytes.length) throw malformed();
    fields.push(bytes.slice(offset + 2, end));
    offset = end;
  }
  return fields;
}
