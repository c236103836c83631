/** The recipients or the passphrase that will open the fleet seed. */
import { readFileSync } from 'node:fs';
import type { Recipients } from '../age/identities.ts';
import { Failure } from '../failure.ts';
import { askTwice } from './asked-twice.ts';
import type { Options } from './options.ts';

/** The recipients that the options name, else the passphrase. @throws Failure `usage` for neither, both, or an empty one */
export function chosenRecipients(options: Options): Recipients {
  const recipients = options.list('recipient');
  const file = options.value('passphrase-file');
  const isPassphrase = options.flag('passphrase') || file !== undefined;
  if (recipients.length > 0 && isPassphrase)
    throw new Failure('usage', 'an age file has either a passphrase or recipients');
  if (recipients.length > 0) return { recipients };
  if (!isPassphrase)
    throw new Failure('usage', 'the fleet seed needs recipients or a passphrase', {
      hint: '--recipient=age1... (any number) or --passphrase',
    });
  const passphrase = file === undefined ? typedPassphrase() : readFileSync(file, 'utf8').replace(/\r?\n$/, '');
  if (passphrase === '')
    throw new Failure('usage', `the passphrase${file === undefined ? '' : ` in ${file}`} is empty`);
  return { passphrase };
}

function typedPassphrase(): string {
  const typed = askTwice('passphrase', '--passphrase-file=FILE');
  if (!typed) throw new Failure('usage', 'the two passphrases differ');
  const passphrase = new TextDecoder().decode(typed);
  typed.fill(0);
  return passphrase;
}
