/**
 * Debian's own Nix over the NixOS modules that `NIXPKGS_NIXOS` and `NIXPKGS_LIB` name. It runs in the Debian root that
 * machines are layers of, so builders find there what they link to; its store is kept beside that root.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { install } from '../../src/package/layout.ts';
import { cacheFolder, debianRoot } from '../machine/root.ts';
import { type Nixpkgs, nixpkgs } from './nixpkgs.ts';

/** Machines see the store of this folder, read-only. */
export const storeFolder = join(cacheFolder, 'nixos', 'nix', 'store');

/** What NixOS' modules call packages: the stub package set has all of them. */
function packageNames({ nixos }: Nixpkgs): string[] {
  const names = new Set<string>();
  for (const folder of ['modules', 'lib'])
    for (const file of readdirSync(join(nixos, folder), { recursive: true }).map(String)) {
      if (!file.endsWith('.nix')) continue;
      const text = readFileSync(join(nixos, folder, file), 'utf8');
      for (const [, name = ''] of text.matchAll(/pkgs(?:\.| \[? ?")([A-Za-z_][\w-]*)/g)) names.add(name);
      for (const [, list = ''] of text.matchAll(/with pkgs; \[([^\]]*)\]/g))
        for (const [name] of list.matchAll(/[A-Za-z_][\w-]*/g)) names.add(name);
    }
  return [...names].sort();
}

export interface NixResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Where Nix sees the project, and the folders of nixpkgs. */
const inside = { project: '/mnt/project', nixos: '/mnt/nixos', lib: '/mnt/lib', work: '/mnt/work' } as const;

/** A file of the project as Nix sees it, which in a list of modules is an import. */
export const projectFile = (path: string): string => join(inside.project, path);

/** The project's NixOS module. */
export const ourModule = projectFile('nixos/module.nix');

/** Binds what Nix needs into the root, for this process alone, and runs a command there. */
const enterScript = `
root=$1 store=$2 nixos=$3 lib=$4 project=$5 work=$6; shift 6
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/mnt"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root"/mnt/nixos "$root"/mnt/lib "$root"/mnt/project "$root"/mnt/work "$root"/nix
mount --bind "$store" "$root/nix"
mount --bind "$nixos" "$root/mnt/nixos"
mount --bind "$lib" "$root/mnt/lib"
mount --bind "$project" "$root/mnt/project"
mount --bind "$work" "$root/mnt/work"
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 "NIX_CONFIG=$NIX_CONFIG" "$@"
`;

const nixConfig = ['build-users-group =', 'sandbox = false', 'substitute = false', 'experimental-features = '].join(
  '\n',
);

/** Nix with a scratch folder of its own. */
export class Nix {
  readonly #nixpkgs: Nixpkgs;
  readonly #root: string;
  readonly work: string;

  private constructor(found: Nixpkgs, root: string, work: string) {
    this.#nixpkgs = found;
    this.#root = root;
    this.work = work;
  }

  static async start(): Promise<Nix> {
    const found = nixpkgs();
    const root = await debianRoot('nixos');
    const work = mkdtempSync(join(tmpdir(), 'auxcred-nixos-'));
    mkdirSync(join(storeFolder), { recursive: true });
    install({ destination: join(work, 'tree'), prefix: '/auxcred', node: '/usr/bin/node' });
    writeFileSync(join(work, 'names.json'), JSON.stringify(packageNames(found)));
    return new Nix(found, root, work);
  }

  /** Makes a file in the scratch folder. @returns its path as Nix sees it */
  write(name: string, text: string): string {
    writeFileSync(join(this.work, name), text);
    return join(inside.work, name);
  }

  async run(...command: string[]): Promise<NixResult> {
    const child = spawn(
      'unshare',
      [
        ...['--mount', '--pid', '--net', '--fork', '--kill-child', '--', 'sh', '-euc', enterScript, 'sh'],
        ...[this.#root, join(storeFolder, '..'), this.#nixpkgs.nixos, this.#nixpkgs.lib, process.cwd(), this.work],
        ...command,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NIX_CONFIG: nixConfig } },
    );
    const said: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
    child.stdout.on('data', (chunk: Buffer) => said.stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => said.stderr.push(chunk));
    const [status] = await once(child, 'close');
    return {
      status: typeof status === 'number' ? status : -1,
      stdout: Buffer.concat(said.stdout).toString(),
      stderr: Buffer.concat(said.stderr).toString(),
    };
  }

  /** The expression of a NixOS configuration with these modules: Nix text each. */
  #system(modules: readonly string[]): string {
    return `import ${inside.project}/test/nixos/system.nix {
      nixos = ${inside.nixos};
      lib = ${inside.lib};
      names = builtins.fromJSON (builtins.readFile ${inside.work}/names.json);
      tree = ${inside.work}/tree;
      debian = ${JSON.stringify(basename(this.#root))};
      modules = [ ${modules.map((module) => `(${module})`).join('\n')} ];
    }`;
  }

  /**
   * Evaluates an expression, in which `system` is the NixOS configuration, to JSON.
   * @throws Error with Nix's message
   */
  async evaluate(modules: readonly string[], expression: string): Promise<unknown> {
    const { status, stdout, stderr } = await this.run(
      ...['nix-instantiate', '--eval', '--strict', '--json', '--read-write-mode', '--expr'],
      `let system = ${this.#system(modules)}; inherit (system) config; in ${expression}`,
    );
    if (status !== 0) throw new Error(stderr);
    return JSON.parse(stdout);
  }

  /** What Nix says against a configuration; throws if it says nothing. */
  async refusal(modules: readonly string[]): Promise<string> {
    const { status, stderr } = await this.run(
      ...['nix-instantiate', '--expr', `(${this.#system(modules)}).config.system.build.toplevel`],
    );
    if (status === 0) throw new Error('the configuration is accepted');
    return stderr;
  }

  /**
   * Builds a configuration.
   * @returns the path of its toplevel in the store
   */
  async build(modules: readonly string[]): Promise<string> {
    const expression = `(${this.#system(modules)}).config.system.build.toplevel`;
    const name = createHash('sha256').update(expression).digest('hex').slice(0, 16);
    const { status, stdout, stderr } = await this.run(
      ...['nix-build', '--out-link', `/nix/var/auxcred-${name}`, '--expr', expression],
    );
    if (status !== 0) throw new Error(stderr.split('\n').slice(-30).join('\n'));
    return stdout.trim().split('\n').at(-1) ?? '';
  }

  stop(): void {
    rmSync(this.work, { recursive: true, force: true });
  }
}
