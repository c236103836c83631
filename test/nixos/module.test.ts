/** nixos/module.nix by itself, with a stand-in for nixpkgs' library, and the page that is made from its options. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, test } from 'node:test';
import { Json } from '../../src/system/json.ts';
import { evaluated } from './expression.ts';

/** Evaluates `result`, in which `made` is the module's configuration. */
const moduleWith = (auxcred: string, services: string, result: string): Json =>
  Json.of(
    evaluated(`
      let made = (import ${resolve('test/nixos/lib.nix')}).evaluated ${resolve('nixos/module.nix')} ${auxcred} ${services};
      in ${result}`),
    'module.nix',
    '',
  );

const textsOf = (json: Json): string[] => json.list().map((item) => item.text());
const declared = `{
  enable = true;
  secrets.db.units = [ "web" ];
  secrets.both = { kind = "hex"; units = [ "web" "other" ]; change = "reload"; };
  templates.env = { env.DB = "{{db}}"; units = [ "web" ]; };
  seal = { withKey = "tpm2"; tpm2Pcrs = [ 7 14 ]; recipients = [ "age1x" ]; };
}`;

describe('the NixOS module', () => {
  test('renders secrets of all three places', () => {
    const made = moduleWith(
      declared,
      '{ web.auxcred.token.kind = "hex"; other.auxcred.token = { }; }',
      `{
        web = made.ofService "web";
        none = made.ofService "none";
        paths = [ made.values.secrets.db.path (made.values.pathOf "other" "both") (made.values.pathOf "web" "web/token") ];
        etc = builtins.attrNames made.environment.etc;
        configuration = made.environment.etc."auxcred/configuration.json".text;
        inherit (made.values.seal) command;
        failed = map ({ message, ... }: message) made.assertions;
        triggers = map (name: made.values.secrets.\${name}.realm) [ "db" "both" ];
      }`,
    );
    const web = made.at('web');
    assert.deepEqual(textsOf(web.at('serviceConfig').at('LoadCredentialEncrypted')), [
      'both:/run/auxcred/encrypted.sock',
      'db:/run/auxcred/encrypted.sock',
      'env:/run/auxcred/encrypted.sock',
      'token:/run/auxcred/encrypted.sock',
    ]);
    const [db = '', both = ''] = textsOf(made.at('triggers'));
    assert.deepEqual(textsOf(web.at('reloadTriggers')), [both]);
    assert.ok(textsOf(web.at('restartTriggers')).includes(db));
    assert.deepEqual(made.at('none').at('serviceConfig').entries(), []);
    assert.deepEqual(textsOf(made.at('paths')), [
      '/run/credentials/web.service/db',
      '/run/credentials/other.service/both',
      '/run/credentials/web.service/token',
    ]);
    assert.ok(textsOf(made.at('etc')).includes('auxcred/secrets.d/configuration.json'));
    assert.deepEqual(JSON.parse(made.at('configuration').text()), {
      version: 1,
      system: 'nixos',
      switch: 'nixos-rebuild switch',
      pins: false,
      hookPath: '/nix/store/systemd/bin:/nix/store/coreutils/bin',
    });
    assert.equal(made.at('command').text(), 'auxcred seal --with-key=tpm2 --tpm2-pcrs=7+14 --recipient=age1x');
    assert.deepEqual(textsOf(made.at('failed')), []);
  });

  test('prepares the seed after systemd-boot and GRUB were installed, unless told otherwise', () => {
    const loaders = '[ made.boot.loader.systemd-boot made.boot.loader.grub ]';
    for (const loader of moduleWith('{ enable = true; }', '{ }', loaders).list())
      assert.match(
        loader.at('extraInstallCommands').text(),
        /^PATH=\S*:\$PATH \/nix\/store\/\S+\/lib\/kernel\/install\.d\/95-auxcred\.install$/,
      );
    const without = moduleWith('{ enable = true; prepareBoots = false; }', '{ }', 'made.boot.loader or { }');
    assert.deepEqual(without.entries(), []);
  });

  for (const [what, auxcred, message] of [
    ['a long name', `{ enable = true; secrets.${'x'.repeat(84)}.units = [ "web" ]; }`, /85|room for 83/],
    ['two ways', '{ enable = true; secrets.a = { restartUnits = [ "a" ]; reloadUnits = [ "b" ]; }; }', /reloadUnits/],
    ['users without a unit', '{ enable = true; secrets.a.neededForUsers = true; }', /userborn/],
    ['the initrd by socket', '{ enable = true; secrets.a.initrdUnits = [ "a" ]; }', /credstore/],
    [
      'a store in an immutable /etc',
      '{ enable = true; immutableEtc = true; secrets.a = { delivery = "credstore"; }; }',
      /immutable/,
    ],
    [
      'an owner that nothing makes',
      '{ enable = true; secrets.a = { delivery = "file"; owner = "ap"; }; }',
      /no user ap/,
    ],
    [
      'a file for users with an owner',
      '{ enable = true; secrets.a = { delivery = "file"; neededFor = "users"; owner = "app"; }; }',
      /before there is a user app/,
    ],
    [
      'a seed that is mounted after users are made',
      '{ enable = true; fileSystems.a.mountPoint = "/var/lib/auxcred"; secrets.a.neededForUsers = true; }',
      /fileSystems\."\/var\/lib\/auxcred"\.neededForBoot/,
    ],
    ['one name twice', '{ enable = true; secrets.a.units = [ "w" ]; secrets.b.name = "a"; }', /declared 2 times/],
  ] as const)
    test(`refuses ${what}`, () => {
      const messages = textsOf(moduleWith(auxcred, '{ }', 'map ({ message, ... }: message) made.assertions'));
      assert.match(messages.join('\n'), message);
    });

  test('says why a secret has no path', () => {
    const path = (secret: string): Json =>
      moduleWith(`{ enable = true; secrets.a = ${secret}; }`, '{ }', 'made.values.secrets.a.path');
    assert.throws(() => path('{ }'), /no unit gets a/);
    assert.throws(() => path('{ units = [ "a" "b" ]; }'), /pathOf \\?"a\.service/);
    assert.throws(() => path('{ units = [ "a@" ]; }'), /%d\/a/);
  });

  test('changes a realm with a declaration, and with those that it is made of', () => {
    const realm = (generation: string): string =>
      moduleWith(
        `{ enable = true; secrets.a = { kind = "hex"; ${generation} }; secrets.h = { kind = "crypt"; of = "a"; }; }`,
        '{ }',
        'made.values.secrets.h.realm',
      ).text();
    assert.equal(realm(''), realm('change = "none";'));
    assert.notEqual(realm(''), realm('generation = 2;'));
  });

  test('a seed that is locked until the next boot has a broker from the start of each', () => {
    const brokerOf = (seal: string): Json =>
      moduleWith(
        `{ enable = true; secrets.db.units = [ "web" ]; seal = ${seal}; }`,
        '{ }',
        `let broker = made.systemd.services.auxcred; in {
          command = made.values.seal.command;
          after = broker.after;
          wantedBy = broker.wantedBy or [ ];
          refuses = broker.unitConfig.RefuseManualStop or "no";
        }`,
      );
    const locked = brokerOf('{ withKey = "tpm2"; lockAfterUnseal = true; tpm2PublicKey = "/run/key.pem"; }');
    assert.equal(
      locked.at('command').text(),
      'auxcred seal --with-key=tpm2 --tpm2-public-key=/run/key.pem --lock-after-unseal --print-words',
    );
    assert.ok(textsOf(locked.at('after')).includes('auxcred-files.service'));
    assert.deepEqual(textsOf(locked.at('wantedBy')), ['sysinit.target']);
    assert.equal(locked.at('refuses').text(), 'yes');
    const free = brokerOf('{ withKey = "tpm2"; }');
    assert.deepEqual([textsOf(free.at('wantedBy')), free.at('refuses').text()], [[], 'no']);
  });

  test('docs/nixos-options.md is what docs/nixos-options.mjs prints', () => {
    const { stdout, stderr } = spawnSync(process.execPath, ['docs/nixos-options.mjs'], { encoding: 'utf8' });
    assert.equal(stderr, '');
    assert.equal(stdout, readFileSync('docs/nixos-options.md', 'utf8'));
  });
});
