/** The passphrase or the recipients that will open the fleet seed. */
import { timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Recipients } from '../age/identities.ts';
import { Failure } from '../failure.ts';
import { askSecret } from '../terminal/prompt.ts';
import type { Options } from './options.ts';

/** The passphrase or the recipients that the options name. @throws Failure `usage` */
export function chosenLock(options: Options): Recipients {
  const recipients = options.list('recipient');
  const file = options.value('passphrase-file');
  if (recipients.length > 0 && (options.flag('passphrase') || file !== undefined))
    throw new Failure('usage', 'an age file has either a passphrase or recipients');
  if (recipients.length > 0) return { recipients };
  if (file !== undefined) return { passphrase: readFileSync(file, 'utf8').replace(/\r?\n$/, '') };
  if (!options.flag('passphrase'))
    throw new Failure('usage', 'the fleet seed needs recipients or a passphrase', {
      hint: '--recipient=age1... (any number) or --passphrase',
    });
  const hint = '--passphrase-file=FILE';
  const [first, second] = ['passphrase', 'passphrase again'].map((question) => askSecret(question, hint));
  if (!first || !second || first.length === 0) throw new Failure('usage', 'the passphrase is empty');
  if (first.length !== second.length || !timingSafeEqual(first, second))
    throw new Failure('usage', 'the two passphrases differ');
  return { passphrase: new TextDecoder().decode(first) };
}
