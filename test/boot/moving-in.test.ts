/** Moving in on a machine that runs: the same units get the same bytes before and after. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { auxcredMachine, manifestPath } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { thoroughVersions } from '../machine/root.ts';
import { forgetProbes, probed, writeProbeUnit } from '../machine/units.ts';
import { transcripts } from '../moving-in/transcripts.ts';

const store = '/etc/credstore.encrypted';
const encrypt = 'systemd-creds encrypt --with-key=host';

for (const version of thoroughVersions)
  describe(`moving in on systemd ${version}`, { skip: cannotBoot }, () => {
    // ImportCredential= is of systemd 254.
    const imports = version !== '252';
    let machine: Machine;
    before(async () => {
      machine = await auxcredMachine({ systemd: version, name: 'web1' });
      await machine.run(['auxcred', 'seal', '--no-recovery']);
      await machine.run(['auxcred', 'apply']);
      await machine.boot();
    });
    after(async () => {
      await machine?.destroy();
    });

    test('as docs/moving-in.md shows it', async () => {
      const shown = transcripts().find(({ command }) => command.includes('systemd-creds'));
      assert.ok(shown);
      await machine.shell(`mkdir -p ${store} && printf hunter2 | ${encrypt} --name=db-password - ${store}/db-password`);
      await writeProbeUnit(machine, 'web.service', { service: ['LoadCredentialEncrypted=db-password'] });
      assert.equal((await machine.shell(`${shown.command} 2>&1`)).stdout, shown.output);
      await machine.shell(`rm ${store}/db-password /etc/systemd/system/web.service && auxcred rm --force db-password`);
    });

    const bytesOf = async (units: readonly string[]): Promise<unknown[]> => {
      await machine.run(['systemctl', 'daemon-reload']);
      await forgetProbes(machine);
      await machine.run(['systemctl', 'restart', ...units]);
      return await Promise.all(units.map(async (unit) => await probed(machine, unit)));
    };

    test('systemd-creds: credentials of the stores and of unit files', async () => {
      const inline = await machine.shell(
        `mkdir -p ${store} /etc/credstore /srv && umask 077 && ` +
          `printf 'tok\\n' | ${encrypt} --name=token - ${store}/token && ` +
          `printf 'a\\0b' | ${encrypt} --name=key - /srv/key.cred && ` +
          `printf one | ${encrypt} --name=web.one - ${store}/web.one && printf unused > /etc/credstore/unused && ` +
          `printf 'in line' | ${encrypt} --name=inline - -`,
      );
      const set = inline.stdout.replaceAll(/\s/g, '');
      const lines = {
        'a.service': ['LoadCredentialEncrypted=token', 'LoadCredentialEncrypted=key:/srv/key.cred'],
        'b.service': [
          'LoadCredentialEncrypted=token',
          `SetCredentialEncrypted=inline:${set}`,
          'SetCredential=plain:x\\x41\\n\\061 %%',
          ...(imports ? ['ImportCredential=web.*'] : []),
        ],
      };
      const units = Object.keys(lines);
      for (const [unit, service] of Object.entries(lines)) await writeProbeUnit(machine, unit, { service });
      const old = await bytesOf(units);
      const { stdout, stderr } = await machine.run(['auxcred', 'migrate', 'systemd-creds']);
      assert.match(stdout, /\[secret\.token\]\nkind = "fixed"\nunits = \["a\.service", "b\.service"\]\n(\n|$)/);
      assert.match(stdout, /\[secret\.unused\]\nkind = "fixed"\n(\n|$)/);
      assert.match(
        stdout,
        /^# a\.service: take LoadCredentialEncrypted=key out of \/etc\/systemd\/system\/a\.service$/m,
      );
      assert.doesNotMatch(stdout + stderr, /in line|xA/);
      await machine.write(manifestPath('moved'), stdout);
      for (const unit of units) await writeProbeUnit(machine, unit, {});
      await machine.run(['systemctl', 'daemon-reload']);
      await machine.run(['auxcred', 'apply']);
      assert.deepEqual(await bytesOf(units), old);
      assert.deepEqual((await machine.run(['ls', store])).stdout.split('\n'), ['token', 'web.one', '']);
      const one = await machine.run([
        'auxcred',
        'migrate',
        'systemd-creds',
        '/srv/key.cred',
        '--below=one',
        '--dry-run',
      ]);
      assert.equal(
        one.stderr,
        'auxcred: would put host/web1/one/key (3 bytes) from /srv/key.cred\n' +
          'auxcred: would migrate 1 secret from systemd-creds to host/web1; nothing was changed\n',
      );
      assert.match((await machine.run(['auxcred', 'migrate', 'systemd-creds'])).stderr, /migrated 0 secrets/);
    });

    test('env-file: the unit has the same environment', async () => {
      await machine.write('/etc/default/app', `A="x \\"y\\" \\$z"\n#c\nB='single $B'\nC=\nD=one\\\ntwo  \n`, 0o600);
      const unit = (file: string): string =>
        `[Service]\nType=oneshot\nEnvironmentFile=${file}\n` +
        `ExecStart=/bin/sh -c 'env | grep "^[A-D]=" | sort > /run/app'\n`;
      const variables = async (): Promise<string> => {
        await machine.run(['systemctl', 'daemon-reload']);
        await machine.run(['systemctl', 'start', 'app.service']);
        return (await machine.read('/run/app')).toString();
      };
      await machine.write('/etc/systemd/system/app.service', unit('-/etc/default/app'));
      const old = await variables();
      assert.equal(old, 'A=x "y" $z\nB=single $B\nC=\nD=onetwo\n');
      const { stdout } = await machine.run(['auxcred', 'migrate', 'env-file', '/etc/default/app']);
      const [, path = ''] = /becomes EnvironmentFile=(\S+)/.exec(stdout) ?? [];
      await machine.write(manifestPath('app'), stdout);
      await machine.write('/etc/systemd/system/app.service', unit(path));
      await machine.run(['rm', '/run/app', '/etc/default/app']);
      await machine.run(['auxcred', 'apply']);
      assert.equal(await variables(), old);
    });
  });
