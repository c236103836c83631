import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { parseOpensshKey } from '../age/openssh-key.ts';
import { brokerGroup, snapshotInForce } from '../deliver/provision.ts';
import { scopeNamePattern } from '../derive/realm.ts';
import { keyId, seedLength } from '../derive/tree.ts';
import { utf8 } from '../derive/framing.ts';
import { Failure } from '../failure.ts';
import { type KeySource, keySources, parseScopes, type Payload, type Sealing } from '../store/payload.ts';
import { encodePins, parsePins, pinsOf } from '../store/pins.ts';
import { openSeeds } from '../store/open.ts';
import { type Locks, sealPayload } from '../store/seal.ts';
import { type Scope, scopeName, wipeScopes } from '../store/scope.ts';
import { brokerDropIn } from '../deliver/broker-drop-in.ts';
import { ensureFolder, groupId, readIfPresent, replaceFile } from '../system/files.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { stopRunning, systemctl, systemIsRunning } from '../system/systemctl.ts';
import { parsePcrs, pcrAdvice, type PcrPolicy, readPcrs, unmeasuredPcrs } from '../tpm2/pcr.ts';
import { openTpm, tpmPresent } from '../tpm2/tpm.ts';
import { tpmVendor } from '../tpm2/vendor.ts';
import { meansOf } from './means.ts';
import { Options } from './options.ts';
import { oneAtATime } from './provision.ts';
import { print, say, warn } from './say.ts';
import { seedOfWords, wordsOf } from './words.ts';

const optionNames = {
  flags: ['no-recovery', 'print-words', 'replace'],
  values: ['with-key', 'tpm2-pcrs', 'tpm2-device', 'root', 'name', 'seed-file', 'scopes'],
  lists: ['recipient'],
};

/** `auxcred seal`: makes this machine's seed, or takes one, and locks it to the machine. */
export async function seal(argv: readonly string[]): Promise<number> {
  const options = new Options('seal', argv, optionNames);
  options.exactly();
  const root = options.value('root') ?? '/';
  const paths = pathsUnder(root);
  refuseExisting(paths, options);
  const means = meansOf(paths, options.value('tpm2-device'));
  const withKey = chosenKey(options.value('with-key') ?? 'host', means.device);
  const pcrs = chosenPcrs(options.value('tpm2-pcrs'), withKey);
  const { scopes, known } = chosenScopes(options, paths);
  const { recovery, printWords } = await chosenRecovery(options, known);

  const sealing: Sealing = { withKey, recovery, pcrs, device: withKey === 'host' ? undefined : means.device };
  return await oneAtATime(root, 'wait', async () => {
    refuseExisting(paths, options);
    // Over what was in force with this seed before, so that the file it replaces can't come back in its place.
    const payload: Payload = { counter: 1 + (snapshotInForce(paths, scopes)?.counter ?? 0), scopes, sealing };
    try {
      const sealed = await withLocks(paths, sealing, async (locks) => await sealPayload(payload, locks));
      // A file that does not open again must not replace one that does.
      const reopened = await openSeeds(sealed, meansOf(paths, means.device));
      wipeScopes(reopened.payload.scopes);
      const before = pinsBefore(paths);
      install(root, paths, payload, sealed);
      for (const scope of scopes) say(`sealed ${scopeName(scope)}${scope.epoch === 1 ? '' : ` (epoch ${String(scope.epoch)})`} to ${withKey}${pcrs.length > 0 ? ` with PCR ${pcrs.join('+')}` : ''}; key id ${Buffer.from(keyId(scope.seed)).toString('hex')}`);
      if (options.flag('replace')) sayReplaced(scopes, before);
      if (printWords) {
        say('write these 24 words down: they are the seed, and this is the only time that they are shown');
        for (const scope of scopes) print(scopes.length === 1 ? wordsOf(scope.seed) : `${scopeName(scope)}: ${wordsOf(scope.seed)}`);
      }
    } finally {
      wipeScopes(scopes);
    }
    return 0;
  });
}

