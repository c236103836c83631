/** Repositories of tests: a key of their own, packages of other versions, and what a machine that uses one has. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Finished, program, run, scratch, succeed } from './built.ts';

export interface Signer {
  readonly fingerprint: string;
  /** Runs `npm run repo`'s program with this key. */
  publish(...args: string[]): Finished;
  /** The same at another time, in seconds since 1970. */
  at(date: number): Pick<Signer, 'publish'>;
  [Symbol.dispose](): void;
}

/** When the key was made: before everything that it signs. */
const keyDate = '20200101T000000';

/** A new OpenPGP key in a keyring of its own. */
export function signer(): Signer {
  const home = scratch();
  chmodSync(home.path, 0o700);
  const gpg = ['env', `GNUPGHOME=${home.path}`, 'gpg', '--batch', '--quiet', `--faked-system-time=${keyDate}`];
  const withGpg = (...args: string[]): string => {
    const [command = '', ...options] = gpg;
    return succeed(command, ...options, ...args);
  };
  withGpg('--passphrase', '', '--quick-generate-key', 'auxcred test <test@example.org>', 'ed25519', 'sign', 'never');
  const fingerprint = /^fpr:+([0-9A-F]{40}):$/m.exec(withGpg('--list-keys', '--with-colons'))?.[1] ?? '';
  const publish = (environment: readonly string[], args: readonly string[]): Finished =>
    run(
      'env',
      `GNUPGHOME=${home.path}`,
      ...environment,
      process.execPath,
      program('repo'),
      `--key=${fingerprint}`,
      ...args,
    );
  return {
    fingerprint,
    publish: (...args) => publish([], args),
    at: (date) => ({ publish: (...args) => publish([`SOURCE_DATE_EPOCH=${String(date)}`], args) }),
    [Symbol.dispose]() {
      run('env', `GNUPGHOME=${home.path}`, 'gpgconf', '--kill', 'all');
      home.remove();
    },
  };
}

/** The same package under another version. @returns its path in `folder` */
export function withVersion(deb: string, version: string, folder: string): string {
  const tree = join(folder, 'tree');
  succeed('dpkg-deb', '--raw-extract', deb, tree);
  const control = join(tree, 'DEBIAN/control');
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^Version: .*$/m, `Version: ${version}`));
  const to = join(folder, basename(deb).replace(/_[^_]+_/, `_${version}_`));
  succeed('dpkg-deb', '--root-owner-group', '-Znone', '--build', tree, to);
  rmSync(tree, { recursive: true });
  return to;
}

/** An empty package, such as the Node of another Debian. @returns its path in `folder` */
export function emptyPackage(name: string, version: string, folder: string): string {
  const tree = join(folder, 'tree');
  mkdirSync(join(tree, 'DEBIAN'), { recursive: true });
  const architecture = succeed('dpkg', '--print-architecture').trim();
  const fields = [
    `Package: ${name}`,
    `Version: ${version}`,
    `Architecture: ${architecture}`,
    'Maintainer: auxcred tests <root@localhost>',
    'Description: a stand-in for tests',
  ];
  writeFileSync(join(tree, 'DEBIAN/control'), `${fields.join('\n')}\n`);
  const to = join(folder, `${name}_${version}_${architecture}.deb`);
  succeed('dpkg-deb', '--root-owner-group', '-Znone', '--build', tree, to);
  rmSync(tree, { recursive: true });
  return to;
}

/** The only file of the pool whose name contains this. */
export function pooled(repository: string, part: string): string {
  const pool = join(repository, 'pool/main/a/auxcred');
  const found = readdirSync(pool).filter((name) => name.includes(part));
  if (found.length !== 1) throw new Error(`${part}: ${found.join(', ')}`);
  return join(pool, found[0] ?? '');
}

/** Changes one byte in the middle of a file. @returns a function that changes it back */
export function tamper(path: string): () => void {
  const content = readFileSync(path);
  const changed = Buffer.from(content);
  const middle = changed.length >> 1;
  changed[middle] = (changed[middle] ?? 0) ^ 0x01;
  writeFileSync(path, changed);
  return () => {
    writeFileSync(path, content);
  };
}

/** A web server for a folder, on 127.0.0.1 at a port, as a program for `node -e`. */
export const webServer = (folder: string, port: number): string => `
const { createServer } = require('node:http');
const { createReadStream, statSync } = require('node:fs');
const { join, normalize } = require('node:path');
createServer((request, response) => {
  const path = join(${JSON.stringify(folder)}, normalize('/' + decodeURI(request.url)));
  let size;
  try {
    const status = statSync(path);
    if (status.isFile()) size = status.size;
  } catch {}
  response.writeHead(size === undefined ? 404 : 200, size === undefined ? {} : { 'content-length': size });
  if (size === undefined) response.end();
  else createReadStream(path).pipe(response);
}).listen(${String(port)}, '127.0.0.1');
`;
