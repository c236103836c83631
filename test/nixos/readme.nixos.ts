/** Follows the NixOS section of README.md as it is written. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { Nix, ourModule } from './nix.ts';
import { bootSystem, nixosMachine, recorded, switchTo } from './nixos-machine.ts';

const section = /^## NixOS\n([\s\S]*?)^## /m.exec(readFileSync('README.md', 'utf8'))?.[1] ?? '';
const configuration = section
  .split('\n')
  .filter((line) => line.startsWith('    '))
  .join('\n');
/** The commands that are run on the machine, in their order. */
const commands = [...section.matchAll(/`((?:auxcred|systemctl) [^`]*)`/g)].map(([, command = '']) => command);

/** The service that the section gives a secret to. */
const web = `{ config, lib, ... }: {
  options.services.web.passwordFile = lib.mkOption { type = lib.types.str; };
  config.networking.hostName = "web1";
  config.auxcred.seal.sshHostKey = true;
  config.systemd.services.web = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
    script = "mkdir -p /run/probe; cp \${config.services.web.passwordFile} /run/probe/password";
  };
}`;

describe('the NixOS section of the README', { skip: cannotBoot }, () => {
  let nix: Nix;
  let machine: Machine;
  before(async () => {
    nix = await Nix.start();
    machine = await nixosMachine({ name: 'web1' });
    await bootSystem(machine, await nix.build(['{ networking.hostName = "web1"; }']));
  });
  after(async () => {
    await machine?.destroy();
    nix?.stop();
  });

  test('gives a service of a running machine its secret', async () => {
    assert.match(configuration, /auxcred\.secrets/);
    assert.deepEqual(commands, ['auxcred seal', 'systemctl restart auxcred-provision']);
    const system = await nix.build([
      `{ config, ... }: let auxcred.nixosModules.default = ${ourModule}; in {\n${configuration}\n}`,
      web,
    ]);
    const { status, stderr } = await switchTo(machine, system, 'switch');
    assert.equal(status, 4, stderr);
    for (const command of commands) {
      // There it asks for a way to recover the seed.
      const words = command === 'auxcred seal' ? [...command.split(' '), '--no-recovery'] : command.split(' ');
      await machine.run(words);
    }
    await machine.run(['systemctl', 'restart', 'web.service']);
    const { stdout } = await machine.run(['auxcred', 'get', 'db-password']);
    assert.equal(await recorded(machine, 'password'), stdout.trim());
  });
});
