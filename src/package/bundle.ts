/**
 * `npm run build`: one CommonJS file for each executable, koffi's native file, the licences of the bundled packages,
 * manual pages and completion. `--dist=DIR` replaces dist.
 */
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import mri from 'mri';
import { completion, completionFiles, type Shell } from './completion.ts';
import { bundle, type Executable, licencesOf } from './executable.ts';
import { manPages } from './man-pages.ts';

const commandsOnly = ['age-encryption', '@noble/curves', '@noble/post-quantum', '@scure/base', '@scure/bip39', 'mri'];
const executables: readonly Executable[] = [
  { name: 'auxcred', entry: 'src/programs/auxcred.ts', command: true, without: [] },
  { name: 'auxcred-broker', entry: 'src/programs/auxcred-broker.ts', without: [...commandsOnly, 'smol-toml'] },
  {
    name: 'auxcred-generator',
    entry: 'src/programs/auxcred-generator.ts',
    without: [...commandsOnly, '@noble/hashes', '@noble/ciphers'],
  },
];

const dist = String(mri(process.argv.slice(2), { string: ['dist'], default: { dist: 'dist' } })['dist']);
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
// koffi's native file is compiled with node-addon-api's headers.
const inside = new Set(['koffi', 'koffi/vendor/node-addon-api']);
for (const executable of executables) for (const name of await bundle(executable, dist)) inside.add(name);
const platform = `linux-${process.arch}`;
copyFileSync(
  join('node_modules/@koromix', `koffi-${platform}`, platform.replace('-', '_'), 'koffi.node'),
  join(dist, 'koffi.node'),
);
chmodSync(join(dist, 'koffi.node'), 0o644);
writeFileSync(join(dist, 'THIRD-PARTY'), licencesOf(inside));
mkdirSync(join(dist, 'man'));
for (const { name, manual, text } of manPages((path) => readFileSync(path, 'utf8')))
  writeFileSync(join(dist, 'man', `${name}.${String(manual)}`), text);
mkdirSync(join(dist, 'completion'));
const shells: readonly Shell[] = ['bash', 'zsh', 'fish'];
for (const shell of shells)
  writeFileSync(join(dist, 'completion', basename(completionFiles[shell])), completion[shell]());
