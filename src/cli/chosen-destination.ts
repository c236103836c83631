/** The host of the vault that an operand such as `web1` or `admin@web1` names, how ssh reaches it, and for how long. */
import { Failure } from '../failure.ts';
import type { Destination } from '../push/host-push.ts';
import { hostOf, targetPattern, type Vault } from '../vault/vault.ts';
import { usualTimeout } from './manual.ts';
import type { Options } from './options.ts';

/** Why an option is refused by a verb that runs both on a machine and for a host: it belongs to the other form. */
export const isForMachine = 'is for this machine, but a host of the vault is named';
export const needsHost = 'needs the name of a host in the vault';

/**
 * Refuses options that have no meaning in this form of the call.
 * @param why - goes after the option: {@link needsHost}
 * @throws Failure `usage`
 */
export function refuseGiven(options: Options, names: readonly string[], why: string, hint: string): void {
  const given = names.find((name) => options.value(name) !== undefined);
  if (given !== undefined) throw new Failure('usage', `--${given} ${why}`, { hint });
}

/** The number of an option, from 1 to `most`. @param usual - the number without the option @throws Failure `usage` */
export function wholeNumber(options: Options, name: string, usual: number, most: number): number {
  const text = options.value(name) ?? String(usual);
  const number = Number(text);
  if (!/^[0-9]+$/.test(text) || number < 1 || number > most)
    throw new Failure('usage', `--${name}=${text} is not a whole number from 1 to ${String(most)}`);
  return number;
}

/** A day, in seconds. */
const longestTimeout = 86_400;

/** Milliseconds that a conversation with one host may take. @throws Failure `usage` */
export const chosenTimeout = (options: Options): number =>
  1000 * wholeNumber(options, 'timeout', usualTimeout, longestTimeout);

/**
 * A host by its name, by its target, or as USER@NAME, which says how it is reached.
 * @throws Failure `not-found` for an unknown host, `usage` for what ssh would take for an option
 */
export function destinationOf(vault: Vault, operand: string): Destination {
  const byTarget = [...vault.hosts.values()].find(({ target }) => target === operand);
  if (byTarget) return { host: byTarget, target: operand };
  const byName = vault.hosts.get(operand);
  if (byName) return { host: byName, target: byName.target };
  const user = operand.slice(0, operand.lastIndexOf('@') + 1);
  const host = hostOf(vault, operand.slice(user.length));
  if (user !== '' && !targetPattern.test(operand)) throw new Failure('usage', `${operand} is not a destination of ssh`);
  return { host, target: user === '' ? host.target : operand };
}
