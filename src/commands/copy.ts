import { chownSync, cpSync, existsSync, mkdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { utf8 } from '../bytes.ts';
import { placeOf } from '../cli/chosen-folder.ts';
import { chosenVault, withFleetSeed } from '../cli/chosen-vault.ts';
import { Options } from '../cli/options.ts';
import { otherVault } from '../cli/other-vault.ts';
import { sound } from '../cli/sound-manifest.ts';
import { brokerDropIn, mergedDropIn } from '../drop-ins/broker-drop-in.ts';
import { Failure } from '../failure.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { filesIn } from '../manifest/folder.ts';
import { manifestOf } from '../manifest/manifest.ts';
import type { CopyPair } from '../other-vaults/protocol.ts';
import { brokerGroup, planForNewMachine } from '../provision/provision.ts';
import { type Supplies, type Supply, suppliesOf } from '../push/difference.ts';
import { encodePushed } from '../push/pushed.ts';
import { type Enrollment, sealForHost, sealingFor } from '../seeds/enrollment.ts';
import type { Payload, Sealing } from '../seeds/payload.ts';
import { encodePins, pinsOf } from '../seeds/pins.ts';
import { type Scope, wipeScopes } from '../seeds/scope.ts';
import { sealForTransit } from '../seeds/seal.ts';
import { ensureFolder, groupId, linkTarget, replaceFile } from '../system/files.ts';
import { objectionTo } from '../system/held-folder.ts';
import { pathsUnder } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { printJson, printTable, say, warn } from '../terminal/say.ts';
import { readEnrolled } from '../vault/enrolled.ts';
import { enrollCommand } from '../vault/over-ssh.ts';
import { hostOf, scopesOf, type Vault, type VaultHost, vaultFiles, wantedSealing } from '../vault/vault.ts';

/** A file that a deploy tool copies to the host. */
interface Pair extends CopyPair {
  /** Permission bits; undefined to keep the source's. */
  readonly mode?: number;
  /** Owner and group: root's own group, or the broker's. */
  readonly owner?: 'root:root' | 'root:auxcred';
}

/**
 * `auxcred copy HOST`: lists what a deploy tool has to copy to a host that does not exist yet, or of which only the ssh
 * host key does: its sealed seeds, fixed files and manifest. The host seals again, natively, at its first boot.
 * `--to=DIR` copies the files into a folder that becomes the host's root.
 */
export async function copy(argv: readonly string[]): Promise<number> {
  const options = new Options('copy', argv);
  const [name = ''] = options.exactly('the name of a host');
  const vault = chosenVault(options);
  const host = hostOf(vault, name);
  const to = options.value('to');
  const byConfiguration = options.flag('by-configuration');
  const seedsThere = to !== undefined && existsSync(pathsUnder(to).seeds);
  if (seedsThere && !options.flag('no-seeds') && !options.flag('replace'))
    throw new Failure('refused', `${pathsUnder(to).seeds} exists`, {
      hint: '--no-seeds keeps it, --replace overwrites it',
    });
  const pairs = await withFleetSeed(vault, options, async (fleetSeed) => {
    const scopes = scopesOf(vault, host, fleetSeed);
    try {
      // A host's configuration brings its own manifest and units.
      const supplies = suppliesOf(vault, host, scopes, !byConfiguration);
      if (!byConfiguration) judge(vault, host, scopes);
      const seeds = options.flag('no-seeds') ? [] : await sealedPairs(vault, host, scopes, supplies, to);
      const copied = byConfiguration
        ? seeds.filter(({ destination }) => destination !== pathsUnder('/').brokerDropIn)
        : seeds;
      return [...copied, ...filePairs(supplies)];
    } finally {
      wipeScopes(scopes);
    }
  });
  const all = [...pairs, ...otherPairs(vault, host, options)];
  if (to !== undefined) copyInto(to, all);
  if (options.flag('json'))
    printJson({
      pairs: all.map(({ mode, ...pair }) => ({ ...pair, ...(mode === undefined ? {} : { mode: octal(mode) }) })),
    });
  else if (to === undefined)
    printTable([
      ['SOURCE', 'DESTINATION', 'MODE', 'OWNER'],
      ...all.map(({ source, destination, mode, owner }) => [
        source,
        destination,
        mode === undefined ? '-' : octal(mode),
        owner ?? '-',
      ]),
    ]);
  return 0;
}

/**
 * Judges the manifest as far as that is possible without the host, which may have fixed secrets of its own.
 * @throws Failure `invalid-manifest` after printing every error: the host would find them at its first boot
 */
function judge(vault: Vault, host: VaultHost, scopes: readonly Scope[]): void {
  const { declarations } = sound(manifestOf(filesIn(host.manifest)), `auxcred check --host=${host.name}`);
  try {
    const folder = new FixedFolder(vaultFiles(vault.folder).fixed);
    planForNewMachine(declarations, scopes, folder, { at: new Date(), acceptEarlier: false });
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    warn(`with these files alone, ${host.name} can't deliver its secrets: ${error.message}`, error.hint);
  }
}

const octal = (mode: number): string => mode.toString(8).padStart(4, '0');

/**
 * The seeds, and the files that have to go with them. They are written below the vault, so that there are files to
 * copy.
 * @throws Failure
 */
async function sealedPairs(
  vault: Vault,
  host: VaultHost,
  scopes: readonly Scope[],
  supplies: Supplies,
  to: string | undefined,
): Promise<Pair[]> {
  const machine = readEnrolled(vault, host.name)?.machine;
  if (!machine)
    throw new Failure('not-found', `${host.name} is not enrolled, so it is not known which key to seal its seeds to`, {
      hint: `auxcred enroll --root=/mnt | auxcred enroll ${host.name} --from=-, from its installer`,
    });
  const { sealing, bytes } = await sealed(host, machine, scopes);
  const [target, folder] = [pathsUnder('/'), join(vaultFiles(vault.folder).sealed, host.name)];
  const tssGroup = to === undefined || groupId(to, 'tss') !== undefined;
  const dropInFor = (one: Pick<Sealing, 'withKey' | 'device'>): string =>
    brokerDropIn(one, { sshHostKey: machine.sshHostKey !== undefined, tssGroup });
  // Until the first boot the seeds may be sealed to the ssh host key.
  const dropIn = machine.sshHostKey
    ? mergedDropIn(dropInFor({ withKey: 'host', device: undefined }), dropInFor(sealing))
    : dropInFor(sealing);
  const digestsOf = (files: ReadonlyMap<string, Supply>): Map<string, string[]> =>
    new Map([...files].map(([name, { digest }]) => [name, [digest]]));
  const pushed = {
    fixed: digestsOf(supplies.fixed),
    manifest: digestsOf(supplies.manifest ?? new Map()),
    unfinished: true,
  };
  ensureFolder(dirname(folder), { mode: 0o700 });
  ensureFolder(folder, { mode: 0o700 });
  const files: readonly (readonly [string, Uint8Array, string, number, Pair['owner']])[] = [
    ['seeds.age', bytes, target.seeds, 0o640, 'root:auxcred'],
    ['scopes.json', encodePins(pinsOf(scopes, sealing.device)), target.pins, 0o644, 'root:root'],
    ['50-auxcred-seal.conf', utf8(dropIn), target.brokerDropIn, 0o644, 'root:root'],
    // At its first boot the machine seals natively, to its own TPM as it is then.
    ['unbound', utf8(''), target.unbound, 0o644, 'root:root'],
    ['pushed.json', encodePushed(pushed), target.pushed, 0o600, 'root:root'],
  ];
  return files.map(([name, content, destination, mode, owner]) => {
    const source = join(folder, name);
    replaceFile(source, content, { mode: 0o600 });
    return { source, destination, mode, ...(owner === undefined ? {} : { owner }) };
  });
}

/**
 * Seals until the first boot: to the TPM if the host is enrolled with one that it is to use, else to its ssh host key.
 * @throws Failure
 */
async function sealed(
  host: VaultHost,
  machine: Enrollment,
  scopes: readonly Scope[],
): Promise<{ sealing: Sealing; bytes: Uint8Array }> {
  const sealing = sealingFor(wantedSealing(host), machine);
  const payload: Payload = { counter: 1, scopes, sealing };
  if (sealing.withKey === 'host' || machine.tpm) return { sealing, bytes: await sealForHost(payload, machine) };
  if (!machine.sshHostKey)
    throw new Failure('no-recipient', `${host.name} is enrolled with neither an ssh-ed25519 host key nor a TPM`, {
      hint: `ssh-keygen -A there makes a host key; then ${enrollCommand(host, '--replace')}`,
    });
  const atFirstBoot: Sealing = {
    ...sealing,
    pcrs: [],
    pcrsAtFirstBoot: host.pcrs,
    ...((sealing.signed || sealing.pcrlock !== undefined) && { authorityAtFirstBoot: true }),
  };
  return {
    sealing: atFirstBoot,
    bytes: await sealForTransit({ ...payload, sealing: atFirstBoot }, machine.sshHostKey),
  };
}

function filePairs({ fixed, manifest }: Supplies): Pair[] {
  const {
    fixed: folder,
    manifestFolders: [manifests = ''],
  } = pathsUnder('/');
  const files = new FixedFolder(folder);
  return [
    ...[...fixed.values()].map(
      ({ name, source }): Pair => ({
        source,
        destination: files.fileOf(name),
        mode: 0o600,
        owner: 'root:root',
      }),
    ),
    ...[...(manifest ?? [])].map(
      ([name, { source }]): Pair => ({ source, destination: join(manifests, name), mode: 0o644, owner: 'root:root' }),
    ),
  ];
}

/** Files that other vaults need on the host. @throws Failure */
function otherPairs(vault: Vault, host: VaultHost, options: Options): Pair[] {
  const place = placeOf(options);
  return [...vault.others]
    .filter(([, settings]) => settings.type === 'command' && settings.copy !== undefined)
    .flatMap(([name]) => {
      const to = options.value('to');
      if (to !== undefined) warn(`the vault ${name} may have to be copied to ${host.target} by its own command`);
      return otherVault(name, place).copy(host.name, host.target);
    });
}

/** Copies all files into the folder that becomes the host's root. @throws Failure */
function copyInto(to: string, pairs: readonly Pair[]): void {
  if (!statSync(to, { throwIfNoEntry: false })?.isDirectory())
    throw new Failure('not-found', `there is no folder ${to}`, {
      hint: `mkdir ${to}; it becomes the root of the host`,
    });
  if (systemIsRunning(realpathSync(to)))
    throw new Failure('usage', `${to} is the running system`, {
      hint: '--to= takes the future root of another machine; for a running one use auxcred push',
    });
  const paths = pathsUnder(to);
  const group = groupId(to, brokerGroup);
  for (const { destination } of pairs) refuseForeignPlace(to, destination);
  ensureFolder(paths.store, { mode: 0o750, group });
  ensureFolder(paths.fixed, { mode: 0o700 });
  for (const { source, destination, mode, owner } of pairs) {
    const file = join(to, destination);
    if (mode === undefined) cpSync(source, file, { recursive: true, preserveTimestamps: true, filter: withoutLinks });
    else {
      mkdirSync(dirname(file), {
        recursive: true,
        mode: destination.startsWith(pathsUnder('/').fixed) ? 0o700 : 0o755,
      });
      replaceFile(file, new Uint8Array(readFileSync(source)), {
        mode: owner === 'root:auxcred' && group === undefined ? 0o600 : mode,
        group: owner === 'root:auxcred' ? group : undefined,
      });
      if (process.getuid?.() === 0 && (owner !== 'root:auxcred' || group === undefined)) chownSync(file, 0, 0);
    }
  }
  say(`${String(pairs.length)} ${pairs.length === 1 ? 'file is' : 'files are'} in ${to}`);
  if (group === undefined && pairs.some(({ owner }) => owner === 'root:auxcred'))
    warn(
      `${to} has no group ${brokerGroup} yet, so only root can read the seeds`,
      'once auxcred is installed there, a boot or systemd-tmpfiles --create auxcred.conf fixes that',
    );
}

/**
 * Refuses unsafe destinations: a link that leaves the future root would be followed on this machine, and others could
 * redirect a folder that they own.
 * @throws Failure `refused`
 */
function refuseForeignPlace(to: string, destination: string): void {
  if (!destination.startsWith('/') || normalize(destination) !== destination)
    throw new Failure('refused', `${destination} is not a path on the host`, {
      hint: 'an absolute path without . and ..',
    });
  const objection = objectionTo(to, dirname(destination), { owner: 0, links: 'followed' });
  if (objection) throw new Failure('refused', objection.message, { hint: objection.hint });
  refuseLink(join(to, destination));
}

/** Copying over a link would write to its target. @throws Failure `refused` */
function refuseLink(path: string): void {
  const target = linkTarget(path);
  if (target !== undefined)
    throw new Failure('refused', `${path} is a symbolic link to ${target}`, { hint: `rm ${path}` });
}

/** The filter of a copy that takes everything. @throws Failure `refused` for a link at a destination */
function withoutLinks(_source: string, destination: string): true {
  refuseLink(destination);
  return true;
}
