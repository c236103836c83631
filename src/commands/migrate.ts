import { existsSync } from 'node:fs';
import { type OpenPlace, type Place, placeOf, withSeeds } from '../cli/chosen-folder.ts';
import { commit } from '../cli/kept-changes.ts';
import { Options } from '../cli/options.ts';
import { otherVault } from '../cli/other-vault.ts';
import { exitStatus, Failure } from '../failure.ts';
import { largestValue } from '../fixed/file.ts';
import { type FixedName, nameText } from '../fixed/name.ts';
import { agenix } from '../moving-in/agenix.ts';
import { ansibleVault } from '../moving-in/ansible-vault.ts';
import { envFile } from '../moving-in/env-file.ts';
import { type Asked, type Findings, type FoundSecret, manifestName, wipeFindings } from '../moving-in/findings.ts';
import { passwordStore } from '../moving-in/password-store.ts';
import { type Form, forms, replacementLines } from '../moving-in/replacement.ts';
import { sopsNix } from '../moving-in/sops-nix.ts';
import { systemdCreds } from '../moving-in/systemd-creds.ts';
import { isWholeLine, readInput } from '../system/input.ts';
import { counted, print, say, warn } from '../terminal/say.ts';

/** A way to read another program's secrets. */
interface Source {
  readonly read: (asked: Asked, place: Place) => Findings | Promise<Findings>;
  /** Whether the call has to name files. */
  readonly needsFiles: boolean;
  readonly form: Form;
}

const storeSource = (name: string): Source => ({
  read: ({ from }, place) => passwordStore(name, otherVault(name, place), from),
  needsFiles: false,
  form: 'toml',
});

const sources: Readonly<Record<string, Source>> = {
  'sops-nix': { read: sopsNix, needsFiles: true, form: 'nix' },
  agenix: { read: agenix, needsFiles: true, form: 'nix' },
  'systemd-creds': { read: systemdCreds, needsFiles: false, form: 'toml' },
  'ansible-vault': { read: ansibleVault, needsFiles: true, form: 'toml' },
  'env-file': { read: envFile, needsFiles: true, form: 'toml' },
  pass: storeSource('pass'),
  gopass: storeSource('gopass'),
  passage: storeSource('passage'),
};

/** The sources whose files `--key` opens. */
const keyed = ['sops-nix', 'agenix', 'ansible-vault'];

/** The most bytes of `--declared`. */
const longestDeclared = 16 << 20;

/**
 * `auxcred migrate SOURCE [FROM...]`: puts another program's secrets into the fixed folder, and prints the
 * configuration that replaces the old one. Reads everything before it writes anything.
 */
export async function migrate(argv: readonly string[]): Promise<number> {
  const options = new Options('migrate', argv);
  const [name = '', ...from] = options.operands;
  const source = Object.hasOwn(sources, name) ? sources[name] : undefined;
  if (!source)
    throw new Failure('usage', name === '' ? 'migrate needs a source' : `there is no source ${name}`, {
      hint: Object.keys(sources).join(', '),
    });
  const asked = askedBy(options, from);
  if (source.needsFiles && from.length === 0 && asked.declared === undefined)
    throw options.lacks('a file or a folder', `auxcred migrate ${name} PATH`);
  const place = placeOf(options);
  if (place.scope === undefined)
    throw new Failure('usage', 'migrate needs the host or group that the secrets are for', {
      hint: `auxcred migrate ${name} --host=web1 ...`,
    });
  const form = formOf(options, source.form);
  const findings = await source.read(asked, place);
  try {
    return await move(name, findings, { place, scope: place.scope, options, form });
  } finally {
    wipeFindings(findings);
  }
}

function askedBy(options: Options, from: readonly string[]): Asked {
  const declared = options.value('declared');
  const missing = options.list('key').find((file) => !existsSync(file));
  if (missing !== undefined)
    throw new Failure('not-found', `there is no ${missing}`, { hint: '--key=FILE is a file with a key or password' });
  return {
    from,
    root: options.value('root') ?? '/',
    keys: options.list('key'),
    declared: declared === undefined ? undefined : Buffer.from(readInput(declared, longestDeclared)).toString(),
    device: options.value('tpm2-device'),
  };
}

function formOf(options: Options, usual: Form): Form {
  const asked = options.value('format') ?? usual;
  const form = forms.find((one) => one === asked);
  if (form === undefined) throw new Failure('usage', `--format=${asked} is not one of ${forms.join(', ')}`);
  return form;
}

/** Where the secrets go. */
interface Destination {
  readonly place: Place;
  readonly scope: string;
  readonly options: Options;
  readonly form: Form;
}

/** A secret with its name here. */
interface Target extends FoundSecret {
  readonly target: FixedName;
}

