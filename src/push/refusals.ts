/** Refusals that both ends word alike: the operator judges by the host's offer, the host by its files. */
import { Failure } from '../failure.ts';
import { conflictsIn, conflictText, type NameConflict } from '../fixed/future-folder.ts';

/** Maximum number of names in a line. */
const mostListed = 10;

/** `a, b, c`, and the number of further ones. */
export const listed = (names: readonly string[]): string =>
  `${names.slice(0, mostListed).join(', ')}${names.length > mostListed ? ` and ${String(names.length - mostListed)} more` : ''}`;

/** @throws Failure `older` for a fixed file that is older than the host's; the sequences are those of the two files */
export function refuseOlderFile(name: string, there: number, comes: number): void {
  if (comes >= there) return;
  throw new Failure('older', `${name} on the host is newer than the vault's`, {
    hint: 'check that the vault is the newest one; --accept-older sends it anyway',
  });
}

/**
 * @param host - `web1`, or `the machine itself`
 * @param own - names of files that were put or edited there, and would be overwritten
 * @throws Failure `refused`, unless there are none
 */
export function refuseOwn(host: string, own: readonly string[]): void {
  if (own.length === 0) return;
  throw new Failure(
    'refused',
    `${listed(own)} ${own.length === 1 ? 'was' : 'were'} put or edited on ${host}, not by a push`,
    {
      hint: 'look at it there, and put what is still needed into the vault; push --replace overwrites it',
    },
  );
}

/**
 * Refuses names that would conflict. Conflicts that already exist among the old names do not block a push.
 * @param host - `web1`, or `the machine itself`
 * @param stay - the names that stay in the fixed folder
 * @param come - the names that are brought
 * @throws Failure `refused` if a brought name differs from another one only in case
 */
export function refuseConflict(host: string, stay: readonly string[], come: readonly string[]): void {
  const refused = (conflict: NameConflict, hint: string): Failure =>
    new Failure('refused', `${conflictText(conflict)}: they would be one file on other systems`, { hint });
  const [inVault] = conflictsIn(come);
  if (inVault) throw refused(inVault, 'auxcred verify names all of them; auxcred mv or rm in the vault');
  const coming = new Set(come);
  const onHost = conflictsIn([...stay, ...come]).find(({ name }) => coming.has(name));
  if (onHost)
    throw refused(onHost, `auxcred mv or rm ${onHost.other} on ${host}, or auxcred mv ${onHost.name} in the vault`);
}
