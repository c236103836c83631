/**
 * What arrived at a target: all of it is checked before anything is written, and then written in a crash-safe order.
 */

import { existsSync, lstatSync, mkdirSync, rmSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { hex } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { digestOf, readHeader } from '../fixed/file.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { type FixedName, nameText, pathProblem, splitName } from '../fixed/name.ts';
import { filesIn, type ManifestFile } from '../manifest/folder.ts';
import { type Manifest, manifestOf } from '../manifest/manifest.ts';
import { withoutSeed } from '../manifest/recipes.ts';
import { activeSnapshot } from '../provision/active-snapshot.ts';
import { withMachineProblems } from '../provision/machine-problems.ts';
import type { ReleaseChange } from '../provision/plan.ts';
import { dryRun } from '../provision/provision.ts';
import { type Pins, pinsOf } from '../seeds/pins.ts';
import { type Scope, scopeSeedsOf } from '../seeds/scope.ts';
import { configurationOf } from '../system/configuration.ts';
import { readIfPresent, replaceFile, syncFolder } from '../system/files.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { counted } from '../terminal/say.ts';
import { sequenceIn } from './offer.ts';
import type { OwnSeeds } from './own-seeds.ts';
import type { Arrived, Request } from './protocol.ts';
import { isPushed, type Pushed, type PushedFiles, readPushed, writePushed } from './pushed.ts';
import { listed, refuseConflict, refuseOlderFile, refuseOwn } from './refusals.ts';

/** The fixed folder as it will be. */
class FutureFolder extends FixedFolder {
  readonly #arrived: ReadonlyMap<string, Uint8Array>;
  readonly #removed: ReadonlySet<string>;

  constructor(path: string, arrived: ReadonlyMap<string, Uint8Array>, removed: readonly string[]) {
    super(path);
    this.#arrived = arrived;
    this.#removed = new Set(removed);
  }

  override read(name: FixedName): Uint8Array | undefined {
    const text = nameText(name);
    return this.#removed.has(text) ? undefined : (this.#arrived.get(text) ?? super.read(name));
  }
}

/** The context in which an arrival is judged. */
export interface Standards {
  /**
   * The seeds as they will be; undefined if they were withheld, as in a dry run for a host that is not enrolled, or are
   * locked until the next boot.
   */
  readonly scopes: readonly Scope[] | undefined;
  /** The seeds that are there and can't be opened; undefined if they can, or are not known. */
  readonly locked?: Pins['scopes'] | undefined;
  readonly pushed: Pushed;
  /** The seeds that those replace; undefined if the machine keeps its own. */
  readonly own: OwnSeeds | undefined;
}

/** An arrival that passed all checks. */
export interface Judged {
  /** The state as it will be. */
  readonly manifest: Manifest;
  /** The changes for units; unknown without seeds. */
  readonly changes: readonly ReleaseChange[];
}

/**
 * Judges everything that a push would do here, as a whole and before anything is written: names, fixed files (each is
 * opened under its name), the manifest as it will be, and whether everything it asks for will be there. Changes
 * nothing.
 * @throws Failure
 */
export function judge(root: string, request: Request, files: Arrived, standards: Standards): Judged {
  const { scopes, locked, pushed, own } = standards;
  const paths = pathsUnder(root);
  const folder = new FutureFolder(paths.fixed, files.fixed, request.removeFixed);
  refuseRendered(paths, request, files);
  refuseUnfit(paths, request, files);
  refuseByHand(paths, request, files, pushed);
  judgeFixed(folder, request, files, scopes);
  if (scopes && own && !request.replace) refuseLost(paths, request, files, { scopes, own });

  const manifest = withMachineProblems(root, manifestOf(futureManifest(root, files.manifest, request.removeManifest)));
  refuseBroken(manifest);
  if (locked) refuseMissing(folder, manifest, locked);
  if (!scopes) return { manifest, changes: [] };
  const { changes } = dryRun(paths, manifest.declarations, scopes, {
    at: new Date(),
    counter: activeSnapshot(paths, scopes)?.counter ?? 0,
    acceptEarlier: false,
    acceptOlder: request.acceptOlder,
    folder,
  });
  return { manifest, changes };
}

/** @throws Failure `refused` for manifest files on a machine whose configuration renders them */
function refuseRendered(paths: Paths, { removeManifest }: Request, { manifest }: Arrived): void {
  const configuration = configurationOf(paths);
  if (configuration === undefined || manifest.size + removeManifest.length === 0) return;
  throw new Failure('refused', "this machine's configuration renders its manifest", {
    hint: `push without --manifest, and change the configuration: ${configuration.switch}`,
  });
}

/** @throws Failure `invalid-manifest` that counts the errors and names the first */
function refuseBroken({ problems }: Manifest): void {
  const broken = problems.filter(({ severity }) => severity === 'error');
  const [first] = broken;
  if (!first) return;
  const { file, line, message, hint } = first;
  const place = `${file}${line === undefined ? '' : `:${String(line)}`}`;
  const text = `the manifest would have ${counted(broken.length, 'error')}; ${place}: ${message}`;
  throw new Failure('invalid-manifest', text, hint === undefined ? {} : { hint });
}

/**
 * @throws Failure `malformed` for a file that is damaged, or does not open under its name, `older` for one that is older
 * than the present one
 */
function judgeFixed(
  folder: FixedFolder,
  { acceptOlder }: Request,
  { fixed }: Arrived,
  scopes: readonly Scope[] | undefined,
): void {
  const seedOf = scopes && scopeSeedsOf(scopes);
  const now = new FixedFolder(folder.path);
  for (const [text, bytes] of fixed) {
    const name = fixedName(text);
    if (seedOf) folder.open(name, seedOf).value.fill(0);
    const there = now.read(name);
    if (there && !acceptOlder) refuseOlderFile(text, sequenceIn(name, there), readHeader(name, bytes).sequence);
  }
}

/**
 * Judges, without the seeds, whether what a manifest asks for is there.
 * @throws Failure `not-found` if a file, or the seed of its group, is not there; `malformed` for one of another seed
 */
function refuseMissing(folder: FixedFolder, { declarations }: Manifest, pins: Pins['scopes']): void {
  const [host = ''] = [...pins.keys()].filter((name) => name.startsWith('host/'));
  for (const { name, content } of declarations) {
    if (content.form !== 'fixed' && content.form !== 'derived') continue;
    const scope = content.share === undefined ? host : `group/${content.share}`;
    const pin = pins.get(scope);
    if (!pin) throw withoutSeed(name, scope);
    if (content.form !== 'fixed') continue;
    const file: FixedName = { scope, path: content.path };
    const bytes = folder.read(file);
    if (!bytes)
      throw new Failure('not-found', `${name} needs ${nameText(file)}, which is not there`, {
        hint: `auxcred put ${nameText(file)} in the vault, and push again`,
      });
    if (Buffer.compare(readHeader(file, bytes).keyId, pin.keyId) !== 0)
      throw new Failure('malformed', `${nameText(file)} is not encrypted for the seed that is there`, {
        hint: `auxcred rekey ${scope}`,
      });
  }
}

/**
 * @throws Failure `refused` if names in the fixed folder would conflict, or if something else is in a file's way,
 * whatever the options
 */
function refuseUnfit(paths: Paths, { removeFixed, removeManifest }: Request, files: Arrived): void {
  const { fixed } = paths;
  const folder = new FixedFolder(fixed);
  const removed = new Set(removeFixed);
  const stay = folder
    .list()
    .names.map(nameText)
    .filter((name) => !removed.has(name) && !files.fixed.has(name));
  refuseConflict('the machine itself', stay, [...files.fixed.keys()]);
  for (const parent of new Set([...files.fixed.keys()].flatMap(parentsOf))) {
    const path = join(fixed, parent);
    if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === false) throw inTheWay(path, 'folder');
  }
  for (const text of files.fixed.keys()) {
    const path = folder.fileOf(fixedName(text));
    if (lstatSync(path, { throwIfNoEntry: false })?.isFile() === false) throw inTheWay(path, 'file');
  }
  for (const name of [...files.manifest.keys(), ...removeManifest]) {
    const path = manifestFile(paths, name);
    // A link, such as to /dev/null, can be replaced.
    if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true) throw inTheWay(path, 'file');
  }
}