/** @throws Failure `refused` */
function refuseExisting({ seeds }: Paths, options: Options): void {
  if (!existsSync(seeds) || options.flag('replace')) return;
  throw new Failure('refused', `${seeds} exists, and a new seed changes every secret of this machine`, { hint: 'auxcred unseal shows what it holds; --replace seals a new one in its place' });
}

const pinsBefore = (paths: Paths): ReturnType<typeof parsePins>['scopes'] => {
  const file = readIfPresent(paths.pins);
  return file ? parsePins(file, paths.pins).scopes : new Map();
};

/** Which scopes' secrets are new ones now. */
function sayReplaced(scopes: readonly Scope[], before: ReturnType<typeof pinsBefore>): void {
  const fresh = scopes.filter((scope) => Buffer.compare(before.get(scopeName(scope))?.keyId ?? new Uint8Array(0), keyId(scope.seed)) !== 0).map(scopeName);
  say(`${fresh.length === 0 ? 'the secrets stay what they were' : `every secret of ${fresh.join(' and ')} is a new one`}; auxcred apply puts them in force`);
}

/** The scopes to seal: those that the operator gave, or this host's own with a seed that was given or is new. */
function chosenScopes(options: Options, paths: Paths): { scopes: Scope[]; known: boolean } {
  const file = options.value('scopes');
  const given = givenSeed(options.value('seed-file'));
  if (file === undefined) return { scopes: [{ kind: 'host', name: hostName(options.value('name'), paths), epoch: 1, seed: given ?? new Uint8Array(randomBytes(seedLength)) }], known: given !== undefined };
  for (const other of ['seed-file', 'name']) if (options.value(other) !== undefined) throw new Failure('usage', `--scopes and --${other} do not go together`, { hint: 'the scopes have their seeds and names' });
  const bytes = new Uint8Array(readFileSync(file === '-' ? 0 : file));
  try {
    return { scopes: parseScopes(bytes, file === '-' ? 'standard input' : file), known: true };
  } finally {
    bytes.fill(0);
  }
}

/** The scope's name is stored, so that a machine that gets another hostname later keeps its secrets. */
function hostName(given: string | undefined, paths: Paths): string {
  const name = given ?? new TextDecoder().decode(readIfPresent(paths.hostname) ?? new Uint8Array(0)).trim().toLowerCase();
  if (name === '') throw new Failure('usage', `${paths.hostname} is missing or empty, so this machine has no name`, { hint: '--name=web1' });
  if (!scopeNamePattern.test(name)) throw new Failure('usage', `${name} is not usable as a scope name`, { hint: 'lower-case letters, digits and . _ @ + -, as in --name=web1' });
  return name;
}

function chosenKey(text: string, device: string | undefined): KeySource {
  if (text === 'auto') {
    const withKey = tpmPresent(device) ? 'tpm2' : 'host';
    say(`--with-key=auto chose ${withKey}`);
    return withKey;
  }
  const withKey = keySources.find((known) => known === text);
  if (!withKey) throw new Failure('usage', `--with-key=${text} is not known`, { hint: `one of ${keySources.join(', ')}, auto` });
  return withKey;
}

function chosenPcrs(text: string | undefined, withKey: KeySource): number[] {
  if (text === undefined) {
    if (withKey !== 'host') warn('no PCR is bound: whoever boots anything on this machine can open the seed', '--tpm2-pcrs=7+14');
    return [];
  }
  if (withKey === 'host') throw new Failure('usage', '--tpm2-pcrs needs a TPM', { hint: '--with-key=tpm2' });
  const pcrs = parsePcrs(text);
  for (const advice of pcrAdvice(pcrs)) warn(advice);
  return pcrs;
}

function givenSeed(file: string | undefined): Uint8Array | undefined {
  if (file === undefined) return undefined;
  const bytes = new Uint8Array(readFileSync(file === '-' ? 0 : file));
  if (bytes.length === seedLength) return bytes;
  try {
    return seedOfWords(new TextDecoder().decode(bytes));
  } finally {
    bytes.fill(0);
  }
}

