// Runs the compiled tests: all of them, or those whose file name contains one of the arguments (`npm test -- broker`).
// --quick leaves out what boots a machine, starts a TPM, builds the program again or starts other programs by the dozen;
// --all runs every case on every version of systemd; --nixos runs the tests of the NixOS module alone, over the nixpkgs
// that two variables name; --vm runs the measured machines alone, those included that only it runs.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));
const folder = join('build', 'test');
const options = process.argv.slice(2).filter((argument) => argument.startsWith('--'));
const names = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const unknown = options.find((option) => !['--quick', '--all', '--nixos', '--vm'].includes(option));
if (unknown !== undefined) {
  console.error(`no option ${unknown}: --quick, --all, --nixos, --vm, and parts of file names`);
  process.exit(2);
}
const onNixos = options.includes('--nixos');
if (onNixos) {
  const { nixpkgs } = await import('../build/test/nixos/nixpkgs.js');
  try {
    nixpkgs();
  } catch (error) {
    console.error(`test:nixos: ${error.message}`);
    process.exit(1);
  }
}
const quick = options.includes('--quick');
const whole = options.includes('--all');
const measured = options.includes('--vm');
if (whole) process.env.AUXCRED_TEST_MATRIX = 'whole';
const underCi = process.env.CI !== undefined;

/** Whether a compiled file imports `target`, directly or through others. */
function reaches(file, target, seen = new Set()) {
  if (file === target) return true;
  if (seen.has(file)) return false;
  seen.add(file);
  const imports = readFileSync(file, 'utf8').matchAll(/^(?:import|export) [^;]*?["'](\.[^"']+\.js)["'];/gm);
  return [...imports].some(([, path]) => reaches(resolve(dirname(file), path), target, seen));
}

const machine = resolve(folder, 'machine', 'machine.js');
const tpm = resolve(folder, 'swtpm.js');
const builds = resolve(folder, 'package', 'built.js');
const boots = (file) => file.startsWith(join(folder, 'measured-boot')) || reaches(resolve(file), machine);
/** These start many processes: hosts that are pushed to, other projects' programs, a shell and Node for each case. */
const starters = [
  'commands/fleet-seed',
  'commands/nixos-rebuild',
  'formats/second-implementation',
  'gokey/gokey',
  'moving-in/moving-in',
  'programs/generator',
  'push/checks',
  'push/copy',
  'push/hostile-host',
  'push/own-secrets',
  'push/push',
];
/** Files that only the whole suite runs: they boot machines, start TPMs or many programs, or build the program again. */
const isThorough = (file) =>
  boots(file) ||
  starters.some((name) => file.endsWith(`${name}.test.js`)) ||
  [tpm, builds].some((module) => reaches(resolve(file), module));
const measuredFile = /^measured-boot\/.*\.(test|vm)\.js$/;
const wanted = onNixos ? /\.nixos\.js$/ : measured ? measuredFile : /\.test\.js$/;
const found = readdirSync(folder, { recursive: true })
  .map(String)
  .filter((file) => wanted.test(file))
  .filter((file) => names.length === 0 || names.some((name) => file.includes(name)))
  .map((file) => join(folder, file))
  .filter((file) => !quick || !isThorough(file))
  .sort();
/** What takes longest comes first, so that no long file is left alone at the end; then machines, which wait much. */
const longest = [
  'measured-boot/life',
  'services/applications',
  'commands/killed',
  'boot/health',
  'boot/restore',
  'boot/rotation',
  'boot/push',
  'boot/tpm',
  'programs/generator',
];
const rank = (file) => {
  const index = longest.findIndex((name) => file.endsWith(`${name}.test.js`));
  return index >= 0 ? index : longest.length + (boots(file) ? 0 : 1);
};
const files = found
  .map((file) => ({ file, at: rank(file) }))
  .sort((one, other) => one.at - other.at)
  .map(({ file }) => file);
if (files.length === 0) {
  console.error(`no test matches ${process.argv.slice(2).join(' ')}`);
  process.exit(1);
}

/** Seconds for work like that of the tests, half of it in the kernel: hashes and processes. */
function calibration() {
  const started = performance.now();
  const block = Buffer.alloc(1 << 20);
  for (let i = 0; i < 256; i++) createHash('sha256').update(block).digest();
  for (let i = 0; i < 16; i++) spawnSync(process.execPath, ['-e', '0']);
  return (performance.now() - started) / 1000;
}

/**
 * Where the calibration takes a second, the whole takes a quarter of this; the matrix is more than twice as much, and
 * the measured machines run one after the other.
 */
const minutesPerSecond = 30;
const mostMinutes = 75;
const minutes = Number(
  process.env.AUXCRED_TEST_MINUTES ??
    Math.min(mostMinutes, Math.ceil(Math.max(1, calibration()) * minutesPerSecond * (whole || measured ? 2 : 1))),
);

const abort = new AbortController();
let stopped;
const stop = (reason) => {
  stopped ??= reason;
  process.exitCode = 1;
  abort.abort();
};
const limit = setTimeout(stop, minutes * 60_000, `stopped after ${minutes} minutes`);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => stop(`stopped by ${signal}`));

// Each file listens to it.
setMaxListeners(0, abort.signal);
// Twice as many as there are cores: much of a boot test is waiting.
const events = run({
  files,
  // One measured machine is on at a time.
  concurrency: measured ? 1 : 2 * Math.max(2, availableParallelism()),
  timeout: minutes * 60_000,
  signal: abort.signal,
});
events.on('test:fail', () => {
  process.exitCode = 1;
});
events.on('test:pass', ({ name, skip, file }) => {
  if (!underCi || skip === undefined) return;
  console.error(`CI may skip nothing: ${name} (${file})`);
  process.exitCode = 1;
});
let ran = 0;
for (const outcome of ['test:pass', 'test:fail'])
  events.on(outcome, ({ details, skip }) => {
    if (details.type !== 'suite' && skip === undefined) ran++;
  });
events.on('end', () => {
  clearTimeout(limit);
  if (onNixos) console.error(`${ran} tests of the NixOS module ran`);
  if (stopped !== undefined) console.error(stopped);
});
events.compose(new spec()).pipe(process.stdout);
