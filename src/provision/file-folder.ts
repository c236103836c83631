/**
 * `delivery = "file"`: secrets in /run/auxcred/files, in memory that is never swapped out, each with an owner, a group,
 * a mode and optionally a symbolic link to it. The active snapshot decides which files belong there; a file that is
 * right is not touched.
 */
import { lstatSync, readdirSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { sameBytes, utf8 } from '../bytes.ts';
import { recipeValue, type Sources } from '../derive/value.ts';
import { Failure, messageOf } from '../failure.ts';
import { credentialsOf, type Placement, type Problem, type SecretDeclaration } from '../manifest/declaration.ts';
import type { Release } from '../snapshot/snapshot.ts';
import { configurationOf } from '../system/configuration.ts';
import {
  type Access,
  groupId,
  linkTarget,
  readIfPresent,
  replaceFile,
  replaceIfChanged,
  userId,
} from '../system/files.ts';
import { HeldFolder, objectionTo } from '../system/held-folder.ts';
import { canonicalJson, Json } from '../system/json.ts';
import { isMounted, mountMemoryFolder } from '../system/memory-folder.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { secretProblem } from './secret-problem.ts';

/** One file and every unit that gets it. */
interface WantedFile {
  readonly id: string;
  readonly placement: Placement;
  readonly releases: readonly [Release, ...Release[]];
}

/** What {@link writeFiles} did. */
export interface WrittenFiles {
  /** Releases whose file was missing or had another value. */
  readonly written: readonly Release[];
  /** Releases whose file could not be written, and why. */
  readonly failed: ReadonlyMap<Release, string>;
}

function wantedFiles(releases: readonly Release[]): WantedFile[] {
  const files = new Map<string, WantedFile>();
  for (const release of releases) {
    if (!release.placement) continue;
    const known = files.get(release.credential);
    files.set(release.credential, {
      id: release.credential,
      placement: release.placement,
      releases: known ? [...known.releases, release] : [release],
    });
  }
  return [...files.values()];
}

/**
 * Writes the files of the active `releases`, and removes all others.
 * @param need - `users` for only the files that are needed before users are created; then nothing is removed
 */
export function writeFiles(
  paths: Paths,
  releases: readonly Release[],
  sources: Sources,
  need: 'all' | 'users',
): WrittenFiles {
  const wanted = wantedFiles(releases).filter(({ placement }) => need === 'all' || placement.neededFor === 'users');
  const written: Release[] = [];
  const failed = new Map<Release, string>();
  const list = readIfPresent(paths.fileLinks);
  if (wanted.length === 0 && !isMounted(paths.files) && !list) return { written, failed };
  if (wanted.length > 0) mountMemoryFolder(paths.files);
  const links = new Set(wanted.flatMap(({ placement }) => placement.link ?? []));
  const known = linksIn(list);
  // Recorded before the links are made, so that one that is no longer declared is always found.
  recordLinks(paths, new Set([...known, ...links]));
  for (const file of wanted) {
    try {
      if (writeFile(paths, file, sources)) written.push(...file.releases);
      if (file.placement.link !== undefined) makeLink(paths, file.placement.link, file.id, ownerOf(file.placement));
    } catch (error) {
      for (const release of file.releases) failed.set(release, messageOf(error));
    }
  }
  if (need === 'all') {
    removeOthers(paths, new Set(wanted.map(({ id }) => id)));
    const left = known.filter((link) => !links.has(link) && !removeLink(paths, link));
    recordLinks(paths, new Set([...links, ...left]));
  }
  return { written, failed };
}

/** Those of `releases` whose file is missing or has another value, which the next {@link writeFiles} will write. */
export function staleFiles(paths: Paths, releases: readonly Release[], sources: Sources): Release[] {
  return wantedFiles(releases)
    .filter((file) => !isMounted(paths.files) || !holdsValue(paths, file, sources))
    .flatMap((file) => file.releases);
}

function holdsValue(paths: Paths, { id, releases: [{ recipe }] }: WantedFile, sources: Sources): boolean {
  const old = readIfPresent(join(paths.files, id));
  if (!old) return false;
  try {
    const value = recipeValue(recipe, sources);
    const same = sameBytes(old, value);
    value.fill(0);
    return same;
  } catch (error) {
    // Its right value is unknown.
    if (error instanceof Failure) return false;
    throw error;
  } finally {
    old.fill(0);
  }
}

/** Writes one file, unless it is right. @returns whether its value changed */
function writeFile(paths: Paths, { id, placement, releases: [{ recipe }] }: WantedFile, sources: Sources): boolean {
  const path = join(paths.files, id);
  const access = { mode: placement.mode, owner: ownerOf(placement), group: idOf(placement.group, groupId, 'group') };
  const value = recipeValue(recipe, sources);
  let old: Uint8Array | undefined;
  try {
    old = readIfPresent(path);
    const isSame = sameBytes(old, value);
    if (!isSame || !hasAccess(path, access)) replaceFile(path, value, access);
    return !isSame;
  } finally {
    value.fill(0);
    old?.fill(0);
  }
}

function hasAccess(path: string, { mode, owner, group }: Access): boolean {
  const stat = statSync(path);
  return (stat.mode & 0o7777) === mode && stat.uid === owner && stat.gid === group;
}

type LookUp = (root: string, name: string) => number | undefined;

/** The id of a user or group, given as its number or its name. */
const numericId = (root: string, text: string, lookUp: LookUp): number | undefined =>
  /^\d+$/.test(text) ? Number(text) : lookUp(root, text);

/** The id of a file's owner; undefined if there is no such user at `root`. */
export const ownerId = (root: string, { owner }: Placement): number | undefined => numericId(root, owner, userId);

/** The id of a user or group of this machine. @throws Failure `not-found` */
function idOf(name: string, lookUp: LookUp, what: string): number {
  const id = numericId('/', name, lookUp);
  if (id === undefined)
    throw new Failure('not-found', `there is no ${what} ${name}`, {
      hint: 'use its number, or needed-for = "units", which is later',
    });
  return id;
}

const ownerOf = ({ owner }: Placement): number => idOf(owner, userId, 'user');

const leadsToFiles = (paths: Paths, target: string | undefined): boolean =>
  target?.startsWith(`${paths.files}/`) === true;

/**
 * Makes the link to a file.
 * @throws Failure `refused` if something else is in the way, or if others than root and the owner can change a folder
 * of the path
 */
function makeLink(paths: Paths, link: string, id: string, owner: number): void {
  const target = join(paths.files, id);
  HeldFolder.within(paths.root, dirname(link), { owner, missing: 'make' }, (folder) => {
    const there = folder.link(basename(link));
    if (there?.target === target) return;
    if (there && !leadsToFiles(paths, there.target))
      throw new Failure('refused', `${link} exists, and is not a link to auxcred's files`, { hint: 'move it away' });
    folder.replaceLink(basename(link), target);
  });
}

/**
 * Removes a link that is no longer declared.
 * @returns whether it is gone; one that can't be reached safely stays, and `auxcred doctor` names it
 */
function removeLink(paths: Paths, link: string): boolean {
  try {
    HeldFolder.within(paths.root, dirname(link), { missing: 'leave' }, (folder) => {
      if (leadsToFiles(paths, folder.link(basename(link))?.target)) folder.remove(basename(link));
    });
    return true;
  } catch (error) {
    if (error instanceof Failure || (error instanceof Error && 'syscall' in error)) return false;
    throw error;
  }
}

/** Removes files that are no longer declared, and what a killed run left half written. */
function removeOthers(paths: Paths, ids: ReadonlySet<string>): void {
  if (!isMounted(paths.files)) return;
  for (const name of readdirSync(paths.files)) if (!ids.has(name)) rmSync(join(paths.files, name), { recursive: true });
}

/** The links on the list. The list is not trusted: only links into our own folder are ever removed. */
export function linksIn(list: Uint8Array | undefined): string[] {
  try {
    return list
      ? Json.parse(list, 'links.json', 'rm links.json')
          .list()
          .map((item) => item.text())
      : [];
  } catch (error) {
    if (error instanceof Failure && error.code === 'malformed') return [];
    throw error;
  }
}

function recordLinks(paths: Paths, links: ReadonlySet<string>): void {
  if (links.size === 0) rmSync(paths.fileLinks, { force: true });
  else replaceIfChanged(paths.fileLinks, utf8(`${canonicalJson([...links].sort())}\n`), { mode: 0o600 });
}

/** Problems of the declared files on the machine at `root`: unknown owners, and links whose paths are taken. */
export function fileProblems(root: string, declarations: readonly SecretDeclaration[]): Problem[] {
  return declarations.flatMap((declaration): Problem[] => {
    const { credential, content, placement } = declaration;
    if (!placement) return [];
    const problem: Complain = (key, message, hint, severity = 'error') =>
      secretProblem(declaration, key, { severity, message, hint });
    const ids = credentialsOf({ credential, content }).map(({ id }) => id.slice(credential.length));
    return [
      ...lateProblems(root, placement, problem),
      ...ownerProblems(root, placement, problem),
      ...linkProblems(root, placement, ids, problem),
    ];
  });
}

/** A problem of one secret, at one of its keys. */
type Complain = (key: string, message: string, hint: string, severity?: Problem['severity']) => Problem;

/**
 * Local file systems are mounted after local-fs-pre.target, that is after systemd-tmpfiles-setup-dev.service, and that
 * is after systemd-sysusers.service. So what is needed before users are created can't wait for a store on one of them.
 */
function lateProblems(root: string, { neededFor }: Placement, problem: Complain): Problem[] {
  if (neededFor !== 'users' || !isOnItsOwnDisk(root)) return [];
  const message =
    'the store is on a file system of its own, which systemd mounts after users are created: unless the initrd mounts it, ' +
    'a boot drops systemd-sysusers.service or another unit of that ordering cycle';
  return [problem('needed-for', message, 'needed-for = "units", or x-initrd.mount in fstab', 'warning')];
}

/**
 * An owner may still be created, at the first boot after an installation or in a configuration's switch, unless the
 * file is needed before users are created.
 */
function ownerProblems(root: string, placement: Placement, problem: Complain): Problem[] {
  const kinds = [
    ['owner', userId, 'user'],
    ['group', groupId, 'group'],
  ] as const;
  const hint =
    placement.neededFor === 'users'
      ? 'a number, or root: it is written before users are created'
      : 'create it first, or give its number';
  return kinds.flatMap(([key, lookUp, what]) => {
    const text = placement[key];
    const isMadeLater = !systemIsRunning(root) || configurationOf(pathsUnder(root)) !== undefined;
    const mayComeLater = placement.neededFor === 'units' && isMadeLater;
    if (mayComeLater || numericId(root, text, lookUp) !== undefined) return [];
    return [problem(key, `there is no ${what} ${text} on this machine`, hint)];
  });
}

/** @param endings - the suffix of the link's name for each of the secret's credentials */
function linkProblems(root: string, placement: Placement, endings: readonly string[], problem: Complain): Problem[] {
  const { link } = placement;
  if (link === undefined) return [];
  const objection = objectionTo(root, dirname(link), { owner: ownerId(root, placement) });
  if (objection) return [problem('link', objection.message, objection.hint)];
  const machines = [pathsUnder(root), pathsUnder('/')];
  const isTaken = (path: string): boolean => {
    const at = join(root, path);
    const isThere = lstatSync(at, { throwIfNoEntry: false }) !== undefined;
    return isThere && !machines.some((paths) => leadsToFiles(paths, linkTarget(at)));
  };
  const taken = endings.map((ending) => `${link}${ending}`).filter(isTaken);
  return taken.map((path) =>
    problem('link', `${path} exists, and is not a link to auxcred's files`, 'move it away, or another link = "..."'),
  );
}

function isOnItsOwnDisk(root: string): boolean {
  let path = pathsUnder(root).store;
  while (!statSync(path, { throwIfNoEntry: false })) path = dirname(path);
  return statSync(path).dev !== statSync(root).dev;
}
