import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { Nix, ourModule } from './nix.ts';
import { bootSystem, nixosMachine, recorded, switchTo } from './nixos-machine.ts';

/** Two services that record what they were given, and how often they started. */
const services = (rest: string): string => `{ config, lib, pkgs, ... }: {
  networking.hostName = "web1";
  auxcred.enable = true;
  auxcred.seal.sshHostKey = true;
  auxcred.secrets.db-password = { kind = "password"; units = [ "web" ]; };
  systemd.services = lib.genAttrs [ "web" "other" ] (name: {
    wantedBy = [ "multi-user.target" ];
    serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
    script = ''
      mkdir -p /run/probe
      echo started >>/run/probe/\${name}.starts
      for file in "$CREDENTIALS_DIRECTORY"/*; do
        cp "$file" /run/probe/\${name}."$(basename "$file")"
      done
    '';
  });
  imports = [ ({ lib, pkgs, ... }: { ${rest} }) ];
}`;
const configured = (rest: string): string[] => [ourModule, services(rest)];

/** The lines in which switch-to-configuration says what it does, by what: "restarting the following units". */
function announced(text: string): Record<string, string[]> {
  return Object.fromEntries(
    [...text.matchAll(/^((?:would )?\w+) the following (?:new )?units: (.*)$/gm)].map(([, what = '', units = '']) => [
      what,
      units.split(', ').sort(),
    ]),
  );
}

