/** Credentials of systemd's own (systemd.exec(5), "Credentials"): those in its stores and in unit files. */
import { statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { largestValue } from '../fixed/file.ts';
import { credentialId } from '../manifest/manifest.ts';
import { isBeforeTheBroker } from '../manifest/units.ts';
import { namesIn, readFileWithin } from '../system/files.ts';
import { decryptCredential } from '../system/systemd-creds.ts';
import { type Asked, type Findings, type FoundSecret, wipeFindings } from './findings.ts';
import { type UnitSetting, unitSettings } from './unit-settings.ts';

const keys = [
  'LoadCredential',
  'LoadCredentialEncrypted',
  'SetCredential',
  'SetCredentialEncrypted',
  'ImportCredential',
] as const;

/** Where systemd looks for credentials by name, the strongest first. */
const encryptedStores = ['etc/credstore.encrypted', 'run/credstore.encrypted', 'usr/lib/credstore.encrypted'];
const plainStores = ['etc/credstore', 'run/credstore', 'usr/lib/credstore'];

/** An encrypted credential is base64, and longer than its value. */
const largestCredential = 4 * largestValue;

/** A credential, wherever its bytes are. */
interface Credential {
  readonly id: string;
  readonly from: string;
  readonly isEncrypted: boolean;
  readonly bytes: () => Uint8Array | undefined;
  readonly units: string[];
}

/** A file in one of systemd's stores. */
interface StoredFile {
  readonly name: string;
  readonly path: string;
  readonly isEncrypted: boolean;
}

/**
 * The credentials in systemd's stores and in the services of a system; or those in the named stores.
 * @throws Failure
 */
export async function systemdCreds({ from, root, device }: Asked): Promise<Findings> {
  const stored =
    from.length > 0
      ? from.flatMap(namedFiles)
      : [
          ...encryptedStores.flatMap((folder) => filesOf(join(root, folder), true)),
          ...plainStores.flatMap((folder) => filesOf(join(root, folder), false)),
        ];
  const collection = new Collection(root, stored);
  for (const setting of unitSettings(root, keys)) collection.add(setting);
  for (const file of stored) collection.stored(file);
  // A named store or file stands for itself: units only tell who uses it.
  if (from.length > 0)
    for (const [key, credential] of collection.credentials)
      if (!stored.some(({ path }) => path === credential.from)) collection.credentials.delete(key);
  return await read(collection, root, device);
}

const filesOf = (folder: string, isEncrypted: boolean): StoredFile[] =>
  namesIn(folder)
    .filter((name) => credentialId.test(name))
    .sort()
    .map((name) => ({ name, path: join(folder, name), isEncrypted }));

/**
 * The files of a store, which is an encrypted one unless it is called credstore; or one encrypted file,
 * whose name is the credential's with or without `.cred` (systemd-creds(1)).
 */
function namedFiles(path: string): StoredFile[] {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat) throw new Failure('not-found', `there is no ${path}`, { hint: 'name a store or an encrypted file' });
  if (!stat.isDirectory()) return [{ name: basename(path, '.cred'), path: resolve(path), isEncrypted: true }];
  return filesOf(resolve(path), basename(path) !== 'credstore');
}

class Collection {
  readonly credentials = new Map<string, Credential>();
  readonly notes: string[] = [];
  readonly unread: string[] = [];
  readonly #root: string;
  readonly #stored: readonly StoredFile[];

  constructor(root: string, stored: readonly StoredFile[]) {
    this.#root = root;
    this.#stored = stored;
  }

  /** Notes the credential that a line of a unit gives to it. */
  add(setting: UnitSetting): void {
    const { unit, key, value, file } = setting;
    const [id = '', ...rest] = value.split(':');
    const source = rest.join(':');
    // auxcred's own.
    if (source.startsWith('/run/auxcred/')) return;
    if (key === 'ImportCredential') this.#imported(value, unit);
    else if (this.#given(setting, id, source)) this.notes.push(`${unit}: take ${key}=${id} out of ${file}`);
  }

  /** @returns whether the unit's line has to go */
  #given({ unit, key, file }: UnitSetting, id: string, source: string): boolean {
    const isEncrypted = key.endsWith('Encrypted');
    if (!credentialId.test(id)) this.unread.push(`${unit}: ${key}=${id} is a name that auxcred can't give it`);
    else if (key.startsWith('Set')) {
      const bytes = isEncrypted ? utf8(source.replaceAll(/\s/g, '')) : unescaped(source);
      return this.#note({ id, from: `${file}: ${key}=${id}`, isEncrypted, bytes: () => bytes }, unit);
    } else if (source.includes('%'))
      this.unread.push(`${unit}: ${key}=${id} depends on the unit's instance: ${source}`);
    else if (source.startsWith('/')) return this.#note(fileCredential(id, join(this.#root, source), isEncrypted), unit);
    else {
      const name = source === '' ? id : source;
      const stored = this.#stored.find((one) => one.name === name && one.isEncrypted === isEncrypted);
      // systemd passes over a missing one; its own units name many.
      if (stored) return this.#note(fileCredential(id, stored.path, isEncrypted), unit);
    }
    return false;
  }

