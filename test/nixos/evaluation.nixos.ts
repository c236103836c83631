import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { renderUnits } from '../../src/drop-ins/rendering.ts';
import { manifestOf } from '../../src/manifest/manifest.ts';
import { Nix, ourModule } from './nix.ts';

/** What the module adds to a unit beside the program's lines: a change of these restarts the unit in a switch. */
const triggers = /^X-(?:Restart|Reload)-Triggers$/;

type Sections = Map<string, Map<string, string[]>>;

/** The words of each setting of a unit, by section and key, as lists: systemd reads repeated lines as one list. */
function settingsOf(text: string): Sections {
  const sections: Sections = new Map();
  let current = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const [, section] = /^\[(\w+)\]$/.exec(line) ?? [];
    const [, key, value = ''] = /^([\w-]+)=(.*)$/.exec(line) ?? [];
    if (section !== undefined) {
      current = sections.get(section) ?? new Map();
      sections.set(section, current);
    } else if (key !== undefined) {
      const words = ['Wants', 'After'].includes(key) ? value.split(' ') : [value];
      current.set(key, [...(current.get(key) ?? []), ...words]);
    }
  }
  return sections;
}

const web = `systemd.services.web = { script = "true"; wantedBy = [ "multi-user.target" ]; };`;
const enabled = (rest: string): string[] => [
  ourModule,
  `{ config, lib, pkgs, ... }: { auxcred.enable = true; ${rest} }`,
];

