import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { firmware } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { Nix, ourModule } from './nix.ts';
import { bootSystem, nixosMachine, recorded, switchTo } from './nixos-machine.ts';

/** A service that records its secret. */
const recording = `
  networking.hostName = "web1";
  auxcred.enable = true;
  auxcred.seal.sshHostKey = true;
  systemd.services.web = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
    script = ''
      mkdir -p /run/probe
      cp "$CREDENTIALS_DIRECTORY"/db /run/probe/db
    '';
  };
  auxcred.secrets.db = { kind = "hex"; units = [ "web" ]; };
`;
const configured = (rest = ''): string[] => [
  ourModule,
  `{ config, lib, ... }: { imports = [ { ${recording} } ]; ${rest} }`,
];
const failedUnits = async (machine: Machine): Promise<string> =>
  (await machine.run(['systemctl', '--failed', '--plain', '--no-legend'])).stdout;
const get = async (machine: Machine, name: string): Promise<string> =>
  (await machine.run(['auxcred', 'get', name])).stdout.trim();

describe('a NixOS machine with a TPM', { skip: cannotBoot }, () => {
  let nix: Nix;
  let machine: Machine;
  let system: string;
  const hardware = firmware();
  const sealed = (rest: string): string[] =>
    configured(`auxcred.seal.withKey = "tpm2"; auxcred.seal.tpm2Pcrs = [ 7 14 ]; ${rest}`);
  before(async () => {
    nix = await Nix.start();
    machine = await nixosMachine({ name: 'web1', tpm: hardware.start });
    await bootSystem(machine, await nix.build(configured()));
  });
  after(async () => {
    await machine?.destroy();
    nix?.stop();
  });

  test('is sealed to it by the command of the configuration', async () => {
    const modules = sealed(`auxcred.seal.tpm2Device = "${machine.tpm?.device ?? ''}";`);
    system = await nix.build(modules);
    const { status, stderr } = await switchTo(machine, system, 'switch');
    const command = String(await nix.evaluate(modules, 'config.auxcred.seal.command'));
    assert.match(command, /--with-key=tpm2 .*--tpm2-pcrs=7\+14/);
    // Units fail until there is a seed: the switch says so with its status.
    assert.equal(status, 4, stderr);
    const said = await machine.run(['script', '-qec', command, '/dev/null'], { input: '\n' });
    assert.match(said.stdout, /sealed the seed of host\/web1/);
    await machine.run(['auxcred', 'provision']);
    await machine.run(['systemctl', 'restart', 'web.service']);
    assert.equal(await recorded(machine, 'db'), await get(machine, 'db'));
  });

  test('gives its units their secrets when it boots', async () => {
    const value = await get(machine, 'db');
    await machine.shutdown();
    await bootSystem(machine, system);
    assert.equal(await failedUnits(machine), '');
    assert.equal(await recorded(machine, 'db'), value);
  });

  test('and gives none while the firmware measures something else', async () => {
    const usual = hardware.measured[7];
    hardware.measured[7] = ['ee'.repeat(32)];
    await machine.shutdown();
    assert.equal(await bootSystem(machine, system), 'degraded');
    assert.match(await failedUnits(machine), /web\.service/);
    assert.equal(await recorded(machine, 'db'), undefined);
    hardware.measured[7] = usual ?? [];
    await machine.shutdown();
    await bootSystem(machine, system);
    assert.equal(await failedUnits(machine), '');
    assert.equal(await recorded(machine, 'db'), await get(machine, 'db'));
  });

  test('moves to another key without a moment in which nothing opens the seed', async () => {
    const device = `auxcred.seal.tpm2Device = "${machine.tpm?.device ?? ''}";`;
    const value = await get(machine, 'db');
    const moved = (rest: string): Promise<string> => nix.build(configured(`auxcred.seal.withKey = "host"; ${rest}`));
    const refused = await switchTo(machine, await moved(''), 'switch');
    assert.notEqual(refused.status, 0);
    assert.match(refused.stdout + refused.stderr, /auxcred\.seal\.alsoWithKey = \[ "tpm2" \].*--with-key=host/);
    const served = async (): Promise<void> => {
      await machine.run(['systemctl', 'stop', 'auxcred.service']);
      await machine.run(['systemctl', 'restart', 'web.service']);
      assert.equal(await recorded(machine, 'db'), value);
    };
    for (const step of [
      async () => await switchTo(machine, await moved(`auxcred.seal.alsoWithKey = [ "tpm2" ]; ${device}`), 'switch'),
      async () => await machine.run(['auxcred', 'reseal', '--with-key=host', '--no-tpm2-pcrs']),
      async () => await switchTo(machine, await moved(''), 'switch'),
    ]) {
      const { status, stderr } = await step();
      assert.equal(status, 0, stderr);
      await served();
    }
  });
});

describe('a NixOS machine whose /var is forgotten at each boot', { skip: cannotBoot }, () => {
  let nix: Nix;
  let machine: Machine;
  let system: string;
  before(async () => {
    nix = await Nix.start();
    const kept = ['auxcred', 'systemd', 'nixos'];
    system = await nix.build(
      configured(`
        fileSystems = {
          "/var" = { device = "tmpfs"; fsType = "tmpfs"; options = [ "mode=0755" ]; };
        } // lib.genAttrs [ ${kept.map((name) => `"/var/lib/${name}"`).join(' ')} ] (path: {
          device = "/persist\${path}";
          fsType = "none";
          options = [ "bind" ];
        });
      `),
    );
    machine = await nixosMachine({ name: 'web1' });
    for (const name of kept) mkdirSync(join(machine.root, 'persist/var/lib', name), { recursive: true });
    await bootSystem(machine, system);
  });
  after(async () => {
    await machine?.destroy();
    nix?.stop();
  });

  test('keeps its seed and its secrets in folders that are bound there', async () => {
    assert.equal((await machine.shell('findmnt -no FSTYPE /var')).stdout.trim(), 'tmpfs');
    await machine.run(['auxcred', 'seal', '--no-recovery']);
    await machine.run(['auxcred', 'provision']);
    await machine.run(['touch', '/var/lib/forgotten']);
    const value = await get(machine, 'db');
    await machine.shutdown();
    await bootSystem(machine, system);
    assert.equal(await failedUnits(machine), '');
    assert.notEqual((await machine.run(['stat', '/var/lib/forgotten'], { check: false })).status, 0);
    assert.equal(await recorded(machine, 'db'), value);
  });
});