/** A new seed that only this machine could open would die with its board, so the way out is asked for up front. */
async function chosenRecovery(options: Options, seedIsKnown: boolean): Promise<{ recovery: string[]; printWords: boolean }> {
  const recovery = options.list('recipient').map(checkedRecipient);
  const printWords = options.flag('print-words');
  if (recovery.length > 0 || printWords || options.flag('no-recovery') || seedIsKnown) return { recovery, printWords };
  const missing = new Failure('usage', 'a new seed needs a way to recover it when this machine dies', { hint: 'one of --recipient=age1..., --print-words (24 words for paper) and --no-recovery' });
  if (!process.stdin.isTTY) throw missing;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = (await terminal.question('age recipient for recovery (empty: show 24 words once): ')).trim();
    return answer === '' ? { recovery: [], printWords: true } : { recovery: [checkedRecipient(answer)], printWords: false };
  } finally {
    terminal.close();
  }
}

function checkedRecipient(text: string): string {
  if (!/^age1[a-z0-9]+$/.test(text)) throw new Failure('usage', `${text.slice(0, 12)} is not an age recipient`, { hint: 'age1..., as age-keygen prints it' });
  return text;
}

/** Runs `work` with what the machine is sealed to; the TPM is closed afterwards. */
async function withLocks<T>(paths: Paths, sealing: Sealing, work: (locks: Locks) => Promise<T>): Promise<T> {
  const sshKey = readIfPresent(paths.sshHostKey);
  const pair = sshKey && parseOpensshKey(sshKey);
  const sshHostKey = pair?.publicKey;
  pair?.seed.fill(0);
  sshKey?.fill(0);
  if (sealing.withKey === 'host') return await work({ sshHostKey, ageHostKey: sshHostKey ? undefined : await ageHostRecipient(paths), tpm: undefined });
  const tpm = await openTpm(sealing.device);
  try {
    const { manufacturer, model, firmware } = await tpmVendor(tpm);
    say(`the TPM is ${manufacturer} ${model}, firmware ${firmware}`);
    const policy: PcrPolicy = await readPcrs(tpm, sealing.pcrs);
    for (const pcr of unmeasuredPcrs(policy)) warn(`PCR ${String(pcr)} has never been extended: nothing that boots is measured into it`);
    return await work({ sshHostKey, ageHostKey: undefined, tpm: { tpm, policy } });
  } finally {
    await tpm.close();
  }
}

async function ageHostRecipient(paths: Paths): Promise<string> {
  const existing = readIfPresent(paths.ageHostKey);
  if (existing) return await identityToRecipient(new TextDecoder().decode(existing).trim());
  const identity = await generateX25519Identity();
  ensureFolder(paths.store, { mode: 0o750, group: groupId('/', brokerGroup) });
  replaceFile(paths.ageHostKey, utf8(`${identity}\n`), { mode: 0o600 });
  warn(`this machine has no ssh host key, so an age identity was made at ${paths.ageHostKey}`);
  return await identityToRecipient(identity);
}

function install(root: string, paths: Paths, { scopes, sealing }: Payload, sealed: Uint8Array): void {
  const group = groupId(root, brokerGroup);
  ensureFolder(paths.store, { mode: 0o750, group });
  ensureFolder(pathOf(paths.pins), { mode: 0o755 });
  ensureFolder(pathOf(paths.brokerDropIn), { mode: 0o755 });
  replaceFile(paths.pins, encodePins(pinsOf(scopes, sealing.device)), { mode: 0o644 });
  replaceFile(paths.brokerDropIn, utf8(brokerDropIn(sealing, { sshHostKey: existsSync(paths.sshHostKey), tssGroup: groupId(root, 'tss') !== undefined })), { mode: 0o644 });
  replaceFile(paths.seeds, sealed, { mode: 0o640, group });
  if (!systemIsRunning(root)) return;
  systemctl('daemon-reload');
  stopRunning('auxcred.service');
}

const pathOf = (file: string): string => file.slice(0, file.lastIndexOf('/'));
