/**
 * `node build/src/package/install.js [--destdir=DIR] [--prefix=/usr] [--node=/usr/bin/node] [--dist=dist] [--remove]`,
 * after `npm run build`
 */
import { resolve } from 'node:path';
import mri from 'mri';
import { install, remove } from './layout.ts';

const usage = 'install.js [--destdir=DIR] [--prefix=/usr] [--node=/usr/bin/node] [--dist=dist] [--remove]';
/** Paths that the broker's sandbox hides, and from which no unit should run a program. */
const hidden = /^\/(?:home|root|run\/user|tmp|var\/tmp)\//;

function stop(message: string): never {
  process.stderr.write(`auxcred: ${message}\n`);
  process.exit(2);
}

const names = ['destdir', 'prefix', 'node', 'dist'];
const options = mri(process.argv.slice(2), {
  boolean: ['remove'],
  string: names,
  default: { destdir: '/', prefix: '/usr', node: process.execPath, dist: 'dist', remove: false },
  unknown: (option) => stop(`${option} is not an option\nusage: ${usage}`),
});
const [destdir = '', prefix = '', node = '', dist = ''] = names.map((name) => String(options[name]));
if (options._.length > 0) stop(`usage: ${usage}`);
for (const [name, path] of [
  ['prefix', prefix],
  ['node', node],
] as const)
  if (!/^\/[\w./+-]+$/.test(path)) stop(`--${name}=${path} is not an absolute path without spaces`);
if (destdir === '') stop('--destdir is empty');
if (hidden.test(node)) stop(`the broker's sandbox hides ${node} from it\nhint: --node= with a Node below /usr`);

const place = { destination: resolve(destdir), prefix: resolve(prefix) };
if (options['remove'] === true) remove(place);
else for (const path of install({ ...place, dist, node })) console.log(path);
