/**
 * Names of fixed secrets: a scope and a path inside it. `host/web1/wifi/home` is the path `wifi/home` of `host/web1`.
 */

import { scopeNamePattern } from '../derive/realm.ts';
import { Failure } from '../failure.ts';
import { isPlain } from '../system/printable.ts';

/** The end of the names of files in a fixed folder. */
export const fileEnding = '.sealed';

/** The name of a file or folder without that end. */
export const withoutEnding = (name: string): string =>
  name.endsWith(fileEnding) ? name.slice(0, -fileEnding.length) : name;

/** The name of a fixed secret. */
export interface FixedName {
  /** `host/web1`, `group/db`. */
  readonly scope: string;
  /** Segments joined by `/`. */
  readonly path: string;
}

/** The most bytes in a segment of a path: a file system's 255, less room for the ending and temporary names. */
export const longestSegment = 200;

/** Why `path` can't be a path inside a scope; undefined if it can. */
export function pathProblem(path: string): string | undefined {
  if (path === '') return 'a name is missing';
  if (!path.isWellFormed() || path !== path.normalize('NFC')) return 'it is not Unicode in normal form C';
  if (!isPlain(path) && /\p{Cc}|\p{Zl}|\p{Zp}/u.test(path)) return 'it has a control character';
  for (const segment of path.split('/')) {
    if (segment === '') return 'it begins or ends with a slash, or has two in a row';
    if (segment.startsWith('.')) return 'a part of it begins with a dot';
    if (/\.sealed$/iu.test(segment)) return 'a part of it ends in .sealed, as the files themselves do';
    if (Buffer.byteLength(segment) > longestSegment)
      return `a part of it has more than ${String(longestSegment)} bytes`;
  }
  return undefined;
}

/** Returns `path` if it can be a path inside a scope. @throws Failure `usage` if it can't */
export function checkedPath(path: string): string {
  const problem = pathProblem(path);
  if (problem !== undefined)
    throw new Failure('usage', `${JSON.stringify(path)} can't be the name of a secret: ${problem}`, {
      hint: 'host/web1/wifi, group/db/api/token',
    });
  return path;
}

/** Splits a name such as `host/web1/wifi`; undefined for text without a scope and a path. Does not check the path. */
export function splitName(text: string): FixedName | undefined {
  const [kind = '', name = '', ...path] = text.split('/');
  if ((kind !== 'host' && kind !== 'group') || !scopeNamePattern.test(name) || path.length === 0) return undefined;
  return { scope: `${kind}/${name}`, path: path.join('/') };
}

/** Joins a name: `host/web1/wifi`. */
export const nameText = ({ scope, path }: FixedName): string => `${scope}/${path}`;
