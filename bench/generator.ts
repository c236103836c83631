/** The generator on this machine, in a root folder of its own; it writes to memory, as at boot. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { applyRendering } from '../src/drop-ins/rendered-folder.ts';
import { readManifest } from '../src/manifest/manifest.ts';
import { pathsUnder } from '../src/system/paths.ts';
import { secretToml } from '../test/auxcred-machine.ts';
import { compare, timeCommands } from './report.ts';
import { inScratch } from './scratch.ts';

const peers = ['/usr/lib/systemd/system-generators/', '/lib/systemd/system-generators/'];

/** The installed shell script, changed for another root. */
function installed(path: string, root: string): string {
  const script = readFileSync('generators/auxcred-generator', 'utf8').replaceAll('@root@', root);
  const whole = script.replace('@node@', process.execPath).replace('@libdir@', join(process.cwd(), 'dist'));
  writeFileSync(path, whole, { mode: 0o755 });
  return path;
}

export async function benchGenerator(): Promise<void> {
  await inScratch((folder) => {
    const at = (name: string): string => join(folder, name);
    const manifest = 'etc/auxcred/secrets.d/web.toml';
    mkdirSync(join(at('root'), 'etc/auxcred/secrets.d'), { recursive: true });
    const secrets = Array.from({ length: 20 }, (_, i) => secretToml(`key-${String(i)}`, [`unit-${String(i)}.service`]));
    writeFileSync(join(at('root'), manifest), secrets.join(''));
    applyRendering(pathsUnder(at('root')), readManifest(at('root')));
    cpSync(at('root'), at('changed'), { recursive: true, verbatimSymlinks: true });
    writeFileSync(join(at('changed'), manifest), `${secrets.join('')}\n`);
    for (const name of ['fstab', 'early', 'late', 'fast', 'slow']) mkdirSync(at(name));
    const fstab = peers.map((peer) => `${peer}systemd-fstab-generator`).find(existsSync) ?? '';
    const times = timeCommands(60, {
      fstab: [fstab, at('fstab'), at('early'), at('late')],
      fast: [installed(at('fast-script'), at('root')), at('fast'), at('x'), at('x')],
      slow: [installed(at('slow-script'), at('changed')), at('slow'), at('x'), at('x')],
      node: [process.execPath, '-e', '0'],
    });
    if (readdirSync(at('fast')).length !== 20 || readdirSync(at('slow')).length !== 21)
      throw new Error('the generator did not do its work');
    const peer = 'systemd-fstab-generator';
    compare({ what: 'generator, manifest as applied', took: times.fast, peer, peerTook: times.fstab, goal: 1 });
    compare({
      what: 'generator, manifest changed',
      took: times.slow,
      peer: 'node -e 0',
      peerTook: times.node,
      goal: 1.25,
    });
  });
}
