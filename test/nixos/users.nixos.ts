/** Users whose passwords are secrets: systemd-sysusers makes them from files that are written before it runs. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { Nix, ourModule } from './nix.ts';
import { bootSystem, nixosMachine, recorded, switchTo } from './nixos-machine.ts';

/** A user whose password is a secret. */
const user = (name: string): string => `
  users.users.${name} = {
    isSystemUser = true;
    group = "${name}";
    hashedPasswordFile = config.auxcred.secrets.${name}-hash.path;
  };
  users.groups.${name} = { };
  auxcred.secrets.${name} = { kind = "password"; units = [ "web" ]; };
  auxcred.secrets.${name}-hash = { kind = "crypt"; of = "${name}"; delivery = "file"; neededFor = "users"; };
`;
const configured = (rest: string): string[] => [
  ourModule,
  `{ config, ... }: {
    networking.hostName = "web1";
    systemd.sysusers.enable = true;
    users.mutableUsers = false;
    users.allowNoPasswordLogin = true;
    auxcred.enable = true;
    auxcred.seal.sshHostKey = true;
    systemd.services.web = {
      wantedBy = [ "multi-user.target" ];
      serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
      script = "mkdir -p /run/probe; cp $CREDENTIALS_DIRECTORY/alice /run/probe/alice";
    };
    imports = [ ({ config, ... }: { ${rest} }) ];
  }`,
];

describe('a NixOS machine whose users have passwords from auxcred', { skip: cannotBoot }, () => {
  let nix: Nix;
  let machine: Machine;
  let first: string;
  let second: string;
  let third: string;
  before(async () => {
    nix = await Nix.start();
    first = await nix.build(configured(user('alice')));
    second = await nix.build(
      configured(`
        ${user('alice')} ${user('bob')}
        auxcred.secrets.bob-token = { kind = "hex"; delivery = "file"; owner = "bob"; group = "bob"; };
      `),
    );
    third = await nix.build(configured(['alice', 'bob', 'carol'].map(user).join(' ')));
    machine = await nixosMachine({ name: 'web1' });
  });
  after(async () => {
    await machine?.destroy();
    nix?.stop();
  });

  const failedUnits = async (): Promise<string> =>
    (await machine.run(['systemctl', '--failed', '--plain', '--no-legend'])).stdout;
  const get = async (name: string): Promise<string> => (await machine.run(['auxcred', 'get', name])).stdout.trim();
  const passwordOf = async (name: string): Promise<string | undefined> =>
    (await machine.run(['getent', 'shadow', name], { check: false })).stdout.split(':')[1];

  test('makes all of them without a seed, and locks those whose password is missing', async () => {
    await bootSystem(machine, first);
    assert.doesNotMatch(await failedUnits(), /sysusers/);
    assert.match((await machine.run(['id', 'auxcred'])).stdout, /auxcred/);
    assert.match((await machine.run(['getent', 'passwd', 'root'])).stdout, /^root:x:0:/);
    assert.equal(await passwordOf('alice'), '!auxcred');
  });

  test('gives them the hash of the secret at the next boot after it was sealed', async () => {
    await machine.run(['auxcred', 'seal', '--no-recovery']);
    await machine.run(['auxcred', 'provision']);
    await machine.shutdown();
    await bootSystem(machine, first);
    assert.equal(await failedUnits(), '');
    const hash = await get('alice-hash');
    assert.match(hash, /^\$y\$/);
    assert.equal(await passwordOf('alice'), hash);
    assert.equal(await recorded(machine, 'alice'), await get('alice'));
    assert.equal((await machine.run(['stat', '-c', '%U:%G %a', '/etc/shadow'])).stdout.trim(), 'root:root 0');
  });

  test('makes another user in a switch, with a hash and a file of its own', async () => {
    const { status, stderr } = await switchTo(machine, second, 'switch');
    assert.equal(status, 0, stderr);
    assert.equal(await passwordOf('bob'), await get('bob-hash'));
    const { stdout } = await machine.run(['stat', '-c', '%U:%G', '/run/auxcred/files/bob-token']);
    assert.equal(stdout.trim(), 'bob:bob');
  });

  test('makes another user at the boot of another configuration', async () => {
    const { status, stderr } = await switchTo(machine, third, 'boot');
    assert.equal(status, 0, stderr);
    await machine.shutdown();
    await bootSystem(machine, third);
    assert.equal(await failedUnits(), '');
    assert.equal(await passwordOf('carol'), await get('carol-hash'));
    assert.notEqual((await machine.run(['stat', '/run/auxcred/files/bob-token'], { check: false })).status, 0);
  });

  test('whose seed was there before its first boot serves units, though no group was known', async () => {
    await machine.run(['auxcred', 'status'], { check: false });
    await machine.run(['chgrp', '-R', 'root', '/var/lib/auxcred']);
    await machine.shutdown();
    for (const name of ['passwd', 'group', 'shadow', 'gshadow'])
      rmSync(join(machine.root, 'etc', name), { force: true });
    for (const path of ['var/lib/nixos', 'var/lib/auxcred/generations', 'var/lib/auxcred/provisioned'])
      rmSync(join(machine.root, path), { recursive: true, force: true });
    await bootSystem(machine, third);
    assert.equal(await failedUnits(), '');
    assert.equal(await recorded(machine, 'alice'), await get('alice'));
    assert.equal(await passwordOf('alice'), await get('alice-hash'));
    const doctor = await machine.run(['auxcred', 'doctor'], { check: false });
    assert.doesNotMatch(doctor.stdout, /not root:auxcred/);
  });
});
