/** What arrived at a target: all of it is looked at before anything is written, and then written in an order that a crash can't hurt. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { withMachineProblems } from '../deliver/machine-problems.ts';
import { planned, snapshotInForce } from '../deliver/provision.ts';
import { keyId } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { digestOf, readHeader } from '../fixed/file.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { type FixedName, nameText, splitName } from '../fixed/name.ts';
import { filesIn, type ManifestFile } from '../manifest/folder.ts';
import { type Manifest, manifestOf } from '../manifest/manifest.ts';
import type { Pins } from '../store/pins.ts';
import { scopeName, type Scope, scopeSeedsOf } from '../store/scope.ts';
import { readIfPresent, replaceFile, syncFolder } from '../system/files.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { refuseOlderFile } from './difference.ts';
import { sequenceIn } from './offer.ts';
import type { AnnouncedSeeds, Arrived, Request } from './protocol.ts';
import type { Pushed } from './pushed.ts';

/** The fixed folder as it will be. */
class FutureFolder extends FixedFolder {
  readonly #arrived: ReadonlyMap<string, Uint8Array>;
  readonly #removed: readonly string[];

  constructor(path: string, arrived: ReadonlyMap<string, Uint8Array>, removed: readonly string[]) {
    super(path);
    this.#arrived = arrived;
    this.#removed = removed;
  }

  override read(name: FixedName): Uint8Array | undefined {
    const text = nameText(name);
    return this.#removed.includes(text) ? undefined : this.#arrived.get(text) ?? super.read(name);
  }
}

/**
 * Seeds are taken from an operator for the host and the scopes that this machine is pinned to, and where it has others of the same names the operator has to know those.
 * @throws Failure `not-pinned` for another host's, `refused` for those of another vault
 */
export function checkSeeds(scopes: readonly Scope[], pins: Pins | undefined, { replaces }: AnnouncedSeeds, replace: boolean): void {
  const names = scopes.map(scopeName);
  const hosts = names.filter((name) => name.startsWith('host/'));
  if (hosts.length !== 1 || new Set(names).size !== names.length) throw new Failure('malformed', 'the seeds are not those of one host and its groups', { hint: 'auxcred of the same version on both machines' });
  const own = [...pins?.scopes.keys() ?? []].find((name) => name.startsWith('host/'));
  if (own !== undefined && own !== hosts[0]) throw new Failure('not-pinned', `this machine is ${own}, and takes no seeds of ${hosts.join()}`, { hint: 'auxcred seal --replace makes it another one, on the machine itself' });
  for (const [name, pin] of pins?.scopes ?? []) {
    const comes = scopes.find((scope) => scopeName(scope) === name);
    const known = [comes && keyId(comes.seed), replaces.get(name)].filter((id) => id !== undefined);
    if (replace || known.some((id) => Buffer.compare(id, pin.keyId) === 0)) continue;
    throw new Failure('refused', `the seed of ${name} here is not one that the operator knows`, { hint: 'auxcred push --replace, if it is to be another one' });
  }
}

/**
 * Opens every fixed file under its name, reads the manifest as it will be, and looks whether all that it asks for will be there.
 * @returns the manifest as it will be
 * @throws Failure
 */
export function checkFiles(root: string, request: Request, files: Arrived, scopes: readonly Scope[], pushed: Pushed): Manifest {
  const paths = pathsUnder(root);
  const folder = new FutureFolder(paths.fixed, files.fixed, request.removeFixed);
  const seedOf = scopeSeedsOf(scopes);
  const now = new FixedFolder(paths.fixed);
  for (const [text, bytes] of files.fixed) {
    const name = fixedName(text);
    folder.open(name, seedOf).value.fill(0);
    now.refuseLookalike(name);
    const there = now.read(name);
    if (there && !request.acceptOlder) refuseOlderFile(text, sequenceIn(name, there), readHeader(name, bytes).sequence);
  }
  const strange = request.removeFixed.find((name) => !pushed.fixed.has(name));
  if (strange !== undefined) throw new Failure('refused', `${strange} was not brought by a push, so none takes it away`, { hint: `auxcred rm ${strange}, on the machine itself` });
  for (const name of [...files.manifest.keys(), ...request.removeManifest]) if (!request.replace) refuseByHand(paths, name, files.manifest.get(name), pushed);

  const manifest = withMachineProblems(root, manifestOf(futureManifest(root, files.manifest, request.removeManifest)));
  const broken = manifest.problems.filter(({ severity }) => severity === 'error');
  const [first] = broken;
  if (first) throw new Failure('invalid-manifest', `the manifest would have ${String(broken.length)} ${broken.length === 1 ? 'error' : 'errors'}; ${first.file}${first.line === undefined ? '' : `:${String(first.line)}`}: ${first.message}`, first.hint === undefined ? {} : { hint: first.hint });
  planned(paths, manifest.declarations, scopes, { at: new Date(), counter: snapshotInForce(paths, scopes)?.counter ?? 0, acceptEarlier: false, acceptOlder: request.acceptOlder, folder });
  return manifest;
}

