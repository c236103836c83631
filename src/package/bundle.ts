/** `npm run build`: one CommonJS file for each executable, koffi's native file and the licences of what is inside. */
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rolldown } from 'rolldown';

interface Executable {
  readonly name: string;
  readonly entry: string;
  /** Packages that it must not load: they take longer than the boot path has. */
  readonly without: readonly string[];
}

const commandsOnly = ['age-encryption', '@noble/curves', '@noble/post-quantum', '@scure/base', '@scure/bip39', 'mri'];
const executables: readonly Executable[] = [
  { name: 'auxcred', entry: 'src/auxcred.ts', without: [] },
  { name: 'auxcred-broker', entry: 'src/deliver/broker.ts', without: [...commandsOnly, 'smol-toml'] },
  { name: 'auxcred-generator', entry: 'src/deliver/generator.ts', without: [...commandsOnly, '@noble/hashes', '@noble/ciphers'] },
];

async function bundle({ name, entry, without }: Executable): Promise<Set<string>> {
  const build = await rolldown({ input: entry, platform: 'node', external: [/^node:/], treeshake: { moduleSideEffects: false }, logLevel: 'warn' });
  const file = `dist/${name}.cjs`;
  const { output } = await build.write({ file, format: 'cjs', minify: true, codeSplitting: false, banner: name === 'auxcred' ? '#!@node@' : '' });
  await build.close();
  const packages = new Set(output.flatMap((part) => (part.type === 'chunk' ? part.moduleIds : [])).flatMap((id) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1] ?? []));
  const heavy = without.filter((wanted) => packages.has(wanted));
  if (heavy.length > 0) throw new Error(`${file} holds ${heavy.join(', ')}, which the boot path has no time for`);
  if (output.length !== 1) throw new Error(`${file} is in ${String(output.length)} parts`);
  return packages;
}

function licences(packages: ReadonlySet<string>): string {
  return [...packages].sort().map((name) => {
    const folder = join('node_modules', name);
    const { version, license } = packageOf(join(folder, 'package.json'));
    const text = ['LICENSE', 'LICENSE.md', 'LICENSE.txt', 'LICENCE'].map((file) => readText(join(folder, file))).find((found) => found !== undefined);
    return `${name} ${version}, ${license}\n\n${text ?? ''}\n`;
  }).join(`${'-'.repeat(72)}\n`);
}

function packageOf(path: string): { version: string; license: string } {
  const content: unknown = JSON.parse(readFileSync(path, 'utf8'));
  const text = (key: string): string => {
    const value: unknown = content !== null && typeof content === 'object' ? Reflect.get(content, key) : undefined;
    return typeof value === 'string' ? value : '';
  };
  return { version: text('version'), license: text('license') };
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

rmSync('dist', { recursive: true, force: true });
mkdirSync('dist');
const inside = new Set(['koffi']);
for (const executable of executables) for (const name of await bundle(executable)) inside.add(name);
const platform = `linux-${process.arch}`;
copyFileSync(join('node_modules/@koromix', `koffi-${platform}`, platform.replace('-', '_'), 'koffi.node'), 'dist/koffi.node');
chmodSync('dist/koffi.node', 0o644);
writeFileSync('dist/THIRD-PARTY', licences(inside));
