/** Files of agenix, read by `age -d`: those in its secrets.nix, or every .age file. */
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { Failure } from '../failure.ts';
import { Json } from '../system/json.ts';
import { filesIn } from './files.ts';
import { type Asked, type Findings, type FoundSecret, wipeFindings } from './findings.ts';
import { nixSecrets } from './nix-configuration.ts';
import { nixText } from './nix-text.ts';
import { attempt, outputOf } from './program.ts';

/** The names in secrets.nix, as agenix itself reads them. */
const attributeNames = (rules: string): string => `builtins.attrNames (import ${nixPath(rules)})`;

/** A path as an expression of Nix that may have any character. */
const nixPath = (path: string): string => `(/. + ${nixText(resolve(path))})`;

/** Every secret of the folder, or those of a configuration. @throws Failure */
export function agenix({ from, declared, keys }: Asked): Findings {
  const identities = keys.length > 0 ? keys : usualIdentities();
  if (identities.length === 0)
    throw new Failure('no-recipient', 'no key here opens files of agenix', {
      hint: '--key=FILE with an age identity or ssh key',
    });
  const wanted =
    declared === undefined
      ? from.flatMap(rulesOrFiles)
      : nixSecrets(declared, '--declared', 'file').map(({ name, file, use }) => ({ name, file, use }));
  const secrets: FoundSecret[] = [];
  const unread: string[] = [];
  try {
    for (const { name, file, use } of wanted) {
      const value = attempt(() =>
        outputOf(['age', '-d', ...identities.flatMap((path) => ['-i', path]), '--', file], file),
      );
      if (value instanceof Failure) unread.push(value.message);
      else secrets.push({ name, from: file, value, use: use ?? { units: [], file: {} } });
    }
  } catch (error) {
    wipeFindings({ secrets });
    throw error;
  }
  return { secrets, environments: [], unread, notes: [] };
}

interface AgeFile {
  readonly name: string;
  readonly file: string;
  readonly use?: FoundSecret['use'];
}

function rulesOrFiles(path: string): AgeFile[] {
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  const rules = isFolder ? join(path, 'secrets.nix') : path;
  if (!isFolder && !path.endsWith('.nix')) return [{ name: nameOf(basename(path)), file: path }];
  if (!existsSync(rules))
    return filesIn([path])
      .filter((file) => file.path.endsWith('.age'))
      .map((file) => ({ name: nameOf(file.below), file: file.path }));
  const names = outputOf(['nix-instantiate', '--eval', '--strict', '--json', '--expr', attributeNames(rules)], rules);
  return Json.parse(names, rules, 'secrets.nix is a set of files and their public keys')
    .list()
    .map((name) => ({ name: nameOf(name.text()), file: join(dirname(rules), name.text()) }));
}

const nameOf = (file: string): string => file.replace(/\.age$/, '');

/** The keys that agenix tries: the machine's and the user's own, as far as they can be read. */
const usualIdentities = (): string[] =>
  [
    '/etc/ssh/ssh_host_ed25519_key',
    '/etc/ssh/ssh_host_rsa_key',
    join(homedir(), '.ssh/id_ed25519'),
    join(homedir(), '.ssh/id_rsa'),
  ].filter((path) => {
    try {
      accessSync(path, constants.R_OK);
      return true;
    } catch {
      return false;
    }
  });
