// Prints docs/graph.svg: what `auxcred graph` makes of docs/graph.toml. `node docs/graph.mjs > docs/graph.svg`, after
// `npm run build`.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = mkdtempSync(join(tmpdir(), 'auxcred-graph-'));
try {
  const folder = join(root, 'etc/auxcred/secrets.d');
  mkdirSync(folder, { recursive: true });
  copyFileSync(join(import.meta.dirname, 'graph.toml'), join(folder, 'graph.toml'));
  const program = join(import.meta.dirname, '../dist/auxcred.cjs');
  const args = [program, 'graph', `--root=${root}`, '--format=svg'];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stdout + stderr);
  process.stdout.write(stdout);
} finally {
  rmSync(root, { recursive: true, force: true });
}