describe("the module under NixOS' own modules", () => {
  let nix: Nix;
  before(async () => {
    nix = await Nix.start();
  });
  after(() => nix?.stop());

  const unit = async (modules: readonly string[], name: string): Promise<string> =>
    String(await nix.evaluate(modules, `config.systemd.units.${JSON.stringify(name)}.text`));

  test('adds to each unit what the program would render', async () => {
    const secrets = {
      db: { kind: 'password', units: ['web', 'worker@'] },
      token: { kind: 'hex', units: ['web'], delivery: 'stage' },
      'web/key': { kind: 'ssh-ed25519', units: ['web'], rotate: 'monthly', previous: true },
      cert: { kind: 'fixed', units: ['other'], delivery: 'credstore' },
      file: { kind: 'base64', units: ['other'], delivery: 'file', owner: 'root' },
    };
    const modules = enabled(`
      auxcred.secrets = builtins.fromJSON ''${JSON.stringify(secrets)}'';
      ${web}
      systemd.services.other.script = "true";
      systemd.services."worker@".script = "true";
    `);
    const result = await nix.evaluate(
      modules,
      `{
        manifest = builtins.readFile config.environment.etc."auxcred/secrets.d/configuration.json".source;
        units = builtins.mapAttrs (_: unit: unit.text) config.systemd.units;
        library = "\${config.auxcred.package}/lib/auxcred";
      }`,
    );
    const { manifest, units, library } = result as { manifest: string; units: Record<string, string>; library: string };
    const rendered = renderUnits(
      manifestOf([{ path: '/etc/auxcred/secrets.d/configuration.json', text: manifest }]).declarations,
    );
    assert.deepEqual([...rendered.keys()].sort(), [
      'other.service',
      'sysinit.target',
      'web.service',
      'worker@.service',
    ]);
    for (const [name, dropIn] of rendered) {
      const settings = settingsOf(units[name] ?? '');
      for (const [section, keys] of settingsOf(dropIn))
        for (const [key, values] of keys) {
          const actual = settings.get(section)?.get(key) ?? [];
          const expected = values.map((value) =>
            value.replaceAll('/usr/lib/auxcred', library).replaceAll('/bin/rm', '/usr/bin/rm'),
          );
          assert.deepEqual(
            actual.filter((value) => expected.includes(value)),
            [...new Set(expected)],
            `${name} [${section}] ${key}: ${actual.join(' | ')}`,
          );
        }
    }
    assert.ok(
      [
        ...(settingsOf(units['web.service'] ?? '')
          .get('Unit')
          ?.keys() ?? []),
      ].some((key) => triggers.test(key)),
    );
  });

  test("leaves a unit's own credentials, and those of a service of NixOS, beside its secrets", async () => {
    const modules = enabled(`
      auxcred.secrets.db = { kind = "hex"; units = [ "web" "systemd-journal-gatewayd" ]; };
      ${web}
      systemd.services.web.serviceConfig.LoadCredential = [ "own:/etc/own" ];
      systemd.services.web.serviceConfig.LoadCredentialEncrypted = [ "sealed:/etc/sealed" ];
      services.grafana-image-renderer.enable = false;
      services.journald.gateway = { enable = true; cert = "/etc/cert"; key = "/etc/key"; };
    `);
    const own = settingsOf(await unit(modules, 'web.service')).get('Service');
    assert.deepEqual(own?.get('LoadCredential'), ['own:/etc/own']);
    assert.deepEqual([...(own?.get('LoadCredentialEncrypted') ?? [])].sort(), [
      'db:/run/auxcred/encrypted.sock',
      'sealed:/etc/sealed',
    ]);
    const gateway = settingsOf(await unit(modules, 'systemd-journal-gatewayd.service')).get('Service');
    assert.deepEqual(gateway?.get('LoadCredentialEncrypted'), ['db:/run/auxcred/encrypted.sock']);
    assert.ok((gateway?.get('LoadCredential') ?? []).length > 0 || gateway?.has('ExecStart'), 'NixOS its own lines');
  });

  test('tells the path of a secret where other options can read it', async () => {
    const modules = enabled(`
      auxcred.secrets.db = { kind = "password"; units = [ "web" ]; };
      auxcred.secrets.both = { kind = "password"; units = [ "web" "other" ]; };
      auxcred.secrets.user = { kind = "crypt"; of = "db"; delivery = "file"; };
      ${web}
      systemd.services.other.script = "true";
      environment.etc."web.conf".text = "passwordFile = \${config.auxcred.secrets.db.path}";
      systemd.services.web.environment.OTHER = config.auxcred.pathOf "web" "both";
      systemd.services.web.environment.USER_FILE = config.auxcred.secrets.user.path;
    `);
    assert.equal(
      await nix.evaluate(modules, 'config.environment.etc."web.conf".text'),
      'passwordFile = /run/credentials/web.service/db',
    );
    const environment =
      settingsOf(await unit(modules, 'web.service'))
        .get('Service')
        ?.get('Environment') ?? [];
    assert.ok(environment.includes('"OTHER=/run/credentials/web.service/both"'), environment.join('\n'));
    assert.ok(environment.includes('"USER_FILE=/run/auxcred/files/user"'), environment.join('\n'));
    await assert.rejects(nix.evaluate(modules, 'config.auxcred.secrets.both.path'), /pathOf/);
  });

  test('takes secrets that stand on the unit, without recursion', async () => {
    const modules = enabled(`
      ${web}
      systemd.services.web.auxcred.token = { kind = "hex"; };
      systemd.services.web.serviceConfig.Environment = "TOKEN=\${config.systemd.services.web.auxcred.token.path}";
    `);
    const service = settingsOf(await unit(modules, 'web.service')).get('Service');
    assert.deepEqual(service?.get('LoadCredentialEncrypted'), ['token:/run/auxcred/encrypted.sock']);
    const manifest = await nix.evaluate(
      modules,
      'builtins.fromJSON (builtins.readFile config.environment.etc."auxcred/secrets.d/configuration.json".source)',
    );
    assert.match(JSON.stringify(manifest), /"web\/token":\{[^}]*"units":\["web.service"\]/);
  });

  test('knows what people write who come from sops-nix', async () => {
    const modules = enabled(`
      auxcred.secrets.a = { kind = "hex"; restartUnits = [ "web.service" ]; };
      auxcred.secrets.b = { kind = "hex"; reloadUnits = [ "other.service" ]; };
      ${web}
      systemd.services.other.script = "true";
    `);
    for (const [name, id] of [
      ['web.service', 'a'],
      ['other.service', 'b'],
    ] as const)
      assert.deepEqual(
        settingsOf(await unit(modules, name))
          .get('Service')
          ?.get('LoadCredentialEncrypted'),
        [`${id}:/run/auxcred/encrypted.sock`],
      );
  });

  const bad: readonly (readonly [string, string, RegExp])[] = [
    [
      'a unit and an id that are too long for the socket',
      `auxcred.secrets.${'x'.repeat(60)} = { kind = "hex"; units = [ "${'u'.repeat(40)}" ]; }; ` +
        `systemd.services.${'u'.repeat(40)}.script = "true";`,
      /secret\.x{60}/,
    ],
    ['an unknown kind', `auxcred.secrets.db.kind = "hexx";`, /auxcred\.secrets\.db\.kind/],
    [
      "another kind's key",
      `auxcred.secrets.db = { kind = "hex"; words = 5; units = [ "web" ]; }; ${web}`,
      /secret\.db\.words|words/,
    ],
    [
      'a cycle',
      'auxcred.templates.a = { content = "{{b}}"; units = [ "web" ]; }; ' +
        `auxcred.templates.b = { content = "{{a}}"; units = [ "web" ]; }; ${web}`,
      /secret\.[ab]/,
    ],
    [
      'a name in a template that nothing has',
      `auxcred.templates.a = { content = "{{nobody}}"; units = [ "web" ]; }; ${web}`,
      /nobody/,
    ],
    [
      'the hash of nothing',
      `auxcred.secrets.h = { kind = "crypt"; of = "nobody"; units = [ "web" ]; }; ${web}`,
      /nobody/,
    ],
    [
      'two secrets for one id',
      `auxcred.secrets.a = { credential = "x"; units = [ "web" ]; }; auxcred.secrets.b = { credential = "x"; units = [ "web" ]; }; ${web}`,
      /secret\.[ab]/,
    ],
    [
      'a unit that the broker waits for',
      `auxcred.secrets.a = { units = [ "systemd-journald" ]; };`,
      /systemd-journald/,
    ],
    [
      'two ways to tell units',
      `auxcred.secrets.a = { restartUnits = [ "web.service" ]; reloadUnits = [ "web.service" ]; }; ${web}`,
      /reloadUnits/,
    ],
    [
      'a file for users that an activation script makes',
      `auxcred.secrets.a = { neededForUsers = true; };`,
      /userborn|sysusers/,
    ],
  ];
  for (const [what, text, message] of bad)
    test(`refuses ${what}`, async () => {
      const said = await nix.refusal(enabled(text));
      assert.match(said, message);
      assert.doesNotMatch(said, /infinite recursion|attribute '.*' missing/);
    });

  test('refuses a unit that nothing defines when the system is built', async () => {
    await assert.rejects(
      nix.build(enabled('auxcred.secrets.a = { kind = "hex"; units = [ "wbe" ]; };')),
      /wbe\.service.*nothing defines/,
    );
  });

  test('does nothing until it is enabled', async () => {
    const texts = await nix.evaluate([ourModule, `{ ${web} }`], 'builtins.attrNames config.systemd.units');
    assert.ok(!JSON.stringify(texts).includes('auxcred'));
  });
});