/** `host`, `host/web1`, `host/web1/api` for `host/web1/api/token`. */
const parentsOf = (text: string): string[] =>
  text
    .split('/')
    .slice(0, -1)
    .map((_, i, segments) => segments.slice(0, i + 1).join('/'));

const inTheWay = (path: string, what: string): Failure =>
  new Failure('refused', `${path} is in the way: it is not a ${what}`, { hint: 'move it away there' });

/**
 * A push removes only what a push brought, and without `replace` also overwrites nothing else.
 * @throws Failure `refused` for files that were put or edited on the machine itself
 */
function refuseByHand(
  paths: Paths,
  { removeFixed, removeManifest, replace }: Request,
  files: Arrived,
  pushed: Pushed,
): void {
  const folder = new FixedFolder(paths.fixed);
  const fixed = byHand([...removeFixed, ...(replace ? [] : files.fixed.keys())], files.fixed, pushed.fixed, (name) =>
    folder.read(fixedName(name)),
  );
  const manifest = byHand(
    [...removeManifest, ...(replace ? [] : files.manifest.keys())],
    files.manifest,
    pushed.manifest,
    (name) => manifestBytes(paths, name),
  );
  refuseOwn('the machine itself', [...fixed, ...manifest.map((name) => manifestFile(pathsUnder('/'), name))]);
}

