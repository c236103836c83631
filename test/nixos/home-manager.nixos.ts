/** Secrets of users' own services, by the modules for home-manager. home-manager itself is a stand-in. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { Nix, ourModule, projectFile } from './nix.ts';
import { bootSystem, nixosMachine, switchTo } from './nixos-machine.ts';

const uid = 1000;
const configured = (home: string): string[] => [
  ourModule,
  projectFile('nixos/home-manager-system.nix'),
  projectFile('test/nixos/home-manager.nix'),
  `{
    networking.hostName = "web1";
    auxcred.enable = true;
    auxcred.seal.sshHostKey = true;
    users.users.alice = { isNormalUser = true; uid = ${String(uid)}; };
    # A session of PAM needs modules that are not where NixOS looks for them.
    systemd.services."user@" = {
      overrideStrategy = "asDropin";
      serviceConfig.PAMName = "";
      serviceConfig.Environment = [
        "XDG_RUNTIME_DIR=/run/user/%i"
        "SYSTEMD_UNIT_PATH=/etc/home-manager/alice:"
      ];
    };
    systemd.targets.multi-user.wants = [ "user@${String(uid)}.service" ];
    home-manager.users.alice = { config, ... }: { ${home} };
  }`,
];
const mail = (generation: number): string => `
  auxcred.secrets.mail = { units = [ "mbsync" ]; generation = ${String(generation)}; };
  auxcred.secrets."web/key" = { kind = "fixed"; path = "keys/web"; };
  systemd.user.services.mbsync.Service = {
    ExecStart = "/bin/sh -c 'install -m 600 %d/mail %t/mail; exec sleep infinity'";
    LoadCredential = [ "own:/etc/hostname" ];
    Environment = "KEY_FILE=\${config.auxcred.secrets."web/key".file}";
  };
  systemd.user.services.mbsync.Unit.StartLimitIntervalSec = "0";
`;

describe('the modules for home-manager', { skip: cannotBoot }, () => {
  let nix: Nix;
  let machine: Machine;
  const systems: string[] = [];
  before(async () => {
    nix = await Nix.start();
    for (const generation of [1, 2]) systems.push(await nix.build(configured(mail(generation))));
    machine = await nixosMachine({ name: 'web1' });
  });
  after(async () => {
    await machine?.destroy();
    nix?.stop();
  });
  const user = async (script: string): Promise<string> => {
    const rights = ['setpriv', '--reuid=alice', '--regid=users', '--init-groups'];
    const environment = ['env', `XDG_RUNTIME_DIR=/run/user/${String(uid)}`];
    return (await machine.run([...rights, ...environment, 'timeout', '60', 'sh', '-euc', script])).stdout.trim();
  };

  test("declare a user's secrets as files of that user, below the user's name", async () => {
    const made = await nix.evaluate(
      configured(mail(1)),
      `{
        secrets = (builtins.fromJSON (builtins.readFile config.environment.etc."auxcred/secrets.d/configuration.json".source)).secret;
        service = config.home-manager.users.alice.systemd.user.services.mbsync.Service;
      }`,
    );
    assert.deepEqual(made, {
      secrets: {
        'user/alice/mail': {
          change: 'reload',
          credential: 'user.alice.mail',
          delivery: 'file',
          generation: 1,
          mode: '0400',
          owner: 'alice',
          units: ['auxcred-user.alice.mail.service'],
        },
        'user/alice/web/key': {
          change: 'none',
          credential: 'user.alice.web_key',
          delivery: 'file',
          kind: 'fixed',
          mode: '0400',
          owner: 'alice',
          path: 'user/alice/keys/web',
          units: [],
        },
      },
      service: {
        Environment: 'KEY_FILE=/run/auxcred/files/user.alice.web_key',
        ExecStart: "/bin/sh -c 'install -m 600 %d/mail %t/mail; exec sleep infinity'",
        LoadCredential: ['own:/etc/hostname', 'mail:/run/auxcred/files/user.alice.mail'],
      },
    });
  });

  test('refuse a user who takes the name of another, and keys that a user has not', async () => {
    assert.match(
      await nix.refusal(configured(`home.username = "root"; ${mail(1)}`)),
      /has the user name root, and its secrets belong to alice/,
    );
    assert.match(await nix.refusal(configured('auxcred.secrets.mail.hook = [ "/bin/x" ];')), /has no key hook/);
  });

  test("give a user's service its secret, and restart it when that changed", async () => {
    await bootSystem(machine, systems[0] ?? '');
    await machine.run(['auxcred', 'seal', '--no-recovery']);
    await machine.run(['auxcred', 'put', 'user/alice/keys/web'], { input: 'key' });
    await machine.run(['systemctl', 'restart', 'auxcred-provision.service']);
    await machine.waitFor('auxcred-user.alice.mail.service', 'active');
    const value = async (): Promise<string> => (await machine.run(['auxcred', 'get', 'user/alice/mail'])).stdout.trim();
    const first = await value();
    await user('systemctl --user start mbsync.service; until test -s $XDG_RUNTIME_DIR/mail; do sleep 0.1; done');
    assert.equal(await user('cat $XDG_RUNTIME_DIR/mail'), first);
    assert.equal(await user('cat /run/auxcred/files/user.alice.web_key'), 'key');

    const { status, stderr } = await switchTo(machine, systems[1] ?? '', 'switch');
    assert.equal(status, 0, stderr);
    const second = await value();
    assert.notEqual(second, first);
    await user(`until test "$(cat $XDG_RUNTIME_DIR/mail)" = '${second}'; do sleep 0.1; done`);
  });
});
