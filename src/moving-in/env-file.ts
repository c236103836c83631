/** Files of `KEY=value`: a secret for each variable, and a template that gives the file back. */
import { join, resolve } from 'node:path';
import { largestValue } from '../fixed/file.ts';
import { variablePattern } from '../manifest/template.ts';
import { readFileWithin } from '../system/files.ts';
import { type Variable, variablesIn } from './env-lines.ts';
import { filesIn, withoutEnding } from './files.ts';
import { type Asked, type Findings, type FoundEnvironment, type FoundSecret, wipeFindings } from './findings.ts';
import { type UnitSetting, unitSettings } from './unit-settings.ts';

/** The variables of the named files. @throws Failure */
export function envFile({ from, root }: Asked): Findings {
  const settings = unitSettings(root, ['EnvironmentFile']);
  const secrets: FoundSecret[] = [];
  const environments: FoundEnvironment[] = [];
  const unread: string[] = [];
  try {
    for (const { path, below } of filesIn(from)) {
      const name = withoutEnding(below).replace(/^\.+/, '') || 'env';
      const variables = variablesOf(path, unread);
      const users = usersOf(settings, root, path);
      for (const { key, value } of variables)
        if (value.length > 0)
          secrets.push({ name: `${name}/${key}`, from: `${path}: ${key}`, value, use: { units: [] } });
      if (variables.length > 0)
        environments.push({
          name,
          from: path,
          variables: variables.map(({ key, value }) => [key, value.length > 0 ? `${name}/${key}` : undefined]),
          replaces: users.map((user) => `${user.unit}: EnvironmentFile=${user.value} in ${user.file}`),
          use: { units: [...new Set(users.map(({ unit }) => unit))], file: {} },
        });
    }
  } catch (error) {
    wipeFindings({ secrets });
    throw error;
  }
  return { secrets, environments, unread, notes: [] };
}

function variablesOf(path: string, unread: string[]): Variable[] {
  const bytes = readFileWithin(path, 16 * largestValue) ?? new Uint8Array();
  const variables = variablesIn(bytes);
  bytes.fill(0);
  return variables.filter(({ key, value }) => {
    if (variablePattern.test(key)) return true;
    value.fill(0);
    unread.push(`${path}: ${JSON.stringify(key)} is not the name of a variable`);
    return false;
  });
}

/** The lines of units that read the file; a dash before its path allows it to be missing. */
const usersOf = (settings: readonly UnitSetting[], root: string, path: string): UnitSetting[] =>
  settings.filter(({ value }) => resolve(join(root, value.replace(/^-/, ''))) === resolve(path));
