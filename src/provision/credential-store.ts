/**
 * `delivery = "credstore"`: secrets that systemd-creds has encrypted to this machine, in /etc/credstore.encrypted, so
 * that units get them without any auxcred process. The active snapshot decides which files belong there; a record with
 * the SHA-256 of each file says which are there.
 *
 * The record is written before the files: after a kill at any point, the next run finds a file that does not match its
 * record and makes it again.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { recipeText } from '../derive/recipe.ts';
import { recipeValue, type Sources } from '../derive/value.ts';
import { isStagedName, stagedName } from '../drop-ins/drop-in.ts';
import { Failure } from '../failure.ts';
import { anyUnit, credentialsOf, receiversOf, type SecretDeclaration } from '../manifest/declaration.ts';
import { credsLockOf, type Sealing } from '../seeds/payload.ts';
import type { Scope } from '../seeds/scope.ts';
import { authenticated, unverified, verified } from '../snapshot/authenticated.ts';
import { type Release, releaseKey } from '../snapshot/snapshot.ts';
import type { CredsLock } from '../system/creds-lock.ts';
import { ensureFolder, readIfPresent, removeLeftovers, replaceFile, syncFolder } from '../system/files.ts';
import { canonicalJson, type Json } from '../system/json.ts';
import { inParallel } from '../system/parallel.ts';
import type { Paths } from '../system/paths.ts';
import { decryptCredential, encryptCredential } from '../system/systemd-creds.ts';

/**
 * The name of a credential's file. A unit's own credential has the unit in it, so no other unit's `ImportCredential=`
 * finds it.
 */
export const storedName = (unit: string, credential: string): string =>
  unit === anyUnit ? credential : stagedName(unit, credential);

/** Processes at once: more than processors, since each also waits for the disk or the TPM. */
const processes = 2 * availableParallelism();

/**
 * The record of a file: a digest of what it was made from and with, and the SHA-256 of its bytes, both in hexadecimal.
 */
interface StoredFile {
  readonly of: string;
  readonly file: string;
}

type StoreRecord = ReadonlyMap<string, StoredFile>;

