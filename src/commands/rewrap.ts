import { timingSafeEqual } from 'node:crypto';
import { encryptTo } from '../age/identities.ts';
import { wireFingerprint } from '../age/ssh-ed25519.ts';
import { chosenRecipients } from '../cli/chosen-recipients.ts';
import { chosenVault, fleetKeys, withFleetSeed } from '../cli/chosen-vault.ts';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import { replaceFile } from '../system/files.ts';
import { say } from '../terminal/say.ts';
import { openFleetSeed } from '../vault/fleet-seed.ts';
import { sweepVault } from '../vault/git.ts';
import { vaultFiles } from '../vault/vault.ts';

/**
 * `auxcred rewrap`: re-encrypts the fleet seed to other recipients or another passphrase. The seed, and so every
 * secret, stays the same.
 */
export async function rewrap(argv: readonly string[]): Promise<number> {
  const options = new Options('rewrap', argv);
  options.exactly();
  const vault = chosenVault(options);
  const { seed: file } = vaultFiles(vault.folder);
  await withFleetSeed(vault, options, async (seed) => {
    const chosen = chosenRecipients(options);
    const sealed = await encryptTo(chosen, seed);
    if (!options.flag('force'))
      await prove(
        sealed,
        seed,
        'passphrase' in chosen
          ? { identities: [], passphrase: () => Promise.resolve(chosen.passphrase) }
          : fleetKeys(vault, options),
      );
    sweepVault(vault.folder);
    replaceFile(file, sealed, { mode: 0o600 });
  });
  const recipients = options.list('recipient').map(recipientText);
  say(
    `${file} opens with ${recipients.join(', ') || 'the new passphrase'} now; copies of the old file still open as ` +
      'they did',
  );
  return 0;
}

/** An age recipient by its beginning; an ssh key by its fingerprint, since all keys of a type begin alike. */
function recipientText(recipient: string): string {
  const [type = '', key = ''] = recipient.trim().split(/\s+/);
  if (!type.startsWith('ssh-')) return recipient.slice(0, 24);
  return `${type} ${wireFingerprint(Buffer.from(key, 'base64'))}`;
}

/** A file that can't be opened must not replace one that can. @throws Failure `no-recipient` */
async function prove(sealed: Uint8Array, seed: Uint8Array, keys: Parameters<typeof openFleetSeed>[1]): Promise<void> {
  let again: Uint8Array;
  try {
    again = await openFleetSeed('the new file', keys, sealed);
  } catch (error) {
    throw new Failure('no-recipient', 'none of the available keys opens the new file, so nothing was changed', {
      hint: '--identity=FILE with one that does, or add a recipient of your own, or --force',
      cause: error,
    });
  }
  const same = again.length === seed.length && timingSafeEqual(again, seed);
  again.fill(0);
  if (!same) throw new Failure('malformed', 'the new file does not hold the same seed, so nothing was changed');
}
