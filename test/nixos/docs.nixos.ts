/** The Nix of docs/nixos.md and docs/deploying-nixos.md, under NixOS' own modules, as it is written there. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { works } from '../cli.ts';
import { Nix, ourModule } from './nix.ts';

/** The indented blocks of a page, each under its nearest heading; in a block, an empty line ends nothing. */
function blocksIn(page: string): { heading: string; text: string }[] {
  return readFileSync(page, 'utf8')
    .split(/^##+ /m)
    .slice(1)
    .flatMap((section) => {
      const heading = section.split('\n', 1)[0] ?? '';
      return [...section.matchAll(/(?:^ {4}.*\n(?:\n(?= {4}))*)+/gm)].map(([text]) => ({
        heading,
        text: text.replaceAll(/^ {4}/gm, ''),
      }));
    });
}

/** Whether a block is for a shell. */
const isShell = (text: string): boolean => /^(?:\$ |auxcred |systemctl )/.test(text);

const page = blocksIn('docs/nixos.md');
const deploying = blocksIn('docs/deploying-nixos.md');
const under = (blocks: typeof page, heading: string): string[] =>
  blocks.filter((block) => block.heading === heading).map(({ text }) => text);

/** What the page takes for granted: services, and options of other projects. */
const surroundings = `{ config, lib, options, ... }: {
  options.services = {
    backup.keyFile = lib.mkOption { type = lib.types.str; };
  } // lib.optionalAttrs (!(builtins.pathExists /mnt/nixos/modules/services/system/userborn.nix)) {
    userborn.enable = lib.mkOption { type = lib.types.bool; default = false; };
  };
  options.environment.persistence = lib.mkOption { type = lib.types.attrsOf lib.types.anything; };
  config = {
    networking.hostName = "web1";
    users.users.alice = { isSystemUser = true; group = "users"; };
    users.users.backup = { isSystemUser = true; group = "users"; };
    systemd.services = lib.genAttrs [ "web" "backup" "postgresql" ] (_: { script = "true"; });
  };
}`;
const machine = (text: string): string => `{ config, ... }: { auxcred.enable = true; ${text} }`;

describe('the pages for NixOS', () => {
  let nix: Nix;
  let folder = '';
  before(async () => {
    nix = await Nix.start();
    folder = mkdtempSync(join(tmpdir(), 'nixos-docs-'));
  });
  after(() => {
    nix?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** What `expression` is in a configuration that NixOS accepts as a whole. */
  const accepted = async (modules: readonly string[], expression: string): Promise<unknown> =>
    await nix.evaluate(
      [ourModule, surroundings, ...modules],
      `builtins.seq config.system.build.toplevel.drvPath (${expression})`,
    );

  test('have a flake whose configuration has the module', async () => {
    const [flake = '', checkout = ''] = under(page, 'Install');
    nix.write('configuration.nix', '{ imported = true; }');
    nix.write('flake.nix', flake);
    const result = await nix.evaluate(
      [],
      `(import /mnt/work/flake.nix).outputs {
        nixpkgs.lib.nixosSystem = { system, modules }: { inherit system; modules = map (module: toString module) modules; };
        auxcred = (import /mnt/project/flake.nix).outputs { self = null; nixpkgs = { }; };
      }`,
    );
    assert.deepEqual(result, {
      nixosConfigurations: {
        web1: { system: 'x86_64-linux', modules: [ourModule, '/mnt/work/configuration.nix'] },
      },
    });
    assert.equal(await nix.evaluate([checkout.replace('./auxcred', '/mnt/project')], 'config.auxcred.enable'), false);
  });

  test('declare secrets of units', async () => {
    const [declared = ''] = under(page, 'Declare');
    assert.deepEqual(
      await accepted(
        [declared],
        '{ inherit (config.services.backup) keyFile; path = config.auxcred.pathOf "web" "db-password"; ' +
          'token = config.systemd.services.web.auxcred.token.path; }',
      ),
      {
        keyFile: '/run/credentials/backup.service/backup-key',
        path: '/run/credentials/web.service/db-password',
        token: '/run/credentials/web.service/token',
      },
    );
  });

  test('seal by the command that they print', async () => {
    const [seal = '', commands = '', moving = '', reseal = ''] = under(page, 'Seal').flatMap((text) => {
      // An option and a command may follow each other.
      const parts = text.split(/\n\n(?=auxcred )/);
      return parts;
    });
    assert.equal(await accepted([machine(seal)], 'config.auxcred.seal.command'), commands.split('\n')[0]);
    const lines = await accepted([machine(moving)], 'config.systemd.units."auxcred.service".text');
    assert.match(String(lines), /^LoadCredential=ssh-host-key:|^LoadCredential=age-host-key:/m);
    assert.match(String(lines), /^DeviceAllow=char-tpm rw$/m);
    assert.match(reseal, /^auxcred reseal --with-key=tpm2$/m);
  });

  test('give users their passwords, keep what an empty root needs, and reach the initrd', async () => {
    const [users = ''] = under(page, "Users' passwords");
    assert.equal(
      await accepted(
        [machine(`${users} users.allowNoPasswordLogin = true;`)],
        'config.users.users.alice.hashedPasswordFile',
      ),
      '/run/auxcred/files/alice-hash',
    );
    const [kept = ''] = under(page, 'Impermanence');
    await accepted([machine(kept)], 'config.environment.persistence');
    const [initrd = ''] = under(page, 'The initrd');
    assert.deepEqual(
      await accepted(
        [machine(initrd)],
        'config.boot.initrd.systemd.services.unlock-data.serviceConfig.LoadCredentialEncrypted',
      ),
      ['disk-key:/etc/credstore.encrypted/disk-key'],
    );
  });

  test('read public halves from the file that auxcred writes', async () => {
    const [command = '', keys = ''] = under(page, 'Public halves');
    const root = join(folder, 'root');
    const at = (...args: string[]): string[] => [...args, `--root=${root}`];
    const manifest = { secret: { 'backup-key': { kind: 'ssh-ed25519', units: ['backup.service'] } } };
    mkdirSync(join(root, 'etc/auxcred/secrets.d'), { recursive: true });
    writeFileSync(join(root, 'etc/hostname'), 'web1\n');
    writeFileSync(join(root, 'etc/auxcred/secrets.d/web.json'), JSON.stringify(manifest));
    works(at('seal', '--with-key=host', '--no-recovery'));
    const [program, ...args] = command
      .trim()
      .replace(/ > public\.json$/, '')
      .split(' ');
    assert.equal(program, 'auxcred');
    nix.write('public.json', works(at(...args)).stdout);
    const module = machine(`auxcred.publicFile = /mnt/work/public.json; ${keys}`);
    assert.deepEqual(
      await accepted(
        [module],
        '[ config.auxcred.public.backup-key config.users.users.backup.openssh.authorizedKeys.keys ]',
      ),
      Array.from({ length: 2 }, (_, index) => {
        const { stdout } = works(at('public', 'backup-key'));
        return index === 0 ? stdout.trim() : [stdout.trim()];
      }),
    );
    await assert.rejects(
      nix.evaluate([ourModule, module], 'config.auxcred.publicOf "web1" "other"'),
      /no public half of other for web1/,
    );
  });

  test('have no other Nix', () => {
    const headings = page.filter(({ text }) => !isShell(text)).map(({ heading }) => heading);
    assert.deepEqual(
      [...new Set(headings)],
      ['Install', 'Declare', 'Seal', "Users' passwords", 'Impermanence', 'The initrd', 'Public halves'],
    );
    const others = deploying.filter(({ text }) => !isShell(text)).map(({ heading }) => heading);
    assert.deepEqual(others, ['colmena', "Users' secrets"]);
  });

  test('run commands that auxcred has', () => {
    const commands = [...page, ...deploying]
      .flatMap(({ text }) => text.split('\n'))
      .flatMap((line) => [...line.matchAll(/(?:^|\$ |\| |&& )auxcred ([a-z-]+)/g)].map(([, verb = '']) => verb));
    assert.ok(commands.length > 8, commands.join(' '));
    for (const verb of new Set(commands)) works(['help', verb]);
  });
});