const sha256 = (bytes: string | Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** A file that has to be in the store. */
interface Wanted {
  readonly release: Release;
  readonly name: string;
  /** As in {@link StoredFile}. */
  readonly of: string;
}

const wantedOf = (releases: readonly Release[], lock: CredsLock): Wanted[] =>
  releases
    .filter(({ delivery }) => delivery === 'credstore')
    .map((release) => ({
      release,
      name: storedName(release.unit, release.credential),
      of: sha256(`${canonicalJson(lock)}\n${release.credential}\n${recipeText(release.recipe)}`),
    }));

function readRecord(paths: Paths, host: Scope): StoreRecord {
  const bytes = readIfPresent(paths.credstoreRecord);
  if (!bytes) return new Map();
  try {
    const json = verified(bytes, host);
    json.at('kind').oneOf(['credstore']);
    return filesIn(json);
  } catch (error) {
    if (error instanceof Failure && error.code === 'malformed') return formerRecord(paths, bytes);
    throw error;
  }
}

/**
 * Another seed's record proves nothing by itself. But only its writer can know the SHA-256 of a file that only root can
 * read: such a file is ours, and is made again.
 */
function formerRecord(paths: Paths, bytes: Uint8Array): StoreRecord {
  try {
    const files = filesIn(unverified(bytes));
    return new Map(
      [...files]
        .filter(
          ([name, { file }]) =>
            basename(name) === name && sha256(readIfPresent(join(paths.credstore, name)) ?? '') === file,
        )
        .map(([name, { file }]) => [name, { of: '', file }]),
    );
  } catch (error) {
    if (error instanceof Failure && error.code === 'malformed') return new Map();
    throw error;
  }
}

const filesIn = (json: Json): StoreRecord =>
  new Map(
    json
      .at('files')
      .entries()
      .map(([name, item]) => [name, { of: item.at('of').text(), file: item.at('file').text() }]),
  );

function writeRecord(paths: Paths, host: Scope, record: StoreRecord): void {
  if (record.size === 0) rmSync(paths.credstoreRecord, { force: true });
  else
    replaceFile(paths.credstoreRecord, authenticated({ kind: 'credstore', files: Object.fromEntries(record) }, host), {
      mode: 0o600,
    });
}

/**
 * Refuses declarations whose credential would replace a file that auxcred did not make.
 * @throws Failure `refused`
 */
export function refuseForeignCredentials(paths: Paths, declarations: readonly SecretDeclaration[], host: Scope): void {
  const record = readRecord(paths, host);
  for (const declaration of declarations) {
    if (declaration.delivery !== 'credstore' || !receiversOf(declaration).includes(anyUnit)) continue;
    for (const { id } of credentialsOf(declaration)) {
      const file = join(paths.credstore, id);
      if (!record.has(id) && readIfPresent(file))
        throw new Failure('refused', `${file} exists, and was not made by auxcred`, {
          hint: `remove it, or give ${declaration.name} another credential = "..."`,
        });
    }
  }
}

/** Those of `releases` whose file is missing, altered, made from something else, or no longer decrypts. */
export async function staleCredentials(
  root: string,
  paths: Paths,
  releases: readonly Release[],
  sealing: Sealing,
  host: Scope,
): Promise<Release[]> {
  const lock = credsLockOf(sealing);
  const wanted = wantedOf(releases, lock);
  const stale = staleOf(paths, wanted, readRecord(paths, host));
  const others = wanted.filter((one) => !stale.includes(one));
  const closed = await unreadable(root, paths, others, lock);
  return [...stale, ...closed].map(({ release }) => release);
}

const staleOf = (paths: Paths, wanted: readonly Wanted[], record: StoreRecord): Wanted[] =>
  wanted.filter(({ name, of }) => {
    const known = record.get(name);
    const bytes = known?.of === of ? readIfPresent(join(paths.credstore, name)) : undefined;
    return !bytes || sha256(bytes) !== known?.file;
  });

/** What {@link fillCredentialStore} encrypts, and to what. */
interface Filling {
  readonly releases: readonly Release[];
  /** Releases by {@link releaseKey}, whose files are made again even if they look right. */
  readonly undelivered: ReadonlySet<string>;
  readonly sources: Sources;
  readonly sealing: Sealing;
  readonly host: Scope;
}

/**
 * Brings the credential store in line with the active `releases`, and touches no file that is right.
 * @returns the releases whose files were made
 * @throws Failure `system` if systemd-creds fails; the old files then stay
 */
export async function fillCredentialStore(
  root: string,
  paths: Paths,
  { releases, undelivered, sources, sealing, host }: Filling,
): Promise<Release[]> {
  const lock = credsLockOf(sealing);
  const record = readRecord(paths, host);
  const wanted = wantedOf(releases, lock);
  removeLeftovers(paths.credstore);
  if (wanted.length === 0 && record.size === 0 && storedNames(paths).length === 0) return [];
  const outdated = new Set(staleOf(paths, wanted, record));
  const stale = wanted.filter((one) => outdated.has(one) || undelivered.has(releaseKey(one.release)));
  const made = await inParallel(stale, processes, async ({ release, name, of }) => {
    const value = recipeValue(release.recipe, sources);
    try {
      const bytes = await encryptCredential(root, release.credential, value, lock);
      return { name, bytes, known: { of, file: sha256(bytes) } };
    } finally {
      value.fill(0);
    }
  });
  const names = new Set(wanted.map(({ name }) => name));
  const removed = [...new Set([...record.keys(), ...storedNames(paths)])].filter((name) => !names.has(name));
  if (made.length > 0) {
    writeRecord(
      paths,
      host,
      new Map([...record, ...made.map(({ name, known }): [string, StoredFile] => [name, known])]),
    );
    ensureFolder(paths.credstore, { mode: 0o700 });
    for (const { name, bytes } of made) replaceFile(join(paths.credstore, name), bytes, { mode: 0o600 });
  }
  for (const name of removed) rmSync(join(paths.credstore, name), { force: true });
  if (removed.length > 0) {
    const left = readRecord(paths, host);
    if (existsSync(paths.credstore)) syncFolder(paths.credstore);
    writeRecord(paths, host, new Map([...left].filter(([name]) => names.has(name))));
  }
  return stale.map(({ release }) => release);
}

/** Files in the store that, by their names, are auxcred's. */
function storedNames(paths: Paths): string[] {
  try {
    return readdirSync(paths.credstore).filter(isStagedName);
  } catch {
    return [];
  }
}

/**
 * The files that no longer decrypt, because the host key, the TPM or its PCRs changed. They share all three, so one
 * that decrypts speaks for all: after each run every file is under the keys of that moment.
 */
async function unreadable(root: string, paths: Paths, wanted: readonly Wanted[], lock: CredsLock): Promise<Wanted[]> {
  const decrypts = async ({ release, name }: Wanted): Promise<boolean> => {
    const bytes = readIfPresent(join(paths.credstore, name));
    if (!bytes) return false;
    try {
      (await decryptCredential(root, release.credential, bytes, lock.device)).fill(0);
      return true;
    } catch (error) {
      if (error instanceof Failure && error.code === 'system') return false;
      throw error;
    }
  };
  const [first, ...others] = wanted;
  if (!first || (await decrypts(first))) return [];
  const rest = await inParallel(others, processes, async (one) => ((await decrypts(one)) ? [] : [one]));
  return [first, ...rest.flat()];
}
