/** `/var/lib/auxcred/pushed.json`: what pushes have brought to this machine, so that the next one takes away what is gone, and nothing else. */
import { utf8 } from '../bytes.ts';
import { digestOf } from '../fixed/file.ts';
import { readIfPresent, replaceFile } from '../system/files.ts';
import { canonicalJson, Json } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';

/** Files by name, and the SHA-256 in hexadecimal that a push gave each; while one is under way, that of the one before it too. */
export type PushedFiles = ReadonlyMap<string, readonly string[]>;

export interface Pushed {
  /** By the name of the secret: `host/web1/wifi`. */
  readonly fixed: PushedFiles;
  /** By file name. */
  readonly manifest: PushedFiles;
  /** Whether a push was begun and not brought to its end. */
  readonly unfinished: boolean;
}

const version = 2;
const nothing: Pushed = { fixed: new Map(), manifest: new Map(), unfinished: false };

/** One line of canonical JSON. */
export const encodePushed = ({ fixed, manifest, unfinished }: Pushed): Uint8Array =>
  utf8(
    `${canonicalJson({ version, fixed: Object.fromEntries(fixed), manifest: Object.fromEntries(manifest), unfinished })}\n`,
  );

/** @throws Failure `malformed` */
export function readPushed(paths: Paths): Pushed {
  const bytes = readIfPresent(paths.pushed);
  if (!bytes) return nothing;
  const json = Json.parse(
    bytes,
    paths.pushed,
    'delete it: the next push then takes nothing away, and overwrites nothing without --replace',
  );
  json.at('version').whole(version, version);
  return {
    fixed: filesIn(json.at('fixed')),
    manifest: filesIn(json.at('manifest')),
    unfinished: json.at('unfinished').flag(),
  };
}

const filesIn = (json: Json): PushedFiles =>
  new Map(json.entries().map(([name, digests]) => [name, digests.list().map((digest) => digest.text())]));

/** Takes the place of the record that is there, root alone may read it. */
export const writePushed = (paths: Paths, pushed: Pushed): void => {
  replaceFile(paths.pushed, encodePushed(pushed), { mode: 0o600 });
};

/** Whether these bytes are what a push brought under this name, and nobody changed since. */
export const isPushed = (files: PushedFiles, name: string, bytes: Uint8Array): boolean =>
  files.get(name)?.includes(digestOf(bytes)) === true;
