/** Reads the placement of a secret that is delivered as a file from its declaration. */
import { needs, type Placement } from './declaration.ts';
import type { ManifestTable } from './table.ts';

/** The keys that `delivery = "file"` adds. */
export const placementKeys = ['owner', 'group', 'mode', 'link', 'needed-for'] as const;

const ownerPattern = /^(?:[a-z_][a-z0-9_-]{0,30}\$?|0|[1-9][0-9]{0,9})$/;
const most32 = 0xffffffff;
/** Folders that no link may lie in: auxcred's own, and the kernel's. */
const closedFolders = ['/run/auxcred', '/proc', '/sys', '/dev'];

/** Reads the placement of a declaration. Reports what is wrong as problems of the table. */
export function readPlacement(table: ManifestTable): Placement {
  const [owner = 'root', group = 'root'] = (['owner', 'group'] as const).map((key) => {
    const text = table.text(key, 'root');
    if (!ownerPattern.test(text) || Number(text) >= most32)
      table.problem(
        key,
        `${JSON.stringify(text)} is not the name or number of a ${key === 'owner' ? 'user' : 'group'}`,
        `${key} = "postgres"`,
      );
    return text;
  });
  const mode = table.text('mode', '0400');
  if (!/^0?[0-7]{3}$/.test(mode))
    table.problem('mode', `${JSON.stringify(mode)} is not a file's mode`, 'mode = "0440"');
  else if ((Number.parseInt(mode, 8) & 0o007) !== 0)
    table.problem('mode', 'every user of the machine gets this secret', 'mode = "0440" and a group', 'warning');
  const link = table.value('link') === undefined ? undefined : table.text('link', '');
  const problem = link === undefined ? undefined : linkProblem(link);
  if (problem !== undefined) table.problem('link', problem, 'link = "/etc/postgresql/password"');
  return {
    owner,
    group,
    mode: Number.parseInt(mode, 8) || 0,
    link,
    neededFor: table.oneOf('needed-for', 'units', needs),
  };
}

function linkProblem(link: string): string | undefined {
  if (!link.startsWith('/')) return `${JSON.stringify(link)} is not an absolute path`;
  if (/[\0-\x1f\x7f]/.test(link) || link.length > 1024)
    return 'a path of at most 1024 characters, without control characters, is expected here';
  if (
    link
      .split('/')
      .slice(1)
      .some((part) => part === '' || part === '.' || part === '..')
  )
    return `${link} has an empty segment, . or ..`;
  const closed = closedFolders.find((folder) => link === folder || link.startsWith(`${folder}/`));
  return closed === undefined ? undefined : `${link} lies inside ${closed}`;
}
