/** The units that must not start because part of the manifest can't be read. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ManifestFile } from '../manifest/folder.ts';
import { brokenFiles, type Manifest } from '../manifest/manifest.ts';
import { isOpaque, mayBe, mentionsIn } from '../manifest/mentions.ts';
import { templateOf } from '../system/unit-name.ts';
import { filesOf } from './drop-in.ts';
import type { Applied } from './rendered-folder.ts';

/** The folders of unit files that last (systemd.unit(5)), and of scripts that systemd turns into services. */
const unitFolders = [
  'etc/systemd/system',
  'run/systemd/system',
  'usr/local/lib/systemd/system',
  'usr/lib/systemd/system',
  'lib/systemd/system',
];
const scriptFolder = 'etc/init.d';

/**
 * The units that must not start, each with the file that is to blame. While a file can't be used, these are
 *
 * - every unit that it mentions, and every one on this machine whose name it may have been cut off in;
 * - every declared or applied instance of such a template;
 * - every unit that was applied from a file that is gone or can't be used;
 * - every unit that was applied or is declared, if the file is not text or a whole folder can't be read: it may mention
 *   any.
 *
 * @param declared - the units of the usable files
 */
export function blockedUnits(
  root: string,
  { files, problems }: Manifest,
  declared: readonly string[],
  applied: Applied,
): Map<string, string> {
  const broken = brokenFiles(problems);
  const sound = new Set(files.map(({ path }) => path).filter((path) => !broken.has(path)));
  const blocked = new Map<string, string>();
  for (const file of files.filter(({ path }) => broken.has(path))) {
    const bytes = bytesOf(file);
    const { units, beginnings } = mentionsIn(bytes ?? new Uint8Array());
    const opaque = isOpaque(bytes);
    const lost = [...applied]
      .filter(([, dropIn]) => opaque || dropIn === undefined || !filesOf(dropIn).every((source) => sound.has(source)))
      .map(([unit]) => unit);
    const guessed =
      beginnings.length === 0
        ? []
        : servicesOn(root).filter((unit) => beginnings.some((beginning) => mayBe(unit, beginning)));
    for (const unit of [...units, ...guessed, ...lost, ...(opaque ? declared : [])])
      if (unit.endsWith('.service')) blocked.set(unit, file.path);
  }
  // An instance's own drop-in takes the place of its template's.
  for (const unit of [...declared, ...applied.keys()]) {
    const path = blocked.get(templateOf(unit) ?? unit);
    if (path !== undefined) blocked.set(unit, path);
  }
  return blocked;
}

const bytesOf = ({ text, bytes }: ManifestFile): Uint8Array | undefined =>
  bytes ?? (text === undefined ? undefined : Buffer.from(text));

/** The services with unit files on this machine, including instances that other units want. */
function servicesOn(root: string): string[] {
  const names = unitFolders.flatMap((folder) => {
    const entries = namesIn(join(root, folder));
    return [
      ...entries,
      ...entries
        .filter((name) => /\.(?:wants|requires)$/.test(name))
        .flatMap((name) => namesIn(join(root, folder, name))),
    ];
  });
  return [
    ...new Set([
      ...names.filter((name) => name.endsWith('.service')),
      ...namesIn(join(root, scriptFolder)).map((name) => `${name}.service`),
    ]),
  ];
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
