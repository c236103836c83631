/** A fixed folder of 10,000 secrets, beside one of 10 and beside a password store of the same size. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { compare, timeCommands } from './report.ts';
import { auxcred, inScratch, must, run } from './scratch.ts';

/** The folder of secret number `i`: each has a hundred. */
const folderOf = (i: number): string => `d${String(Math.floor(i / 100))}`;

export async function benchFixed(): Promise<void> {
  await inScratch((folder) => {
    const at = (path: string): string => join(folder, path);
    const environment = {
      HOME: folder,
      GNUPGHOME: at('gnupg'),
      PASSWORD_STORE_DIR: at('store'),
      AUXCRED_IDENTITY: at('identity'),
    };
    try {
      must('age-keygen', ['-o', at('identity')]);
      for (const size of [10, 2500, 10_000]) makeVault(folder, size, environment);
      makePasswordStore(folder, environment);
      const vault = (size: number, ...args: readonly string[]): string[] =>
        auxcred(...args, `--vault=${at(String(size))}`);
      const times = timeCommands(
        11,
        {
          ls: vault(10_000, 'ls'),
          passLs: ['pass', 'ls'],
          get: vault(10_000, 'get', 'host/web1/d0/secret-0'),
          getOfTen: vault(10, 'get', 'host/web1/d0/secret-0'),
          passShow: ['pass', 'show', 'd0/secret-0'],
        },
        environment,
      );
      const checks = timeCommands(3, { all: vault(10_000, 'verify'), quarter: vault(2500, 'verify') }, environment);
      const get = { what: 'get, of 10,000 fixed secrets', took: times.get };
      compare({ what: 'ls, 10,000 fixed secrets', took: times.ls, peer: 'pass ls', peerTook: times.passLs });
      compare({ ...get, peer: 'pass show', peerTook: times.passShow });
      compare({ ...get, peer: 'of 10', peerTook: times.getOfTen, goal: 1.15 });
      compare({
        what: 'verify, 10,000 fixed secrets',
        took: checks.all,
        peer: '2,500 fixed secrets',
        peerTook: checks.quarter,
        goal: 4.4,
      });
      compare({
        what: 'verify, each of 10,000',
        took: checks.all / 10_000,
        peer: 'pass show',
        peerTook: times.passShow,
        goal: 1,
      });
    } finally {
      spawnSync('gpgconf', ['--kill', 'all'], { env: { PATH: process.env['PATH'], ...environment } });
    }
  });
}

function makeVault(folder: string, size: number, environment: NodeJS.ProcessEnv): void {
  const vault = join(folder, String(size));
  const plain = join(folder, `plain-${String(size)}`);
  for (let i = 0; i < size; i++) {
    if (i % 100 === 0) mkdirSync(join(plain, folderOf(i)), { recursive: true });
    writeFileSync(join(plain, folderOf(i), `secret-${String(i)}`), `value ${String(i)}`);
  }
  const recipient = must('age-keygen', ['-y', join(folder, 'identity')]);
  run(auxcred('init', `--recipient=${recipient}`, `--vault=${vault}`), environment);
  writeFileSync(join(vault, 'vault.toml'), '[host.web1]\n');
  run(auxcred('import', plain, 'host/web1', `--vault=${vault}`), environment);
}

function makePasswordStore(folder: string, environment: NodeJS.ProcessEnv): void {
  mkdirSync(join(folder, 'gnupg'), { mode: 0o700 });
  must('gpg', ['--batch', '--quiet', '--passphrase', '', '--quick-gen-key', 'bench@example.org'], environment);
  must('pass', ['init', 'bench@example.org'], environment);
  must('pass', ['insert', '-e', 'd0/secret-0'], environment, 'value 0\n');
  const encrypted = readFileSync(join(folder, 'store/d0/secret-0.gpg'));
  for (let i = 0; i < 10_000; i++) {
    mkdirSync(join(folder, 'store', folderOf(i)), { recursive: true });
    writeFileSync(join(folder, 'store', folderOf(i), `secret-${String(i)}.gpg`), encrypted);
  }
}