  /**
   * `ImportCredential=GLOB`, or `GLOB:PREFIX` from systemd 257 on. The line may stay: it gives way to auxcred's
   * (systemd.exec(5)).
   */
  #imported(value: string, unit: string): void {
    const [glob = '', prefix] = value.split(':');
    const start = glob.replace(/\*$/, '');
    const matches = this.#stored.filter(({ name }) => (glob === start ? name === glob : name.startsWith(start)));
    for (const { name, path, isEncrypted } of matches) {
      if (prefix === undefined) this.#note(fileCredential(name, path, isEncrypted), unit);
      else this.notes.push(`${unit}: ImportCredential=${value} renames ${name}: declare it with units and credential`);
    }
  }

  stored({ name, path, isEncrypted }: StoredFile): void {
    if (![...this.credentials.values()].some(({ from }) => from === path))
      this.#note(fileCredential(name, path, isEncrypted), undefined);
  }

  /** @returns whether auxcred can give it to the unit */
  #note(credential: Omit<Credential, 'units'>, unit: string | undefined): boolean {
    if (unit !== undefined && isBeforeTheBroker(unit)) {
      this.notes.push(`${unit} starts before auxcred's broker: ${credential.id} stays where it is as well`);
      return false;
    }
    const key = `${credential.from}\0${credential.id}`;
    const known = this.credentials.get(key) ?? { ...credential, units: [] };
    if (unit !== undefined && !known.units.includes(unit)) known.units.push(unit);
    this.credentials.set(key, known);
    return true;
  }
}

const fileCredential = (id: string, path: string, isEncrypted: boolean): Omit<Credential, 'units'> => ({
  id,
  from: path,
  isEncrypted,
  bytes: () => readFileWithin(path, largestCredential),
});

async function read(collection: Collection, root: string, device: string | undefined): Promise<Findings> {
  const secrets: FoundSecret[] = [];
  const unread = [...collection.unread];
  const all = [...collection.credentials.values()];
  try {
    for (const credential of all) {
      const { id, from, units } = credential;
      const value = await credentialValue(credential, root, device);
      const isAmbiguous = all.filter((other) => other.id === id).length > 1;
      const owner = (units[0] ?? basename(from)).replace(/\.service$/, '');
      const name = isAmbiguous ? `${owner}/${id}` : id;
      if (value instanceof Uint8Array) secrets.push({ name, from, value, use: { units, credential: id } });
      else unread.push(`${from}: ${value}`);
    }
  } catch (error) {
    wipeFindings({ secrets });
    throw error;
  }
  return { secrets, environments: [], unread, notes: collection.notes };
}

/** @returns the value, or why it can't be read */
async function credentialValue(
  { id, isEncrypted, bytes }: Credential,
  root: string,
  device: string | undefined,
): Promise<Uint8Array | string> {
  try {
    const stored = bytes();
    if (!stored) return 'there is no such file';
    return isEncrypted ? await decryptCredential(root, id, stored, device) : stored;
  } catch (error) {
    if (error instanceof Failure) return error.message;
    throw error;
  }
}

const simpleEscapes: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  f: 12,
  n: 10,
  r: 13,
  t: 9,
  v: 11,
  s: 32,
  '\\': 0x5c,
  '"': 0x22,
  "'": 0x27,
};

/** The bytes of `SetCredential=`, with the escapes of C (cunescape_one() in systemd's src/basic/escape.c). */
function unescaped(text: string): Uint8Array {
  const parts = text.matchAll(
    /\\(?:x([0-9a-fA-F]{2})|([0-3][0-7]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|[^\\]+|\\$/gs,
  );
  return Buffer.concat(
    [...parts].map(([whole, hex, octal, short, long, char]) => {
      if (hex !== undefined) return Uint8Array.of(Number.parseInt(hex, 16));
      if (octal !== undefined) return Uint8Array.of(Number.parseInt(octal, 8));
      const point = short ?? long;
      if (point !== undefined) return utf8(String.fromCodePoint(Number.parseInt(point, 16)));
      const simple = char === undefined ? undefined : simpleEscapes[char];
      return simple === undefined ? utf8(whole) : Uint8Array.of(simple);
    }),
  );
}
