// Runs the compiled tests: all of them, or those whose file name contains one of the arguments (`npm test -- broker`).
// --quick leaves out what boots a machine; --all runs every case on every version of systemd; --vm runs the measured
// machines alone, those included that only it runs.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
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
const unknown = options.find((option) => !['--quick', '--all', '--vm'].includes(option));
if (unknown !== undefined) {
  console.error(`no option ${unknown}: --quick, --all, --vm, and parts of file names`);
  process.exit(2);
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
const files = readdirSync(folder, { recursive: true })
  .map(String)
  .filter((file) => (measured ? /^measured-boot\/.*\.(test|vm)\.js$/ : /\.test\.js$/).test(file))
  .filter((file) => names.length === 0 || names.some((name) => file.includes(name)))
  .map((file) => join(folder, file))
  .filter((file) => !quick || !reaches(resolve(file), machine))
  .sort();
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

/** Where the calibration takes a second, the whole takes a quarter of this; the matrix is more than twice as much. */
const minutesPerSecond = 30;
const mostMinutes = 75;
const minutes = Number(
  process.env.AUXCRED_TEST_MINUTES ??
    Math.min(mostMinutes, Math.ceil(Math.max(1, calibration()) * minutesPerSecond * (whole ? 2 : 1))),
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

// One more than there are cores: much of a boot test is waiting.
const events = run({
  files,
  // One measured machine is on at a time.
  concurrency: measured ? 1 : 1 + Math.max(2, availableParallelism()),
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
events.on('end', () => {
  clearTimeout(limit);
  if (stopped !== undefined) console.error(stopped);
});
events.compose(new spec()).pipe(process.stdout);
