/** What both ends refuse in the same words: the operator by what the host offers, the host by what lies there. */
import { Failure } from '../failure.ts';
import { conflictsIn, conflictText, type NameConflict } from '../fixed/future-folder.ts';

/** How many names a line has. */
const mostListed = 10;

/** `a, b, c`, and how many more there are. */
export const listed = (names: readonly string[]): string =>
  `${names.slice(0, mostListed).join(', ')}${names.length > mostListed ? ` and ${String(names.length - mostListed)} more` : ''}`;

/** @throws Failure `older` for a fixed file that is older than the host's; the sequences are those of the two files */
export function refuseOlderFile(name: string, there: number, comes: number): void {
  if (comes >= there) return;
  throw new Failure('older', `${name} on the host is newer than the vault's`, {
    hint: 'is the vault the newest one? --accept-older sends it',
  });
}

/**
 * @param host - `web1`, or the machine itself
 * @param own - what was put or edited there, and would be overwritten
 * @throws Failure `refused`, unless there is nothing
 */
export function refuseOwn(host: string, own: readonly string[]): void {
  if (own.length === 0) return;
  throw new Failure(
    'refused',
    `${listed(own)} ${own.length === 1 ? 'was' : 'were'} put or edited on ${host}, not by a push`,
    {
      hint: 'look at it there, and put into the vault what is still needed; push --replace overwrites it',
    },
  );
}

/**
 * Names that are wrong already without what comes keep nothing from coming.
 * @param host - `web1`, or the machine itself
 * @param stay - the names that are in the fixed folder, and stay there
 * @param come - those that are brought
 * @throws Failure `refused` if one that comes differs from another one in its case only
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
