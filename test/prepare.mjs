// Brings a Debian machine to where the tests, the demo and the benchmarks can run: packages, node modules, build.
// With --all it also installs what only `npm run test:all` needs.
// Runs before anything is compiled or installed, so it is plain JavaScript on Node's own modules.
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));

/** A library's package carries its ABI, and from Debian 13 on `t64`, in its name: matched, not spelt out. */
const library = (stem) => ({ name: stem, matches: new RegExp(`^${stem}(-[0-9.]+-)?[0-9]+(t64)?$`) });
const program = (name) => ({ name, matches: new RegExp(`^${name}$`) });

const debianPackages = [
  ...[
    'swtpm',
    'tpm2-tools',
    'swtpm-tools',
    'systemd-container',
    'mmdebstrap',
    'debian-archive-keyring',
    'age',
    'openssh-client',
    'openssh-server',
    'iproute2',
    'mount',
    'zstd',
    'whois',
    'wireguard-tools',
    'gokey',
    'openssl',
    'dash',
    'pass',
    'ansible-core',
    'nix-bin',
    'gnupg',
    'git',
    'bsdutils',
    'faketime',
    'perl',
    'python3',
    'prometheus',
    'curl',
    'man-db',
    'groff-base',
    'mandoc',
    'bash-completion',
    'zsh',
    'fish',
    'strace',
    'binutils',
    'sbsigntool',
    'pesign',
    'systemd-boot-efi',
    'apt-utils',
    'xz-utils',
    'gpgv',
    ...(process.argv.includes('--all') ? ['lintian', 'qemu-user-static'] : []),
    'systemd-journal-remote',
    'qemu-system-x86',
    'ovmf',
    'mtools',
    'dosfstools',
    'gdisk',
    'e2fsprogs',
    'efitools',
    'cpio',
  ].map(program),
  ...['esys', 'mu', 'tctildr', 'tcti-swtpm', 'tcti-pcap', 'tcti-device'].map((part) => library(`libtss2-${part}`)),
];

function stop(message) {
  console.error(`prepare: ${message}`);
  process.exit(1);
}

function output(command, ...args) {
  const { error, status, stdout } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 64 << 20 });
  if (error !== undefined) stop(`${command} can't run (${error.code}): these tests need Debian`);
  return status === 0 ? stdout : '';
}

/** Runs quietly, and shows what the command said only if it failed. */
function run(command, args, env = process.env) {
  const { error, status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', env, maxBuffer: 64 << 20 });
  if (error === undefined && status === 0) return;
  process.stderr.write(stdout ?? '');
  process.stderr.write(stderr ?? '');
  stop(`${[command, ...args].join(' ')} failed: ${error?.message ?? `exit status ${status}`}`);
}

function asRoot(command, args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  if (process.getuid() === 0) run(command, args, env);
  else run('sudo', ['--non-interactive', '--preserve-env=DEBIAN_FRONTEND', command, ...args], env);
}

function installDebianPackages() {
  const installed = output('dpkg-query', '-W', '-f', '${db:Status-Status} ${Package}\n')
    .split('\n')
    .filter((line) => line.startsWith('installed '))
    .map((line) => line.slice('installed '.length));
  const missing = debianPackages.filter(({ matches }) => !installed.some((name) => matches.test(name)));
  if (missing.length === 0) return;

  if (process.getuid() !== 0 && spawnSync('sudo', ['--non-interactive', 'true']).status !== 0)
    stop(
      `run as root, or with sudo that asks for no password, to install ${missing.map(({ name }) => name).join(', ')}`,
    );
  asRoot('apt-get', ['update', '-q']);
  const names = missing.map(({ name, matches }) => {
    const candidates = output('apt-cache', 'pkgnames', name)
      .split('\n')
      .filter((candidate) => matches.test(candidate))
      .filter((candidate) => /Candidate: (?!\(none\))/.test(output('apt-cache', 'policy', candidate)));
    return candidates.sort().at(-1) ?? stop(`no Debian package for ${name} in the configured sources`);
  });
  for (const name of names) console.log(`prepare: installing Debian package ${name}`);
  asRoot('apt-get', ['install', '-q', '-y', '--no-install-recommends', ...names]);
}

function installNodeModules() {
  const marker = 'node_modules/.package-lock.json';
  if (existsSync(marker) && statSync(marker).mtimeMs >= statSync('package-lock.json').mtimeMs) return;
  console.log('prepare: installing node modules');
  run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
}

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) stop(`Node ${process.versions.node} is too old, 20.19 is needed`);
installDebianPackages();
installNodeModules();
run('npm', ['run', '--silent', 'deb']);