async function move(from: string, findings: Findings, { place, scope, options, form }: Destination): Promise<number> {
  const { environments, notes } = findings;
  const unread = [...findings.unread, ...findings.secrets.flatMap((secret) => sizeProblem(secret) ?? [])];
  for (const problem of unread) say(`left alone: ${problem}`);
  const secrets = findings.secrets.filter((secret) => sizeProblem(secret) === undefined);
  const above = 'the reasons are above';
  if (secrets.length === 0 && unread.length > 0)
    throw new Failure('vault', `no secret of ${from} could be read, so nothing was changed`, {
      hint: keyed.includes(from) && options.list('key').length === 0 ? `${above}; --key=FILE opens them` : above,
    });
  if (secrets.length === 0) throw new Failure('not-found', `there is no secret of ${from} to migrate`);
  const named = namer(options.value('below'));
  const targets = secrets.map((secret): Target => ({ ...secret, target: { scope, path: named(secret.name) } }));
  refuseTwins(targets);
  const isDry = options.flag('dry-run');
  const written = await withSeeds(place, options, (open) => {
    const missing = targets.filter((target) => !isThere(open, target));
    for (const target of targets) say(planLine(target, missing.includes(target), isDry));
    if (!isDry) for (const { target, value } of missing) open.folder.write(target, value, open);
    return missing.length;
  });
  warnOfNewlines(targets);
  const moved = `${counted(written, 'secret')} from ${from} to ${scope}`;
  say(isDry ? `would migrate ${moved}; nothing was changed` : `migrated ${moved}; the old ones are unchanged`);
  if (!isDry && written > 0) commit(place, `Migrate ${counted(written, 'secret')} from ${from}`);
  const lines = replacementLines(
    {
      secrets: targets.map(({ target, use }) => ({ name: target.path, use })),
      environments: environments.map((environment) => ({
        ...environment,
        name: named(environment.name),
        variables: environment.variables.map(([key, secret]) => [key, secret === undefined ? secret : named(secret)]),
      })),
      share: scope.startsWith('group/') ? scope.slice('group/'.length) : undefined,
      notes,
    },
    form,
  );
  for (const line of lines) print(line);
  return unread.length > 0 ? exitStatus.vault : 0;
}

/** Why a secret can't be a fixed one; undefined if it can. */
function sizeProblem({ from, value }: FoundSecret): string | undefined {
  if (value.length === 0) return `${from} is empty`;
  return value.length > largestValue ? `${from} has more than ${String(largestValue)} bytes` : undefined;
}

/** Makes names here from names there. */
function namer(below: string | undefined): (name: string) => string {
  return (name) => {
    const made = manifestName([below ?? '', name].join('/'));
    if (made === undefined || made.length > 200)
      throw new Failure('usage', `${JSON.stringify(name)} can't be made the name of a secret`, {
        hint: 'auxcred put stores it under another name',
      });
    return made;
  };
}

/** @throws Failure `refused` for two secrets that would have one name */
function refuseTwins(targets: readonly Target[]): void {
  const known = new Map<string, string>();
  for (const { target, from } of targets) {
    const other = known.get(target.path);
    if (other !== undefined)
      throw new Failure('refused', `${other} and ${from} would both be ${nameText(target)}, so nothing was changed`, {
        hint: 'migrate them in two calls, one with --below=PATH',
      });
    known.set(target.path, from);
  }
}

/**
 * Whether the secret is already here, with the same value.
 * @throws Failure `refused` if there is another value by its name, or one that differs only in case
 */
function isThere({ folder, seedOf, former }: OpenPlace, { target, value, from }: Target): boolean {
  folder.refuseLookalike(target);
  if (!folder.has(target)) return false;
  const old = folder.open(target, seedOf, former);
  const isSame = Buffer.compare(old.value, value) === 0;
  old.value.fill(0);
  if (isSame) return true;
  throw new Failure('refused', `${nameText(target)} exists and is not ${from}, so nothing was changed`, {
    hint: '--below=PATH puts them elsewhere; auxcred rm removes the old one',
  });
}

function planLine({ from, target, value, use }: Target, isMissing: boolean, isDry: boolean): string {
  const verb = isMissing ? (isDry ? 'would put' : 'putting') : 'already there:';
  const units = use.units.length === 0 ? '' : `, for ${use.units.join(', ')}`;
  return `${verb} ${nameText(target)} (${counted(value.length, 'byte')}${units}) from ${from}`;
}

/** As `auxcred put` does: the newline at the end of a single line is rarely meant. */
function warnOfNewlines(targets: readonly Target[]): void {
  const ending = targets.filter(({ value }) => isWholeLine(value));
  if (ending.length === 0) return;
  const names = ending.map(({ target }) => target.path).join(', ');
  warn(`one line that ends with a newline, which was kept: ${names}`, 'auxcred put --line takes a line without it');
}