describe('a NixOS machine', { skip: cannotBoot }, () => {
  let nix: Nix;
  let machine: Machine;
  const systems: Record<string, string> = {};
  const auxcred = async (...args: string[]): Promise<string> => (await machine.run(['auxcred', ...args])).stdout.trim();
  const starts = async (unit: string): Promise<number> =>
    ((await recorded(machine, `${unit}.starts`)) ?? '').split('\n').filter((line) => line !== '').length;

  before(async () => {
    nix = await Nix.start();
    for (const [name, rest] of Object.entries({
      keyless: 'auxcred.seal.sshHostKey = lib.mkForce false;',
      first: 'systemd.services.other.auxcred.token.kind = "hex";',
      second: 'systemd.services.other.auxcred.token.kind = "hex"; auxcred.secrets.db-password.generation = 2;',
      hooked: `
        systemd.services.other.auxcred.token.kind = "hex";
        auxcred.secrets.db-password.generation = 3;
        auxcred.secrets.db-password.hook = [ "\${pkgs.writeShellScript "tell" "cat <&4 >/run/told"}" ];
      `,
      staged: 'systemd.services.other.auxcred.token = { kind = "hex"; delivery = "stage"; };',
      missing: `
        systemd.services.other.auxcred.token.kind = "hex";
        systemd.services.other.environment.CHANGED = "yes";
        auxcred.secrets.license = { kind = "fixed"; units = [ "web" ]; };
      `,
    }))
      systems[name] = await nix.build(configured(rest));
    machine = await nixosMachine({ name: 'web1' });
  });
  after(async () => {
    await machine?.destroy();
    nix?.stop();
  });
  const system = (name: string): string => systems[name] ?? assert.fail(name);

  test('whose seed is not sealed yet: units fail, and the reason is in the journal', async () => {
    assert.equal(await bootSystem(machine, system('keyless')), 'degraded');
    const failed = (await machine.run(['systemctl', '--failed', '--plain', '--no-legend'])).stdout;
    const { Result, ExecMainStatus } = await machine.properties('web.service', 'Result', 'ExecMainStatus');
    assert.deepEqual([Result, ExecMainStatus], ['exit-code', '243'], failed);
    const said = (await machine.run(['journalctl', '-b', '--no-pager', '--output=cat', '--unit=auxcred*'])).stdout;
    assert.match(said, /auxcred seal/);
    assert.doesNotMatch(said, /apt|systemctl enable|remount/);
  });

  test('is told the option that is missing before it can be sealed', async () => {
    const { status, stderr } = await machine.run(['auxcred', 'seal', '--no-recovery'], { check: false });
    assert.equal(status, 5, stderr);
    assert.match(stderr, /auxcred\.seal\.sshHostKey = true.*nixos-rebuild switch/);
    const switched = await switchTo(machine, system('first'), 'switch');
    assert.match(switched.stderr, /auxcred: hint: run auxcred seal --with-key=host/);
    assert.equal((await machine.run(['readlink', '-f', '/run/current-system'])).stdout.trim(), system('first'));
  });

  test('is sealed, and its units start with what auxcred get says', async () => {
    const { stderr } = await machine.run(['auxcred', 'seal', '--no-recovery']);
    assert.doesNotMatch(stderr, /remount|apt |auxcred apply/);
    const doctor = await machine.run(['auxcred', 'doctor'], { check: false });
    assert.match(doctor.stdout, /^ {4}\$ auxcred provision$/m);
    await auxcred('provision');
    await machine.run(['systemctl', 'restart', 'web.service', 'other.service']);
    assert.equal(await recorded(machine, 'web.db-password'), await auxcred('get', 'db-password'));
    assert.equal(await recorded(machine, 'other.token'), await auxcred('get', 'other/token'));
  });

  test('boots with them again, and nothing has failed', async () => {
    await machine.shutdown();
    await bootSystem(machine, system('first'));
    const failed = (await machine.run(['systemctl', '--failed', '--plain', '--no-legend'])).stdout;
    assert.equal(failed, '');
    assert.equal(await recorded(machine, 'web.db-password'), await auxcred('get', 'db-password'));
    const status = await machine.run(['auxcred', 'status'], { check: false });
    assert.equal(status.status, 0, status.stdout + status.stderr);
    const doctor = await machine.run(['auxcred', 'doctor'], { check: false });
    assert.doesNotMatch(doctor.stdout + doctor.stderr, /apt|systemctl enable|auxcred apply|remount/);
  });

  test('dry-activate names the units of a changed secret, and no other', async () => {
    const { status, stderr } = await switchTo(machine, system('second'), 'dry-activate');
    assert.equal(status, 0, stderr);
    const { 'would restart': restarted = [], 'would stop': stopped = [], ...rest } = announced(stderr);
    assert.deepEqual(
      [...new Set([...restarted, ...stopped])].sort(),
      ['auxcred-provision.service', 'web.service'],
      stderr,
    );
    assert.deepEqual(
      Object.keys(rest).filter((what) => what !== 'would start'),
      [],
      stderr,
    );
  });

  test('another generation is active after the switch, and only its unit restarted', async () => {
    const old = await recorded(machine, 'web.db-password');
    const before = { web: await starts('web'), other: await starts('other') };
    const { status, stderr } = await switchTo(machine, system('second'), 'switch');
    assert.equal(status, 0, stderr);
    const now = await recorded(machine, 'web.db-password');
    assert.notEqual(now, old);
    assert.equal(now, await auxcred('get', 'db-password'));
    assert.deepEqual({ web: await starts('web'), other: await starts('other') }, { ...before, web: before.web + 1 });
  });

  test('a rollback gives that configuration its secrets', async () => {
    const { status, stderr } = await switchTo(machine, system('first'), 'switch');
    assert.equal(status, 0, stderr);
    assert.equal(await recorded(machine, 'web.db-password'), await auxcred('get', 'db-password'));
    await switchTo(machine, system('second'), 'switch');
  });

  test('a switch whose secrets are missing is refused before anything stops', async () => {
    const value = await recorded(machine, 'web.db-password');
    const before = { web: await starts('web'), other: await starts('other') };
    const { status, stderr, stdout } = await switchTo(machine, system('missing'), 'switch');
    assert.notEqual(status, 0, stdout + stderr);
    assert.match(stderr + stdout, /license/);
    assert.deepEqual({ web: await starts('web'), other: await starts('other') }, before, stderr);
    for (const unit of ['web.service', 'other.service'])
      assert.equal((await machine.properties(unit, 'ActiveState'))['ActiveState'], 'active');
    assert.equal(await recorded(machine, 'web.db-password'), value);
    assert.equal((await machine.run(['readlink', '-f', '/run/current-system'])).stdout.trim(), system('second'));
  });

  test('and goes through once the secret is there', async () => {
    await machine.run(['auxcred', 'put', 'license'], { input: 'letter and seal\n' });
    const { status, stderr } = await switchTo(machine, system('missing'), 'switch');
    assert.equal(status, 0, stderr);
    assert.equal(await recorded(machine, 'web.license'), 'letter and seal\n');
  });

  test('runs the hooks of a changed secret once it has booted', async () => {
    const { status, stderr } = await switchTo(machine, system('hooked'), 'boot');
    assert.equal(status, 0, stderr);
    const old = await recorded(machine, 'web.db-password');
    await machine.shutdown();
    await bootSystem(machine, system('hooked'));
    await machine.run(['systemctl', 'start', 'auxcred-postponed.service']);
    const now = await auxcred('get', 'db-password');
    assert.notEqual(now, old);
    assert.equal((await machine.run(['cat', '/run/told'])).stdout, now);
    assert.equal(await recorded(machine, 'web.db-password'), now);
    assert.notEqual((await machine.run(['stat', '/run/auxcred/postponed'], { check: false })).status, 0);
  });

  test('leaves no file of a staged secret when its unit stops', async () => {
    const { status, stderr } = await switchTo(machine, system('staged'), 'switch');
    assert.equal(status, 0, stderr);
    assert.equal(await recorded(machine, 'other.token'), await auxcred('get', 'other/token'));
    const staged = async (): Promise<string> => (await machine.shell('ls -A /run/credstore')).stdout;
    assert.match(await staged(), /\.token$/m);
    await machine.run(['systemctl', 'stop', 'other.service']);
    assert.equal(await staged(), '');
    const { stdout } = await machine.run(['systemctl', 'show', '-p', 'ExecStopPostEx', 'other.service']);
    assert.match(stdout, /path=\S+\/bin\/rm .*status=0/);
    await machine.run(['systemctl', 'start', 'other.service']);
  });

  test('whose host key is missing says so', async () => {
    await machine.run(['mv', '/etc/ssh/ssh_host_ed25519_key', '/root/key']);
    await machine.run(['systemctl', 'stop', 'auxcred.service']);
    await machine.run(['systemctl', 'restart', 'web.service'], { check: false });
    const { stdout } = await machine.run(['journalctl', '-b', '--output=cat', '--unit=auxcred.service']);
    assert.match(stdout, /the key that opens the seed is missing: \/etc\/ssh\/ssh_host_ed25519_key/);
    await machine.run(['mv', '/root/key', '/etc/ssh/ssh_host_ed25519_key']);
    await machine.run(['systemctl', 'stop', 'auxcred.service']);
    await machine.run(['systemctl', 'restart', 'web.service']);
  });

  test('its store of configurations can only be read', async () => {
    const { status, stderr } = await machine.shell(`touch ${system('first')}/x`, { check: false });
    assert.notEqual(status, 0);
    assert.match(stderr, /Read-only/);
  });
});
