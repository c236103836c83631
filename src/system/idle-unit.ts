/** Units that run nothing, and so read no secret: a shell around others, or a service without a program. */
import { readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { namesIn, textIfReadable } from './files.ts';
import { dropInName } from './paths.ts';
import { assignmentsOf, type UnitFiles } from './unit-files.ts';

/** What a unit runs when it starts (systemd.service(5)). */
const commandKeys = ['ExecCondition', 'ExecStartPre', 'ExecStart', 'ExecStartPost'];

const doesNothing = /^[-@:+!|]*(?:(?:\/usr)?\/bin\/)?true(?:\s|$)/;

/**
 * Whether a service runs nothing but true(1), by its unit files without auxcred's own drop-in. A service that is not on
 * the machine, that is masked, or whose files this user may not read, is not idle.
 */
export function isIdle(files: UnitFiles, unit: string): boolean {
  const commands = new Map<string, string[]>();
  const [fragment, ...dropIns] = files.of(unit);
  // systemd gives a masked unit no other files.
  if (fragment === undefined || isLinkToNothing(fragment)) return false;
  for (const path of [fragment, ...dropIns.filter((path) => !path.endsWith(`/${dropInName}`))]) {
    const text = textIfReadable(path);
    if (text === undefined) return false;
    for (const { section, key, value } of assignmentsOf(text)) {
      if (section !== 'Service' || !commandKeys.includes(key)) continue;
      // An empty assignment forgets what was assigned before.
      commands.set(key, value === '' ? [] : [...(commands.get(key) ?? []), value]);
    }
  }
  const all = [...commands.values()].flat();
  return all.length > 0 && all.every((command) => doesNothing.test(command));
}

/** The services that start with a unit, by the links in its folders `.wants` and `.requires`, also generated ones. */
export function servicesStartedBy(files: UnitFiles, unit: string): string[] {
  const found = ['wants', 'requires'].flatMap((kind) => files.named(`${unit}.${kind}`).flatMap(namesIn));
  return [...new Set(found.filter((name) => name.endsWith('.service')))].sort();
}

/** The templates and services that are stopped and restarted together with a unit: those with `PartOf=` it. */
export function partsOf(files: UnitFiles, unit: string): string[] {
  const parts = files
    .services()
    .filter((path) =>
      assignmentsOf(textIfReadable(path) ?? '').some(
        ({ section, key, value }) => section === 'Unit' && key === 'PartOf' && value.split(/\s+/).includes(unit),
      ),
    );
  return [...new Set(parts.map((path) => basename(path)))].sort();
}

function isLinkToNothing(path: string): boolean {
  try {
    return readlinkSync(path) === '/dev/null';
  } catch {
    return false;
  }
}
