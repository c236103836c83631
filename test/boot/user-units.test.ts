/**
 * Secrets of users' own services, as home-manager's module renders them, in real user managers. pam_systemd, which the
 * machine does not have, would give a manager its XDG_RUNTIME_DIR: here a drop-in does.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { auxcredMachine } from '../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../machine/machine.ts';
import { thoroughVersions } from '../machine/root.ts';

interface Rendered {
  readonly declarations: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly systemServices: Readonly<Record<string, Readonly<Record<string, string | boolean>>>>;
  readonly credentials: Readonly<Record<string, readonly { readonly line: string }[]>>;
}

const ids = { alice: 1001, bob: 1002 } as const;
type User = keyof typeof ids;
const users: readonly User[] = ['alice', 'bob'];

/** What nixos/user-secrets.nix makes of a user's declarations. */
function rendered(user: User, secrets: Readonly<Record<string, unknown>>): Rendered {
  const { status, stdout, stderr } = spawnSync(
    'nix-instantiate',
    [
      ...['--store', 'dummy://', '--eval', '--strict', '--json', '--expr'],
      `import ${resolve('nixos/user-secrets.nix')} { user = "${user}"; secrets = builtins.fromJSON ''${JSON.stringify(secrets)}''; }`,
    ],
    { encoding: 'utf8', env: { PATH: process.env['PATH'], NIX_CONFIG: 'build-users-group =' } },
  );
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}

const declared = (generation: number): Readonly<Record<string, unknown>> => ({
  db: { units: ['web', 'job@'], generation },
  key: { kind: 'ssh-ed25519', units: ['web'] },
  live: { units: ['live'], change: 'reload', generation },
  text: { kind: 'template', content: 'p={{db}}\n', units: ['web'], change: 'none' },
});

