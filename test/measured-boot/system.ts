import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lock } from '../machine/lock.ts';
import { cacheFolder, debianMirror, execute, nodePackage } from '../machine/root.ts';

/** The scripts lie beside the sources, not beside what the compiler made of this file. */
const scripts = join(dirname(fileURLToPath(import.meta.url)), '../../../test/measured-boot');
export const script = (name: string): string => join(scripts, name);

/** What a measured boot needs of Debian. No message bus and no login: they take seconds where nothing runs natively. */
const packages = [
  'passwd',
  'systemd',
  'systemd-sysv',
  'udev',
  'kmod',
  'procps',
  'systemd-boot-efi',
  'systemd-boot-tools',
  'systemd-ukify',
  'python3-pefile',
  'tpm2-tools',
  'libstdc++6',
  'libtss2-esys-3.0.2-0t64',
  'libtss2-mu-4.0.1-0t64',
  'libtss2-rc0t64',
  'libtss2-tctildr0t64',
  'libtss2-tcti-device0t64',
];

/** Raise it if something changes that neither the list nor the scripts show. */
const layout = 2;

const hashOf = (...parts: readonly (string | Uint8Array)[]): string => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(String(part.length)).update(part);
  return hash.digest('hex').slice(0, 12);
};

/** A digest of what is in files. */
export const fileHash = (...files: readonly string[]): string => hashOf(...files.map((file) => readFileSync(file)));

const textOf = (name: string): string => readFileSync(script(name), 'utf8');

/** What all measured machines have in common, in a folder of the cache. */
export interface MeasuredSystem {
  /** A Debian root with kernel, test agent and probes, without auxcred. Read-only by convention. */
  readonly root: string;
  /** Folder of the images, `NAME.efi`, and of the keys that signed them, `pcr.pub` and so on. */
  readonly folder: string;
}

/** Makes a folder of the cache unless it is there, once for all processes. `make` writes into an unfinished one. */
export async function cached(kind: string, hash: string, make: (folder: string) => Promise<void>): Promise<string> {
  const folder = join(cacheFolder, `${kind}-${hash}`);
  if (existsSync(folder)) return folder;
  mkdirSync(cacheFolder, { recursive: true, mode: 0o755 });
  await using _lock = await lock(join(cacheFolder, `${kind}.lock`));
  if (existsSync(folder)) return folder;
  const started = Date.now();
  console.error(`making ${kind} in ${cacheFolder}, once`);
  for (const old of readdirSync(cacheFolder).filter((name) => name.startsWith(`${kind}-`)))
    rmSync(join(cacheFolder, old), { recursive: true, force: true });
  const unfinished = `${folder}.unfinished`;
  mkdirSync(unfinished);
  await make(unfinished);
  renameSync(unfinished, folder);
  console.error(`made ${kind} in ${String(Math.round((Date.now() - started) / 1000))} s`);
  return folder;
}

async function makeRoot(folder: string): Promise<void> {
  const proxy = spawnSync('apt-config', ['dump', 'Acquire::http::Proxy'], { encoding: 'utf8' }).stdout.trim();
  await execute('mmdebstrap', [
    '--quiet',
    '--mode=root',
    '--variant=essential',
    '--format=directory',
    `--include=${packages.join(',')}`,
    '--aptopt=Acquire::Check-Valid-Until "false"',
    ...(proxy === '' ? [] : [`--aptopt=${proxy}`]),
    // Nobody needs a root whose making was interrupted.
    '--dpkgopt=force-unsafe-io',
    '--dpkgopt=path-exclude=/usr/share/doc/*',
    '--dpkgopt=path-exclude=/usr/share/man/*',
    '--dpkgopt=path-exclude=/usr/share/locale/*',
    // Debian's own takes three times as long to start: ten seconds of an emulated processor.
    `--customize-hook=dpkg --root="$1" --install ${await nodePackage()}`,
    // Installed, it would make an initrd of its own.
    `--customize-hook=${script('kernel.sh')} "$1"`,
    `--customize-hook=${script('customize.sh')} "$1" ${scripts}`,
    'trixie',
    folder,
    `deb ${debianMirror()} trixie main`,
  ]);
}

/** How an image differs from the one that the machine is installed with. */
interface Image {
  readonly commandLine?: string;
  /** The initrd has one file more. */
  readonly otherInitrd?: true;
  /** The kernel is another build. */
  readonly otherKernel?: true;
  /** Who signs the values of PCR 11; nobody if undefined. */
  readonly pcrKey?: 'pcr' | 'stranger';
  /** It carries the signatures of the installed image. */
  readonly copiedSignatures?: true;
  /** Signed for Secure Boot. */
  readonly secureBoot?: true;
}

