/** Finds the lines that units lack if the system's configuration renders their drop-ins, and leaves some out. */
import { existsSync } from 'node:fs';
import type { Manifest } from '../manifest/manifest.ts';
import type { Paths } from '../system/paths.ts';
import { type Assignment, assignmentsOf, lineOf } from '../system/unit-files.ts';
import { filesOfServices, replaces, type TextReader } from './overrides.ts';
import { renderUnits } from './rendering.ts';

/** A unit without some of the lines that make it get its secrets. */
export interface LackingUnit {
  readonly unit: string;
  /** Such as `LoadCredentialEncrypted=key:/run/auxcred/encrypted.sock`. */
  readonly lines: readonly string[];
}

/**
 * Compares what the manifest needs with the unit files that systemd has loaded or, without a running systemd, would
 * load. Units without any file are reported elsewhere.
 */
export function lackingUnits(paths: Paths, { declarations }: Manifest, read: TextReader): LackingUnit[] {
  const rendering = [...renderUnits(declarations)].filter(([unit]) => unit.endsWith('.service'));
  const filesOf = filesOfServices(paths.root, new Set(rendering.map(([unit]) => unit)));
  return rendering.flatMap(([declared, dropIn]) => {
    return filesOf(declared).flatMap(([unit, files]): LackingUnit[] => {
      if (!files.some((file) => existsSync(file))) return [];
      const given = effectiveIn(files.map((file) => read(file) ?? ''));
      const lines = assignmentsOf(dropIn)
        .filter((wanted) => isDecisive(wanted) && !given.some((one) => isSame(one, wanted)))
        .map(lineOf);
      return lines.length === 0 ? [] : [{ unit, lines }];
    });
  });
}

/** The assignments that count, of files in the order in which systemd reads them. */
function effectiveIn(texts: readonly string[]): Assignment[] {
  let effective: Assignment[] = [];
  for (const assignment of texts.flatMap(assignmentsOf)) {
    effective = effective.filter((other) => !replaces(assignment, other));
    if (assignment.value !== '') effective.push(assignment);
  }
  return effective;
}

/** Whether the unit would start without its secret, or with another one, if the line is missing. */
const isDecisive = ({ key }: Assignment): boolean =>
  /^(?:LoadCredential|LoadCredentialEncrypted|SetCredentialEncrypted|AssertPathExists|ExecStartPre)$/.test(key);

/** A line without the path of the command, which differs by installation. */
const withoutPath = (value: string): string => value.replace(/\S*\/auxcred(?:\.cjs)?(?= )/, 'auxcred');

const isSame = (given: Assignment, wanted: Assignment): boolean =>
  given.section === wanted.section &&
  given.key === wanted.key &&
  (given.value === wanted.value || withoutPath(given.value) === withoutPath(wanted.value));
