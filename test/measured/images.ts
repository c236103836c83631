/** Real PE images: systemd's boot loader and stub, and UKIs made of the stub by objcopy as ukify does. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = '/usr/lib/systemd/boot/efi';
export const bootLoader = join(folder, 'systemd-bootx64.efi');
export const stub = join(folder, 'linuxx64.efi.stub');

export function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** Makes a UKI of sections in a folder of the test. @returns its path, and those of the sections by name */
export function makeUki(
  scratch: string,
  name: string,
  sections: Readonly<Record<string, Uint8Array | string>>,
): { readonly file: string; readonly parts: ReadonlyMap<string, string> } {
  const file = join(scratch, name);
  // Behind the stub's own sections, in pages of their own.
  let address = Number.parseInt(/ImageBase\s+([0-9a-f]+)/.exec(run('objdump', '-p', stub))?.[1] ?? '', 16) + 0x100000;
  const parts = new Map<string, string>();
  const args: string[] = [];
  for (const [section, content] of Object.entries(sections)) {
    const part = join(scratch, `${name}${section}`);
    writeFileSync(part, content);
    parts.set(section, part);
    args.push('--add-section', `${section}=${part}`);
    args.push('--change-section-vma', `${section}=0x${address.toString(16)}`);
    address += Math.ceil(content.length / 4096) * 4096;
  }
  run('objcopy', ...args, stub, file);
  // Signing pads to 8 bytes, which would change the digest.
  truncateSync(file, Math.ceil(statSync(file).size / 8) * 8);
  return { file, parts };
}

/** Makes a key and a certificate for signing images. @returns their paths */
export function makeSigner(scratch: string, name: string): { readonly key: string; readonly certificate: string } {
  const [key, certificate] = [join(scratch, `${name}.key`), join(scratch, `${name}.crt`)];
  run(
    'openssl',
    ...['req', '-new', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '3650'],
    ...['-subj', `/CN=${name}/`, '-keyout', key, '-out', certificate],
  );
  return { key, certificate };
}

/** Signs an image as Secure Boot wants it. @returns the signed one's path */
export function sign(image: string, { key, certificate }: { key: string; certificate: string }): string {
  run('sbsign', '--key', key, '--cert', certificate, '--output', `${image}.signed`, image);
  return `${image}.signed`;
}

export const read = (file: string): Uint8Array => new Uint8Array(readFileSync(file));
