/** The public halves of key pairs, by host, as `auxcred public --all --json` prints them for configurations. */
import { type Derived, realmDigest } from '../derive/recipe.ts';
import { Json } from '../system/json.ts';
import { printable } from '../system/printable.ts';

/** The public half of one key pair. */
export interface PublicKey {
  /** Tells one key from another without either: SHA-256 over scope and realm, in hexadecimal. */
  readonly realm: string;
  readonly public: string;
}

/** Key pairs by host, and by the secret's name. */
export type PublicKeys = ReadonlyMap<string, ReadonlyMap<string, PublicKey>>;

/** How a key pair's realm is written. */
export const realmText = (recipe: Derived): string => Buffer.from(realmDigest(recipe)).toString('hex');

/** The document for {@link readPublicKeys}. */
export const publicKeysJson = (keys: PublicKeys): unknown => ({
  version: 1,
  hosts: Object.fromEntries([...keys].map(([host, ofHost]) => [host, Object.fromEntries(ofHost)])),
});

/** Reads a file that holds what {@link publicKeysJson} makes. @throws Failure `malformed` */
export function readPublicKeys(bytes: Uint8Array, file: string): PublicKeys {
  const top = Json.parse(bytes, file, `auxcred public --all --json > ${file} writes it`);
  top.at('version').whole(1, 1);
  return new Map(
    top
      .at('hosts')
      .entries()
      .map(([host, ofHost]) => [
        host,
        new Map(
          ofHost
            .entries()
            .map(([name, key]) => [name, { realm: key.at('realm').text(), public: key.at('public').text() }]),
        ),
      ]),
  );
}

/** What differs between the keys of a file and the present ones, one line each, for `hosts`. */
export function publicKeyChanges(written: PublicKeys, present: PublicKeys, hosts: readonly string[]): string[] {
  return hosts.flatMap((host) => {
    const [old, now] = [written.get(host) ?? new Map<string, PublicKey>(), present.get(host)];
    const names = [...new Set([...old.keys(), ...(now?.keys() ?? [])])].sort();
    return names.flatMap((name) => {
      const change = changeOf(old.get(name), now?.get(name));
      return change === undefined ? [] : [`${printable(host)}: ${printable(name)} ${change}`];
    });
  });
}

function changeOf(old: PublicKey | undefined, now: PublicKey | undefined): string | undefined {
  if (old === undefined) return 'is missing';
  if (now === undefined) return 'is no key pair any more';
  if (old.public === now.public && old.realm === now.realm) return undefined;
  if (old.realm !== now.realm) return 'has another realm';
  return 'has another public half';
}
