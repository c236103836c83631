/**
 * `/var/lib/auxcred/pushed.json`: what pushes brought to this machine, so that the next one removes what is gone from
 * the vault, and nothing else.
 */
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { utf8 } from '../bytes.ts';
import { digestOf } from '../fixed/file.ts';
import { ensureFolder, readIfPresent, replaceFile, writeNew } from '../system/files.ts';
import { canonicalJson, Json } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';

/**
 * Files by name, with the SHA-256 (hexadecimal) that a push gave each; while a push is under way, also the one of the
 * push before.
 */
export type PushedFiles = ReadonlyMap<string, readonly string[]>;

export interface Pushed {
  /** By the name of the secret: `host/web1/wifi`. */
  readonly fixed: PushedFiles;
  /** By file name. */
  readonly manifest: PushedFiles;
  /** Whether a push was begun but not finished. */
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
    'delete it: the next push then removes nothing, and overwrites nothing without --replace',
  );
  json.version(version);
  return {
    fixed: filesIn(json.at('fixed')),
    manifest: filesIn(json.at('manifest')),
    unfinished: json.at('unfinished').flag(),
  };
}

const filesIn = (json: Json): PushedFiles =>
  new Map(json.entries().map(([name, digests]) => [name, digests.list().map((digest) => digest.text())]));

/** Replaces the record. Only root may read it. */
export const writePushed = (paths: Paths, pushed: Pushed): void => {
  replaceFile(paths.pushed, encodePushed(pushed), { mode: 0o600 });
};

/** Replaces the record with that of a push that begins now, and remembers until the next boot that one did. */
export function writeBegun(paths: Paths, pushed: Pushed): void {
  if (systemIsRunning(paths.root) && !existsSync(paths.begun)) {
    ensureFolder(dirname(paths.begun), { mode: 0o755 });
    writeNew(paths.begun, new Uint8Array(0), { mode: 0o644 });
  }
  writePushed(paths, pushed);
}

/** Whether these bytes are what a push brought under this name, unchanged. */
export const isPushed = (files: PushedFiles, name: string, bytes: Uint8Array): boolean =>
  files.get(name)?.includes(digestOf(bytes)) === true;
