/**
 * `npm run build`: one CommonJS file for each executable, the parts of the command, koffi's native file, the
 * copyright, manual pages and completion. `--dist=DIR` replaces dist.
 */
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import mri from 'mri';
import { completion, completionFiles, type Shell } from './completion.ts';
import { copyright } from './copyright.ts';
import { bundle, type Executable } from './executable.ts';
import { manPages } from './man-pages.ts';
import { nativeFile } from './native-file.ts';

/** Packages that only the command may contain: the build fails if another executable comes to need one. */
const commandsOnly = [
  'age-encryption',
  '@noble/ciphers',
  '@noble/curves',
  '@noble/hashes',
  '@noble/post-quantum',
  '@scure/base',
  '@scure/bip39',
  'mri',
];
const executables: readonly Executable[] = [
  { name: 'auxcred', entry: 'src/programs/auxcred.ts', command: true, without: [] },
  { name: 'auxcred-broker', entry: 'src/programs/auxcred-broker.ts', without: [...commandsOnly, 'smol-toml'] },
  {
    name: 'auxcred-generator',
    entry: 'src/programs/auxcred-generator.ts',
    without: commandsOnly,
  },
  { name: 'code-cache', entry: 'src/package/code-cache.ts', without: commandsOnly },
];

const dist = String(mri(process.argv.slice(2), { string: ['dist'], default: { dist: 'dist' } })['dist']);
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
// koffi's native file is compiled with node-addon-api's headers, and the bundler adds a few lines of its own.
const inside = new Set(['koffi', 'koffi/vendor/node-addon-api', 'rolldown']);
for (const executable of executables) for (const name of await bundle(executable, dist)) inside.add(name);
copyFileSync(nativeFile(process.arch), join(dist, 'koffi.node'));
chmodSync(join(dist, 'koffi.node'), 0o644);
writeFileSync(join(dist, 'copyright'), copyright(inside));
mkdirSync(join(dist, 'man'));
for (const { name, manual, text } of manPages((path) => readFileSync(path, 'utf8')))
  writeFileSync(join(dist, 'man', `${name}.${String(manual)}`), text);
mkdirSync(join(dist, 'completion'));
const shells: readonly Shell[] = ['bash', 'zsh', 'fish'];
for (const shell of shells)
  writeFileSync(join(dist, 'completion', basename(completionFiles[shell])), completion[shell]());