/** The names of files that no push brought and that differ from what comes now. */
const byHand = (
  names: readonly string[],
  arrived: ReadonlyMap<string, Uint8Array>,
  pushed: PushedFiles,
  read: (name: string) => Uint8Array | undefined,
): string[] =>
  names.filter((name) => {
    const [there, comes] = [read(name), arrived.get(name)];
    return there !== undefined && !isPushed(pushed, name, there) && !(comes && Buffer.compare(comes, there) === 0);
  });

/** A link, such as to /dev/null, was made by hand: whatever its target, its bytes are not a push's. */
function manifestBytes(paths: Paths, name: string): Uint8Array | undefined {
  const path = manifestFile(paths, name);
  return lstatSync(path, { throwIfNoEntry: false })?.isFile() === false ? new Uint8Array(0) : readIfPresent(path);
}

/**
 * Refuses to lose fixed secrets that were put on the machine itself: they are encrypted under its own seeds, which a
 * push would replace.
 * @throws Failure `refused`
 */
function refuseLost(
  { fixed }: Paths,
  { removeFixed }: Request,
  files: Arrived,
  { scopes, own: { pins, store } }: { readonly scopes: readonly Scope[]; readonly own: OwnSeeds },
): void {
  const coming = new Map([...pinsOf(scopes, undefined).scopes].map(([name, pin]) => [name, hex(pin.keyId)]));
  const held = new Set(
    [pins?.scopes, pins?.next, store?.pins].flatMap((known) =>
      [...(known?.values() ?? [])].map((pin) => hex(pin.keyId)),
    ),
  );
  const folder = new FixedFolder(fixed);
  const leaves = new Set([...files.fixed.keys(), ...removeFixed]);
  const lost = folder.list().names.filter((name) => {
    const id = leaves.has(nameText(name)) ? undefined : keyIdIn(name, folder.read(name));
    return id !== undefined && id !== coming.get(name.scope) && (held.size === 0 || held.has(id));
  });
  if (lost.length === 0) return;
  throw new Failure(
    'refused',
    `${listed(lost.map(nameText))} could no longer be opened, since this push replaces the seed under which ` +
      `${lost.length === 1 ? 'it was' : 'they were'} put on the machine itself`,
    {
      hint: 'read it there with auxcred get, and put what is still needed into the vault; push --replace gives it up',
    },
  );
}

/**
 * The key id (hexadecimal) of the seed that a file is encrypted under; undefined for a damaged file, which is already
 * lost.
 */
