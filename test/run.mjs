// Runs the compiled tests: all of them, or those whose file name contains one of the arguments (`npm test -- broker`).
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));
const folder = join('build', 'test');
const names = process.argv.slice(2);
const minutes = Number(process.env.AUXCRED_TEST_MINUTES ?? 38);
const underCi = process.env.CI !== undefined;

const files = readdirSync(folder, { recursive: true })
  .map(String)
  .filter((file) => file.endsWith('.test.js'))
  .filter((file) => names.length === 0 || names.some((name) => file.includes(name)))
  .sort()
  .map((file) => join(folder, file));
if (files.length === 0) {
  console.error(`no test matches ${names.join(' ')}`);
  process.exit(1);
}

const abort = new AbortController();
let stopped;
const stop = (reason) => {
  stopped ??= reason;
  process.exitCode = 1;
  abort.abort();
};
const limit = setTimeout(stop, minutes * 60_000, `stopped after ${minutes} minutes`);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => stop(`stopped by ${signal}`));

// Two machines boot side by side on two cores without slowing each other to the point where time limits matter.
const events = run({
  files,
  concurrency: Math.max(2, availableParallelism()),
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
