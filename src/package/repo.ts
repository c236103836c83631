/**
 * `npm run repo -- --key=FINGERPRINT`: a signed apt repository of the packages in dist/, and what a machine needs to
 * use it. Run again with a newer version, it keeps the older ones.
 */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import mri from 'mri';
import { publish, sourcesText } from './repository.ts';

const usage =
  'npm run repo -- --key=FINGERPRINT [--url=https://...] [--output=repo] [--valid-days=DAYS] [--dist=dist] [DEB...]';

function stop(message: string): never {
  process.stderr.write(`auxcred: ${message}\nusage: ${usage}\n`);
  process.exit(2);
}

const names = ['key', 'url', 'output', 'valid-days', 'dist'];
const options = mri(process.argv.slice(2), {
  string: names,
  default: { key: '', url: '', output: 'repo', 'valid-days': '', dist: 'dist' },
  unknown: (option) => stop(`${option} is not an option`),
});
const option = (name: string): string | undefined => {
  const value: unknown = [options[name]].flat().at(-1);
  return typeof value === 'string' && value !== '' ? value : undefined;
};

const key = option('key')?.replaceAll(' ', '').toUpperCase();
if (key === undefined || !/^(?:[0-9A-F]{40}|[0-9A-F]{64})$/.test(key))
  stop('--key= takes the whole fingerprint of the key to sign with: gpg --list-secret-keys --with-fingerprint');
const days = option('valid-days');
if (days !== undefined && !/^[1-9]\d{0,3}$/.test(days)) stop(`--valid-days=${days} is not a number of days`);
const folder = resolve(option('output') ?? 'repo');
const url = option('url') ?? `file:${folder}`;
if (!/^(?:https?|file):\/[!-~]+$/.test(url)) stop(`--url=${url} is not a URL that apt reads`);
const dist = option('dist') ?? 'dist';
const packages =
  options._.length > 0
    ? options._
    : readdirSync(dist)
        .filter((name) => name.endsWith('.deb'))
        .sort()
        .map((name) => join(dist, name));
if (packages.length === 0) stop(`there is no package in ${dist}: npm run deb`);

const fixed = process.env['SOURCE_DATE_EPOCH'];
mkdirSync(folder, { recursive: true });
const architectures = publish({
  folder,
  packages,
  key,
  date: fixed === undefined ? Math.floor(Date.now() / 1000) : Number(fixed),
  isDateFixed: fixed !== undefined,
  validDays: days === undefined ? undefined : Number(days),
});
const sources = sourcesText(url);
writeFileSync(join(folder, 'auxcred.sources'), sources);
console.log(`${folder}: ${architectures.join(', ')}, signed by ${key}

A machine needs two files of it. Compare the key's fingerprint by a way that you trust:

    install -D -m 644 auxcred.asc /etc/apt/keyrings/auxcred.asc
    install -D -m 644 auxcred.sources /etc/apt/sources.list.d/auxcred.sources
    apt update && apt install auxcred

auxcred.sources:

${sources}`);