function keyIdIn(name: FixedName, bytes: Uint8Array | undefined): string | undefined {
  try {
    return bytes && hex(readHeader(name, bytes).keyId);
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}

function fixedName(text: string): FixedName {
  const name = splitName(text);
  if (!name) throw new Failure('malformed', `${text} is not the name of a fixed secret`);
  return name;
}

const manifestFile = ({ manifestFolders: [folder = ''] }: Paths, name: string): string => join(folder, name);

/** The manifest files that will be active, in their order of precedence. */
function futureManifest(
  root: string,
  arrived: ReadonlyMap<string, Uint8Array>,
  removed: readonly string[],
): ManifestFile[] {
  const [own = '', ...weaker] = pathsUnder('/').manifestFolders;
  const nameOf = ({ path }: ManifestFile): string => path.slice(path.lastIndexOf('/') + 1);
  const stay = filesIn([own], root).filter((file) => !arrived.has(nameOf(file)) && !removed.includes(nameOf(file)));
  const come = [...arrived].map(
    ([name, bytes]): ManifestFile => ({ path: join(own, name), text: new TextDecoder().decode(bytes) }),
  );
  const strongest = [...stay, ...come].sort((a, b) => Buffer.compare(Buffer.from(nameOf(a)), Buffer.from(nameOf(b))));
  const hidden = new Set(strongest.map(nameOf));
  return [...strongest, ...filesIn(weaker, root).filter((file) => !hidden.has(nameOf(file)))];
}

/** The record while a push is under way: what it brings, and what is still there. */
export function begun(pushed: Pushed, { fixed, manifest }: Arrived): Pushed {
  const withArrived = (before: PushedFiles, arrived: ReadonlyMap<string, Uint8Array>): PushedFiles =>
    new Map([
      ...before,
      ...[...arrived].map(([name, bytes]): [string, string[]] => [
        name,
        [...new Set([...(before.get(name) ?? []), digestOf(bytes)])],
      ]),
    ]);
  return {
    fixed: withArrived(pushed.fixed, fixed),
    manifest: withArrived(pushed.manifest, manifest),
    unfinished: true,
  };
}

/**
 * The record of a finished push: the present state of each file, whether this push brought it or an interrupted one.
 */
export function finished(paths: Paths, pushed: Pushed): Pushed {
  const folder = new FixedFolder(paths.fixed);
  const present = (files: PushedFiles, read: (name: string) => Uint8Array | undefined): PushedFiles =>
    new Map(
      [...files].flatMap(([name, digests]): [string, string[]][] => {
        const bytes = read(name);
        return bytes && isPushed(files, name, bytes)
          ? [[name, digests.filter((digest) => digest === digestOf(bytes))]]
          : [];
      }),
    );
  return {
    fixed: present(pushed.fixed, (name) => {
      const known = splitName(name);
      return known && pathProblem(known.path) === undefined ? folder.read(known) : undefined;
    }),
    manifest: present(pushed.manifest, (name) => manifestBytes(paths, name)),
    unfinished: false,
  };
}

/**
 * Records that a push whose files waited for this boot is finished, now that the boot activated them. A push that was
 * begun since the boot stays unfinished: units may still run with what they had before it. The record keeps the time of
 * the push.
 */
export function finishAtBoot(paths: Paths): void {
  const pushed = readPushed(paths);
  if (!pushed.unfinished || existsSync(paths.begun)) return;
  const { atime, mtime } = lstatSync(paths.pushed);
  writePushed(paths, finished(paths, pushed));
  utimesSync(paths.pushed, atime, mtime);
}

/**
 * Writes what was judged. At any moment each file is either the old one or the new one; this does not change what is
 * active.
 */
export function writeFiles(paths: Paths, { removeFixed, removeManifest }: Request, files: Arrived): void {
  const folder = new FixedFolder(paths.fixed);
  // Removed first: a removed name may differ from a new one only in case.
  for (const name of removeFixed) if (folder.read(fixedName(name))) folder.remove(fixedName(name));
  for (const [name, bytes] of files.fixed) folder.place(fixedName(name), bytes);
  const [manifests = ''] = paths.manifestFolders;
  if (files.manifest.size > 0) mkdirSync(manifests, { recursive: true, mode: 0o755 });
  for (const [name, bytes] of files.manifest) replaceFile(manifestFile(paths, name), bytes, { mode: 0o644 });
  for (const name of removeManifest) rmSync(manifestFile(paths, name), { force: true });
  if (removeManifest.length > 0) syncFolder(manifests);
}
