/** What the unit files of a system set, for finding who uses a secret. */
import { basename } from 'node:path';
import { readFileWithin } from '../system/files.ts';
import { dropInName } from '../system/paths.ts';
import { assignmentsOf, UnitFiles } from '../system/unit-files.ts';
import { isService } from '../system/unit-name.ts';

/** One line of a service. */
export interface UnitSetting {
  readonly unit: string;
  readonly key: string;
  readonly value: string;
  readonly file: string;
}

const largestUnitFile = 4 << 20;

/**
 * The lines by these keys in `[Service]` of every service, as systemd adds them up: an empty one takes back those
 * before it. auxcred's own drop-ins and units are left out.
 */
export function unitSettings(root: string, keys: readonly string[]): UnitSetting[] {
  const files = new UnitFiles(root);
  return servicesOf(files).flatMap((unit) => {
    const settings = new Map<string, UnitSetting[]>();
    for (const file of files.of(unit)) {
      if (basename(file) === dropInName) continue;
      for (const { section, key, value } of assignmentsOf(textOf(file))) {
        if (section !== 'Service' || !keys.includes(key)) continue;
        if (value === '') settings.delete(key);
        else settings.set(key, [...(settings.get(key) ?? []), { unit, key, value, file }]);
      }
    }
    return [...settings.values()].flat();
  });
}

function servicesOf(files: UnitFiles): string[] {
  const names = files.names().map((name) => name.replace(/\.d$/, ''));
  return [...new Set(names)].filter((name) => isService(name) && !name.startsWith('auxcred')).sort();
}

function textOf(file: string): string {
  try {
    return new TextDecoder().decode(readFileWithin(file, largestUnitFile));
  } catch {
    // A mask is a link to /dev/null.
    return '';
  }
}
