/** `/var/lib/auxcred/pushed.json`: what pushes have brought to this machine, so that the next one takes away what is gone, and nothing else. */
import { utf8 } from '../derive/framing.ts';
import { readIfPresent, replaceFile } from '../system/files.ts';
import { canonicalJson, Json } from '../system/json.ts';
import type { Paths } from '../system/paths.ts';

export interface Pushed {
  /** Names of fixed secrets: `host/web1/wifi`. */
  readonly fixed: ReadonlySet<string>;
  /** Names of manifest files, and the SHA-256 that a push gave them; while one is under way, the one before it too. */
  readonly manifest: ReadonlyMap<string, readonly string[]>;
  /** Whether a push was begun and not brought to its end. */
  readonly unfinished: boolean;
}

const version = 1;
const nothing: Pushed = { fixed: new Set(), manifest: new Map(), unfinished: false };

/** One line of canonical JSON. */
export const encodePushed = ({ fixed, manifest, unfinished }: Pushed): Uint8Array => utf8(`${canonicalJson({ version, fixed: [...fixed].sort(), manifest: Object.fromEntries(manifest), unfinished })}\n`);

/** @throws Failure `malformed` */
export function readPushed(paths: Paths): Pushed {
  const bytes = readIfPresent(paths.pushed);
  if (!bytes) return nothing;
  const json = Json.parse(bytes, paths.pushed, 'delete it: the next push takes nothing away then, and makes it anew');
  json.at('version').whole(version, version);
  return {
    fixed: new Set(json.at('fixed').list().map((name) => name.text())),
    manifest: new Map(json.at('manifest').entries().map(([name, digests]) => [name, digests.list().map((digest) => digest.text())])),
    unfinished: json.at('unfinished').flag(),
  };
}

/** Takes the place of the record that is there, root alone may read it. */
export const writePushed = (paths: Paths, pushed: Pushed): void => { replaceFile(paths.pushed, encodePushed(pushed), { mode: 0o600 }); };