function fixedName(text: string): FixedName {
  const name = splitName(text);
  if (!name) throw new Failure('malformed', `${text} is not the name of a fixed secret`);
  return name;
}

const manifestFile = ({ manifestFolders: [folder = ''] }: Paths, name: string): string => join(folder, name);

/** @throws Failure `refused` for a manifest file that no push wrote, or that was edited since */
function refuseByHand(paths: Paths, name: string, comes: Uint8Array | undefined, pushed: Pushed): void {
  const there = readIfPresent(manifestFile(paths, name));
  if (!there || pushed.manifest.get(name)?.includes(digestOf(there)) === true || (comes && Buffer.compare(comes, there) === 0)) return;
  throw new Failure('refused', `${manifestFile(pathsUnder('/'), name)} was written or edited on the machine itself`, { hint: '--replace, if the vault\'s is to take its place' });
}

/** The manifest files that will be in force, in the order of theirs. */
function futureManifest(root: string, arrived: ReadonlyMap<string, Uint8Array>, removed: readonly string[]): ManifestFile[] {
  const [own = '', ...weaker] = pathsUnder('/').manifestFolders;
  const nameOf = ({ path }: ManifestFile): string => path.slice(path.lastIndexOf('/') + 1);
  const stay = filesIn([own], root).filter((file) => !arrived.has(nameOf(file)) && !removed.includes(nameOf(file)));
  const come = [...arrived].map(([name, bytes]): ManifestFile => ({ path: join(own, name), text: new TextDecoder().decode(bytes) }));
  const strongest = [...stay, ...come].sort((a, b) => Buffer.compare(Buffer.from(nameOf(a)), Buffer.from(nameOf(b))));
  const hidden = new Set(strongest.map(nameOf));
  return [...strongest, ...filesIn(weaker, root).filter((file) => !hidden.has(nameOf(file)))];
}

/** The record while a push is under way: what it brings, beside what is still there. */
export function begun(pushed: Pushed, { fixed, manifest }: Arrived): Pushed {
  const digests = new Map(pushed.manifest);
  for (const [name, bytes] of manifest) digests.set(name, [...new Set([...pushed.manifest.get(name) ?? [], digestOf(bytes)])]);
  return { fixed: new Set([...pushed.fixed, ...fixed.keys()]), manifest: digests, unfinished: true };
}

/** The record of a push that came to its end. */
export function finished(pushed: Pushed, { removeFixed, removeManifest }: Request): Pushed {
  return {
    fixed: new Set([...pushed.fixed].filter((name) => !removeFixed.includes(name))), unfinished: false,
    manifest: new Map([...pushed.manifest].filter(([name]) => !removeManifest.includes(name)).map(([name, digests]) => [name, digests.slice(-1)])),
  };
}

/** Writes what was checked. Each file is the old one or the new one at any moment; the snapshot in force is another matter. */
export function writeFiles(paths: Paths, { removeFixed, removeManifest }: Request, files: Arrived): void {
  const folder = new FixedFolder(paths.fixed);
  for (const [name, bytes] of files.fixed) folder.place(fixedName(name), bytes);
  for (const name of removeFixed) if (folder.read(fixedName(name))) folder.remove(fixedName(name));
  const [manifests = ''] = paths.manifestFolders;
  if (files.manifest.size > 0) mkdirSync(manifests, { recursive: true, mode: 0o755 });
  for (const [name, bytes] of files.manifest) replaceFile(manifestFile(paths, name), bytes, { mode: 0o644 });
  for (const name of removeManifest) rmSync(manifestFile(paths, name), { force: true });
  if (removeManifest.length > 0) syncFolder(manifests);
}
