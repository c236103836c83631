/**
 * Encrypts to people's keys and decrypts with them. What this project's own reader can't do, the age library or the age
 * program does.
 */
import { spawnSync } from 'node:child_process';
import type { Encrypter } from 'age-encryption';
import { Failure, messageOf } from '../failure.ts';
import { readIfPresent } from '../system/files.ts';
import { spawnProblem } from '../system/programs.ts';
import { waysOut } from '../system/ways-out.ts';
import { damagedFile, openAgeFile } from './file.ts';
import { parseHeader } from './header.ts';
import { scryptStanza, scryptUnwrapper } from './scrypt.ts';
import { sshUnwrapper } from './ssh-ed25519.ts';
import { x25519Unwrapper } from './x25519.ts';

/** The keys that may open an age file. */
export interface Identities {
  /** Files with age identities (plugins' too) or OpenSSH ed25519 private keys. */
  readonly identities: readonly string[];
  /** Asks the user for the passphrase. */
  readonly passphrase: () => Promise<string>;
  /** Tells the user how to name other identities. */
  readonly hint?: string;
}

/** The recipients (`age1...`, `ssh-ed25519 ...`) or the passphrase that an age file is encrypted to. */
export type Recipients = { readonly recipients: readonly string[] } | { readonly passphrase: string };

/**
 * Encrypts `plaintext` to an age file.
 * @throws Failure `usage` for an invalid recipient, `system` if the age program is needed and fails
 */
export async function encryptTo(lock: Recipients, plaintext: Uint8Array): Promise<Uint8Array> {
  const { Encrypter, Stanza } = await library();
  const encrypter = new Encrypter();
  if ('passphrase' in lock) {
    encrypter.addRecipient({
      async wrapFileKey(fileKey) {
        const { args, body } = await scryptStanza(lock.passphrase, fileKey);
        return [new Stanza([...args], body)];
      },
    });
    return await encrypter.encrypt(plaintext);
  }
  // The library knows age's own recipients only; the age program knows ssh keys and plugins.
  if (!lock.recipients.every((recipient) => /^age1[a-z0-9]+$/.test(recipient) && !/^age1[a-z0-9]+1/.test(recipient)))
    return runAge(['-e', ...lock.recipients.flatMap((recipient) => ['-r', recipient])], plaintext);
  for (const recipient of lock.recipients) addRecipient(encrypter, recipient);
  return await encrypter.encrypt(plaintext);
}

/** Loaded only when needed: it takes longer to load than all the rest of a command. */
const library = async (): Promise<typeof import('age-encryption')> => await import('age-encryption');

function addRecipient(encrypter: Encrypter, recipient: string): void {
  try {
    encrypter.addRecipient(recipient);
  } catch (error) {
    throw new Failure('usage', `${recipient.slice(0, 16)} is not an age recipient`, {
      hint: 'age1..., as age-keygen prints it',
      cause: error,
    });
  }
}

/**
 * Decrypts the age file `bytes`. The caller wipes the result.
 * @param file - the file's name, for messages
 * @throws Failure `malformed` for a damaged file, `no-recipient` if no key opens it, `system` if the age program fails
 */
export async function decryptWith(keys: Identities, file: string, bytes: Uint8Array): Promise<Uint8Array> {
  try {
    const isLocked = parseHeader(bytes).stanzas.some(({ args }) => args[0] === 'scrypt');
    return isLocked ? await openWithPassphrase(bytes, file, keys) : await openWithIdentities(bytes, file, keys);
  } catch (error) {
    throw damagedFile(file, error);
  }
}

/** A wrong key and a damaged stanza look the same. */
const orDamaged = 'if it is the right one, the file is damaged: restore it from a backup';

async function openWithPassphrase(bytes: Uint8Array, file: string, { passphrase }: Identities): Promise<Uint8Array> {
  try {
    return (await openAgeFile(bytes, [scryptUnwrapper(await passphrase())])).plaintext;
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'no-recipient') throw error;
    throw new Failure('no-recipient', `that passphrase does not open ${file}`, { hint: orDamaged, cause: error });
  }
}

async function openWithIdentities(
  bytes: Uint8Array,
  file: string,
  { identities, hint: others }: Identities,
): Promise<Uint8Array> {
  const failures: string[] = [];
  const absent: string[] = [];
  let damage: Failure | undefined;
  for (const identity of identities) {
    const key = readIfPresent(identity, 'read');
    if (!key) {
      absent.push(identity);
      continue;
    }
    try {
      return await openWith(bytes, identity, key);
    } catch (error) {
      // The failure of openAgeFile speaks of this machine's keys.
      const isOther = error instanceof Failure && error.code === 'no-recipient';
      failures.push(`${identity}: ${isOther ? "it matches none of the file's recipients" : messageOf(error)}`);
      if (error instanceof Failure && error.code === 'malformed') damage ??= error;
    } finally {
      key.fill(0);
    }
  }
  if (damage) throw damage;
  const hint = others === undefined ? orDamaged : `${others}; ${orDamaged}`;
  if (failures.length === 0 && absent.length > 0)
    throw new Failure(
      'no-recipient',
      `no key opens ${file}, since there is no file ${absent.join(', ')}`,
      others === undefined ? {} : { hint: others },
    );
  throw new Failure('no-recipient', `no key opens ${file}${failures.length > 0 ? ` (${failures.join('; ')})` : ''}`, {
    hint,
  });
}

async function openWith(bytes: Uint8Array, identity: string, key: Uint8Array): Promise<Uint8Array> {
  const text = new TextDecoder().decode(key);
  if (text.startsWith('-----BEGIN OPENSSH PRIVATE KEY-----'))
    return (await openAgeFile(bytes, [sshUnwrapper(key)])).plaintext;
  if (/^AGE-PLUGIN-/m.test(text)) return runAge(['-d', '-i', identity], bytes);
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.startsWith('AGE-SECRET-KEY-'));
  if (lines.length > 0 && lines.every((line) => line.startsWith('AGE-SECRET-KEY-1')))
    return (await openAgeFile(bytes, lines.map(x25519Unwrapper))).plaintext;
  const { Decrypter } = await library();
  const decrypter = new Decrypter();
  for (const line of lines) decrypter.addIdentity(line);
  try {
    return await decrypter.decrypt(bytes);
  } catch (error) {
    // The library's words for a key that opens no stanza; any other error is about the file.
    if (/^no identity matched/.test(messageOf(error))) throw error;
    throw new Failure('malformed', `not a valid age file: ${messageOf(error)}`, { cause: error });
  }
}

/** Runs the age program, whose plugins ask for a PIN or a touch at the terminal. */
function runAge(args: readonly string[], input: Uint8Array): Uint8Array {
  const { status, stdout, error } = spawnSync('age', args, { input, stdio: ['pipe', 'pipe', 'inherit'] });
  if (error !== undefined)
    throw new Failure('system', `the age program can't run: ${spawnProblem(error)}`, {
      hint: waysOut().install('age'),
    });
  if (status !== 0) throw new Failure('system', `age ${args[0] ?? ''} failed with status ${String(status)}`);
  return stdout;
}
