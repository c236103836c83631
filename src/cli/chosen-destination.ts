/** The host of the vault that an operand such as `web1` or `admin@web1` names, and how ssh reaches it. */
import { Failure } from '../failure.ts';
import type { Destination } from '../push/host-push.ts';
import { hostOf, targetPattern, type Vault } from '../vault/vault.ts';

/** A host by its name, by its target, or as USER@NAME, which says how it is reached. @throws Failure */
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
