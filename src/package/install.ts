/** `node build/src/package/install.js [--destdir=DIR] [--prefix=/usr] [--node=/usr/bin/node] [--remove]` */
import mri from 'mri';
import { install, remove } from './layout.ts';

const { destdir, prefix, node, remove: removing } = mri(process.argv.slice(2), { boolean: ['remove'], string: ['destdir', 'prefix', 'node'], default: { destdir: '/', prefix: '/usr', node: process.execPath, remove: false } });
const place = { destination: String(destdir), prefix: String(prefix) };
if (removing === true) remove(place);
else for (const path of install({ ...place, node: String(node) })) console.log(path);