for (const version of thoroughVersions)
  describe(`secrets of users' services on systemd ${version}`, { skip: cannotBoot }, () => {
    let machine: Machine;
    const asUser = (user: User, script: string): string[] => [
      ...['runuser', '-u', user, '--', 'env', `XDG_RUNTIME_DIR=/run/user/${String(ids[user])}`, 'sh', '-euc', script],
    ];
    const user = async (name: User, script: string): Promise<string> =>
      (await machine.run(asUser(name, script))).stdout.trim();
    const shown = async (name: string): Promise<string> => (await machine.run(['auxcred', 'get', name])).stdout;
    const credential = (name: User, id = 'db', unit = 'web.service'): string =>
      `/run/user/${String(ids[name])}/credentials/${unit}/${id}`;
    const holds = async (path: string, value: string): Promise<void> => {
      const script = `until [ "$(cat ${path} 2> /dev/null)" = ${value} ]; do sleep 0.05; done`;
      await machine.shell(script, { timeoutMs: 20_000 });
    };
    const processOf = async (name: User): Promise<string> =>
      await user(name, 'systemctl --user show --value -p MainPID web.service');
    const declare = async (generation: number): Promise<void> => {
      const parts = users.map((name) => rendered(name, declared(name === 'alice' ? generation : 1)));
      await machine.write(
        '/etc/auxcred/secrets.d/configuration.json',
        JSON.stringify({ secret: Object.assign({}, ...parts.map(({ declarations }) => declarations)) }),
      );
    };

    before(async () => {
      machine = await auxcredMachine({ systemd: version, name: 'web1' });
      await machine.write(
        '/etc/systemd/system/user@.service.d/pam.conf',
        '[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n',
      );
      for (const name of users) {
        const { systemServices, credentials } = rendered(name, declared(1));
        await machine.run(['useradd', '-m', '-u', String(ids[name]), name]);
        await machine.systemctl('add-wants', 'multi-user.target', `user@${String(ids[name])}.service`);
        for (const [unit, lines] of Object.entries(systemServices)) {
          const service = Object.entries(lines).map(([key, value]) => `${key}=${String(value)}`);
          await machine.write(
            `/etc/systemd/system/${unit}`,
            ['[Service]', ...service, '[Install]', 'WantedBy=multi-user.target', ''].join('\n'),
          );
          await machine.systemctl('enable', unit);
        }
        for (const [unit, lines] of Object.entries(credentials)) {
          const loads = lines.map(({ line }) => `LoadCredential=${line}`);
          const service = ['[Service]', 'ExecStart=/bin/sleep infinity', 'ExecReload=/bin/true', ...loads, ''];
          await machine.write(
            `/home/${name}/.config/systemd/user/${unit}`,
            ['[Unit]', 'StartLimitIntervalSec=0', ...service].join('\n'),
          );
        }
        await machine.run(['chown', '-R', name, `/home/${name}`]);
      }
      await declare(1);
      await machine.shell('auxcred seal --with-key=host --no-recovery; auxcred apply');
      await machine.boot();
      for (const name of users) {
        await machine.waitFor(`user@${String(ids[name])}.service`, 'active');
        await user(name, 'systemctl --user start web.service job@one.service live.service');
      }
    });
    after(async () => {
      await machine?.destroy();
    });

    test('each service gets the secrets of its user', async () => {
      for (const name of users) {
        const value = await shown(`user/${name}/db`);
        assert.equal((await machine.read(credential(name))).toString(), value);
        assert.equal((await machine.read(credential(name, 'text'))).toString(), `p=${value}\n`);
        const { stdout: half } = await machine.run(['auxcred', 'public', `user/${name}/key`]);
        assert.equal((await machine.read(credential(name, 'key.pub'))).toString().trim(), half.trim());
      }
      assert.notEqual(await shown('user/alice/db'), await shown('user/bob/db'));
    });

    test('no user gets those of another: not the file, not the credential, not by a unit', async () => {
      const file = '/run/auxcred/files/user.alice.db';
      assert.equal((await machine.run(['stat', '-c', '%a %U', file])).stdout, '400 alice\n');
      for (const path of [file, credential('alice')])
        assert.match(
          (await machine.run(asUser('bob', `cat ${path}`), { check: false })).stderr,
          /Permission denied/,
          path,
        );
      assert.match((await machine.run(asUser('bob', 'ls /run/auxcred/files'), { check: false })).stderr, /denied/);
      await user(
        'bob',
        `mkdir -p $XDG_RUNTIME_DIR/systemd/user
        printf '[Service]\\nLoadCredential=db:${file}\\nSetCredential=db:mine\\nExecStart=/bin/sleep infinity\\n' \\
          > $XDG_RUNTIME_DIR/systemd/user/thief.service
        systemctl --user daemon-reload; systemctl --user start thief.service || true`,
      );
      assert.equal(
        await user('bob', 'systemctl --user show --value -p ExecMainStatus thief.service'),
        '243',
        'the start fails',
      );
    });

    test('a change restarts the services of that user alone, with the new value', async () => {
      const [before, other] = [await processOf('alice'), await processOf('bob')];
      const old = await shown('user/alice/db');
      await declare(2);
      const { stderr } = await machine.run(['auxcred', 'apply']);
      assert.match(stderr, /auxcred-user\.alice\.db\.service/);
      const value = await shown('user/alice/db');
      assert.notEqual(value, old);
      // The system's unit queues the restart, and does not wait for a user's service.
      await holds(credential('alice'), value);
      assert.notEqual(await processOf('alice'), before);
      assert.equal(await processOf('bob'), other);
      await holds(credential('alice', 'db', 'job@one.service'), value);
      // Before systemd 260 a reload leaves a service with its old credentials.
      await holds(credential('alice', 'live', 'live.service'), await shown('user/alice/live'));
    });

    test('without its file a service does not start; with a stopped manager a change is no failure', async () => {
      await user('alice', 'systemctl --user stop web.service');
      await machine.run(['rm', '/run/auxcred/files/user.alice.db']);
      await machine.run(asUser('alice', 'systemctl --user start web.service'), { check: false });
      await machine.shell(
        `until ${asUser('alice', 'test "$(systemctl --user show --value -p ExecMainStatus web.service)" = 243')
          .map((word) => `'${word}'`)
          .join(' ')}; do sleep 0.05; done`,
        { timeoutMs: 20_000 },
      );
      await machine.systemctl('stop', `user@${String(ids.alice)}.service`);
      await declare(3);
      await machine.run(['auxcred', 'apply']);
      assert.equal((await machine.read('/run/auxcred/files/user.alice.db')).toString(), await shown('user/alice/db'));
    });
  });
