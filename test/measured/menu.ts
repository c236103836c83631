import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { bootLoader, makeUki, read } from './images.ts';

/** Writes a file below a root folder, and the folders above it. */
export const placeIn =
  (root: string) =>
  (path: string, content: Uint8Array | string): void => {
    const file = join(root, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
  };

const conf = (version: string, more = ''): string =>
  `title ${version}\nversion ${version}\nlinux /m/linux\noptions quiet\n${more}`;
const entries: Readonly<Record<string, string>> = {
  'b-1.9.conf': conf('1.9'),
  'b-1.10.conf': conf('1.10'),
  'keyed-1.conf': conf('1', 'sort-key debian\nmachine-id aa\n'),
  'keyed-2.conf': conf('2', 'sort-key debian\nmachine-id aa\n'),
  'other.conf': conf('9', 'sort-key arch\n'),
  'bad+0-3.conf': conf('99', 'sort-key arch\n'),
  'gone.conf': 'title gone\nlinux /m/none\nsort-key aaa\n',
};

/** A system partition, `efi` below the root: entries of every sort, one whose kernel is gone, and a UKI. */
export function placeMenu(root: string): void {
  const place = placeIn(root);
  place('efi/m/linux', read(bootLoader));
  for (const [name, text] of Object.entries(entries)) place(`efi/loader/entries/${name}`, text);
  const { file } = makeUki(root, 'u.efi', {
    '.linux': read(bootLoader),
    '.cmdline': 'quiet',
    '.osrel': 'ID=debian\nNAME=Debian\nPRETTY_NAME="Debian 13"\nVERSION_ID="13"\n',
  });
  place('efi/EFI/Linux/u.efi', read(file));
}
