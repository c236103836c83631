/** Files of sops (getsops.io), read by `sops -d`, and what sops-nix makes of them. */
import { Failure } from '../failure.ts';
import { encryptedText, filesIn, withoutEnding } from './files.ts';
import type { Asked, Findings, FoundSecret } from './findings.ts';
import { wipeFindings } from './findings.ts';
import { jsonLeaves, type Leaf } from './json-leaves.ts';
import { type NixSecret, nixSecrets } from './nix-configuration.ts';
import { attempt, outputOf } from './program.ts';

/** sops goes by these endings (FormatForPath in its cmd/sops/formats/formats.go); any other file is binary. */
const keyed = /\.(ya?ml|json|env|ini)$/;

/** Every key of every file, or the secrets of a configuration. @throws Failure */
export function sopsNix({ from, declared, keys }: Asked): Findings {
  const environment = keyEnvironment(keys);
  const secrets: FoundSecret[] = [];
  const unread: string[] = [];
  try {
    if (declared === undefined) readFiles(from, environment, { secrets, unread });
    else readDeclared(nixSecrets(declared, '--declared', 'sopsFile'), environment, { secrets, unread });
  } catch (error) {
    wipeFindings({ secrets });
    throw error;
  }
  return { secrets, environments: [], unread, notes: [] };
}

/** What is found and what is not, as it is read. */
interface Results {
  readonly secrets: FoundSecret[];
  readonly unread: string[];
}

/**
 * How sops is told of a key: an age identity, or an ssh key (from sops 3.10 on). @throws Failure `usage` for several
 */
function keyEnvironment(keys: readonly string[]): NodeJS.ProcessEnv {
  const [key, ...more] = keys;
  if (key === undefined) return {};
  if (more.length > 0)
    throw new Failure('usage', 'sops takes one --key', { hint: 'put several age identities into one file' });
  const isIdentity = encryptedText(key).includes('AGE-SECRET-KEY-');
  return { [isIdentity ? 'SOPS_AGE_KEY_FILE' : 'SOPS_AGE_SSH_PRIVATE_KEY_FILE']: key };
}

function readFiles(from: readonly string[], environment: NodeJS.ProcessEnv, { secrets, unread }: Results): void {
  for (const { path, below } of filesIn(from)) {
    if (!isEncrypted(path)) {
      if (from.includes(path))
        throw new Failure('malformed', `${path} is not a file of sops`, { hint: `sops filestatus ${path}` });
      continue;
    }
    const leaves = attempt(() => leavesOf(path, undefined, environment));
    if (leaves instanceof Failure) {
      unread.push(leaves.message);
      continue;
    }
    // The keys of one file are names by themselves, as in sops-nix.
    const folder = from.includes(path) ? [] : [withoutEnding(below)];
    for (const leaf of leaves)
      secrets.push({
        name: [...folder, ...leaf.path].join('/') || withoutEnding(below),
        from: [path, leaf.path.join('/')].filter((part) => part !== '').join(': '),
        value: leaf.value,
        use: { units: [], file: {} },
      });
  }
}

function readDeclared(
  declared: readonly NixSecret[],
  environment: NodeJS.ProcessEnv,
  { secrets, unread }: Results,
): void {
  for (const { name, file, key, format, use } of declared) {
    const isWhole = key === '' || format === 'binary';
    const leaves = attempt(() =>
      isWhole ? [wholeOf(file, format, environment)] : leavesOf(file, format, environment),
    );
    if (leaves instanceof Failure) {
      unread.push(`${name}: ${leaves.message}`);
      continue;
    }
    const wanted = isWhole ? leaves[0] : leaves.find(({ path }) => path.join('/') === key);
    for (const leaf of leaves) if (leaf !== wanted) leaf.value.fill(0);
    if (wanted) secrets.push({ name, from: isWhole ? file : `${file}: ${key}`, value: wanted.value, use });
    else unread.push(`${name}: ${file} has no key ${key}`);
  }
}

const isEncrypted = (path: string): boolean => {
  const text = encryptedText(path);
  return text.includes('ENC[AES256_GCM,') && text.includes('sops');
};

/** The keys of a file and their values; a binary file is one leaf without a key. The caller wipes them. */
function leavesOf(file: string, format: string | undefined, environment: NodeJS.ProcessEnv): Leaf[] {
  if (format === undefined && !keyed.test(file)) return [wholeOf(file, undefined, environment)];
  const json = outputOf(['sops', '-d', ...inputType(format), '--output-type', 'json', file], file, { environment });
  try {
    return jsonLeaves(json, file);
  } finally {
    json.fill(0);
  }
}

function wholeOf(file: string, format: string | undefined, environment: NodeJS.ProcessEnv): Leaf {
  const output = outputOf(['sops', '-d', ...inputType(format), ...outputType(format), file], file, { environment });
  const value = Uint8Array.from(output);
  output.fill(0);
  return { path: [], value };
}

const inputType = (format: string | undefined): string[] => (format === undefined ? [] : ['--input-type', format]);
const outputType = (format: string | undefined): string[] => (format === undefined ? [] : ['--output-type', format]);
