/**
 * What `auxcred migrate` prints for NixOS is a configuration that the module takes, and the same as its manifest. sops
 * is a stand-in, and so are the modules of sops-nix and agenix.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { manifestOf } from '../../src/manifest/manifest.ts';
import { works } from '../cli.ts';
import { Nix, ourModule, projectFile } from './nix.ts';

const machine = `{ lib, ... }: {
  auxcred.enable = true;
  systemd.sysusers.enable = true;
  users.mutableUsers = false;
  users.allowNoPasswordLogin = true;
  users.users.postgres = { isSystemUser = true; group = "postgres"; };
  users.groups.postgres = { };
  systemd.services = lib.genAttrs [ "postgresql" "web" ] (_: { script = "true"; });
}`;

describe('moving to the module', () => {
  let nix: Nix;
  let folder = '';
  const at = (path: string): string => join(folder, path);
  const environment = (): NodeJS.ProcessEnv => ({
    PATH: `${at('bin')}:${process.env['PATH'] ?? ''}`,
    HOME: folder,
    AUXCRED_VAULT: at('vault'),
    AUXCRED_IDENTITY: at('identity'),
    SOPS_AGE_KEY_FILE: at('identity'),
  });
  function must(command: string, args: readonly string[], input = ''): Buffer {
    const { status, stdout, stderr } = spawnSync(command, args, { input, env: environment(), cwd: folder });
    assert.equal(status, 0, `${command}: ${stderr.toString()}`);
    return stdout;
  }

  before(async () => {
    nix = await Nix.start();
    folder = mkdtempSync(join(tmpdir(), 'nixos-migrate-'));
    for (const name of ['bin', 'old']) mkdirSync(at(name));
    const standIn = join(import.meta.dirname, '../moving-in/sops-stand-in.js');
    writeFileSync(at('bin/sops'), `#!/bin/sh\nexec ${process.execPath} ${standIn} "$@"\n`);
    chmodSync(at('bin/sops'), 0o755);
    must('age-keygen', ['-o', at('identity')]);
    const recipient = must('age-keygen', ['-y', at('identity')])
      .toString()
      .trim();
    works(['init', `--recipient=${recipient}`], { env: environment() });
    writeFileSync(at('vault/vault.toml'), '[host.web1]\n');
    writeFileSync(at('plain.json'), JSON.stringify({ db: { password: 'p' }, with: 'keyword', wifi: '$' + '{x}' }));
    writeFileSync(
      at('old/web.yaml'),
      must('sops', ['-e', '--age', recipient, '--input-type', 'json', '--output-type', 'yaml', at('plain.json')]),
    );
    writeFileSync(at('old/token.age'), must('age', ['-r', recipient], 'token'));
  });
  after(() => {
    nix?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const inYaml = (key: string, more: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> => ({
    sopsFile: at('old/web.yaml'),
    key,
    format: 'yaml',
    path: `/run/secrets/${key}`,
    ...more,
  });
  const declared = () => ({
    'sops-nix': {
      'db-password': inYaml('db/password', {
        mode: '0440',
        owner: 'postgres',
        group: 'postgres',
        restartUnits: ['postgresql.service', 'web.service'],
      }),
      with: inYaml('with', { path: '/etc/web/with', reloadUnits: ['web.service'] }),
      wifi: inYaml('wifi', { neededForUsers: true }),
    },
    agenix: {
      'web.token': { file: at('old/token.age'), path: '/run/agenix/web.token', owner: 'postgres', mode: '0400' },
    },
  });

  for (const source of ['sops-nix', 'agenix'] as const)
    test(`from ${source}`, async () => {
      writeFileSync(at('declared.json'), JSON.stringify(declared()[source]));
      const migrated = (form: string): string =>
        works(
          [
            ...['migrate', source, `--key=${at('identity')}`, `--declared=${at('declared.json')}`, '--host=web1'],
            `--format=${form}`,
          ],
          { env: environment() },
        ).stdout;
      const [text, options] = [migrated('toml'), migrated('nix')];
      const result = await nix.evaluate(
        [ourModule, projectFile('test/nixos/other-programs.nix'), machine, `{ ${options} }`],
        `builtins.seq config.system.build.toplevel.drvPath
          (builtins.readFile config.environment.etc."auxcred/secrets.d/configuration.json".source)`,
      );
      const plain = (path: string, content: string): unknown =>
        manifestOf([{ path, text: content }])
          .declarations.map(({ file: _, ...declaration }) => declaration)
          .sort((one, other) => (one.name < other.name ? -1 : 1));
      const expected = plain('moved.toml', text);
      assert.deepEqual(plain('moved.json', String(result)), expected);
      assert.equal(Array.isArray(expected) && expected.length, Object.keys(declared()[source]).length);
    });

  test('one secret at a time, beside the modules of sops-nix and agenix', async () => {
    const both = `{ config, ... }: {
      sops.secrets.db = { sopsFile = ./names.json; restartUnits = [ "web.service" ]; };
      age.secrets.db = { file = ./names.json; owner = "postgres"; };
      auxcred.secrets.db.units = [ "web" ];
      auxcred.templates.env = { env.DB = config.auxcred.placeholder.db; units = [ "web" ]; };
      systemd.services.web.serviceConfig = {
        LoadCredential = [ "age:\${config.age.secrets.db.path}" ];
        EnvironmentFile = config.sops.secrets.db.path;
      };
    }`;
    const result = await nix.evaluate(
      [ourModule, projectFile('test/nixos/other-programs.nix'), machine, both.replaceAll('./', '/mnt/work/')],
      `builtins.seq config.system.build.toplevel.drvPath {
        inherit (config.systemd.services.web.serviceConfig) LoadCredential LoadCredentialEncrypted EnvironmentFile;
        placeholders = [ config.sops.placeholder.db config.auxcred.placeholder.db ];
      }`,
    );
    assert.deepEqual(result, {
      LoadCredential: ['age:/run/agenix/db'],
      LoadCredentialEncrypted: ['db:/run/auxcred/encrypted.sock', 'env:/run/auxcred/encrypted.sock'],
      EnvironmentFile: '/run/secrets/db',
      placeholders: ['<SOPS:db>', '{{db}}'],
    });
  });
});