/** What guards a real processor costs most on an emulated one: each entry into the kernel would flush its TLB. */
const withoutGuards = 'mitigations=off no5lvl';

const commandLine = [
  'console=ttyS0 8250.nr_uarts=1 root=PARTLABEL=root rw quiet systemd.show_status=no',
  withoutGuards,
].join(' ');

const images = {
  installed: { pcrKey: 'pcr', secureBoot: true },
  updated: { pcrKey: 'pcr', secureBoot: true, commandLine: `${commandLine} auxcred.test=updated` },
  'new-kernel': { pcrKey: 'pcr', secureBoot: true, otherKernel: true },
  /** What somebody with the disk, but without a key, can make: another command line under the owner's signatures. */
  'other-command-line': { commandLine: `${commandLine} auxcred.test=tampered`, copiedSignatures: true },
  unsigned: { commandLine: `${commandLine} auxcred.test=unsigned` },
  'other-initrd': { pcrKey: 'stranger', otherInitrd: true },
} as const satisfies Record<string, Image>;

export type ImageName = keyof typeof images;

const phases = [
  'enter-initrd:leave-initrd',
  'enter-initrd:leave-initrd:sysinit',
  'enter-initrd:leave-initrd:sysinit:ready',
];

async function makeImages(root: string, folder: string): Promise<void> {
  await execute(script('keys.sh'), [folder]);
  await execute(script('initrd.sh'), [root, folder]);
  writeFileSync(join(folder, 'other-kernel'), otherBuild(join(root, 'boot/vmlinuz'), '#1 SMP', '#2 SMP'));
  for (const [name, image] of Object.entries<Image>(images)) {
    const text = join(folder, `${name}.cmdline`);
    writeFileSync(text, image.commandLine ?? commandLine);
    await execute(script('ukify.sh'), [
      root,
      folder,
      `--initrd=/mnt/${image.otherInitrd ? 'other-initrd' : 'initrd'}.img`,
      `--cmdline=@/mnt/${name}.cmdline`,
      ...(image.otherKernel ? ['--linux=/mnt/other-kernel'] : []),
      ...(image.pcrKey === undefined
        ? []
        : [
            `--pcr-private-key=/mnt/${image.pcrKey}.key`,
            `--pcr-public-key=/mnt/${image.pcrKey}.pub`,
            `--phases=${phases.join(' ')}`,
          ]),
      ...(image.copiedSignatures
        ? ['pcrsig', 'pcrpkey'].map((section) => `--section=.${section}:@/mnt/installed.${section}`)
        : []),
      `--output=/mnt/${name}.efi`,
    ]);
    if (name === 'installed')
      for (const section of ['pcrsig', 'pcrpkey'])
        await execute('objcopy', [
          `--dump-section=.${section}=${join(folder, `${name}.${section}`)}`,
          join(folder, `${name}.efi`),
          join(folder, 'copy.efi'),
        ]);
    if (image.secureBoot) await execute(script('sign.sh'), [folder, join(folder, `${name}.efi`)]);
  }
  const loader = join(root, 'usr/lib/systemd/boot/efi/systemd-bootx64.efi');
  await execute('cp', [loader, join(folder, 'loader.efi')]);
  writeFileSync(join(folder, 'new-loader.efi'), otherBuild(loader, 'systemd-boot 257', 'systemd-boot 258'));
  for (const name of ['loader', 'new-loader']) await execute(script('sign.sh'), [folder, join(folder, `${name}.efi`)]);
}

/** A program that says to be another build of itself, and so has another digest: it runs as before. */
function otherBuild(file: string, from: string, to: string): Uint8Array {
  const text = readFileSync(file, 'latin1');
  if (!text.includes(from) || from.length !== to.length) throw new Error(`${file}: no ${from}`);
  return Buffer.from(text.replaceAll(from, to), 'latin1');
}

/** The cached root and images, made if they are missing: two minutes and a mirror. */
export async function measuredSystem(): Promise<MeasuredSystem> {
  const rootHash = hashOf(
    JSON.stringify([layout, packages]),
    ...['kernel.sh', 'customize.sh', 'agent.sh', 'probe.sh'].map(textOf),
  );
  const root = await cached('measured-root', rootHash, makeRoot);
  const imagesHash = hashOf(
    rootHash,
    JSON.stringify([images, commandLine, phases]),
    ...['keys.sh', 'initrd.sh', 'ukify.sh', 'sign.sh'].map(textOf),
  );
  const folder = await cached('measured-images', imagesHash, async (made) => await makeImages(root, made));
  return { root, folder };
}
