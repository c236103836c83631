/** The examples and their pages are the same, complete, and free of problems. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { exampleNames, exampleOf } from '../src/cli/examples.ts';
import { exitStatus } from '../src/failure.ts';
import { headings, readPage } from './boot/services/page.ts';
import { auxcred, fails } from './cli.ts';

const names = exampleNames('examples');

/** Programs of the pages' commands, with the packages that have them; everything else is on each Debian. */
const packageOf = {
  createdb: 'postgresql',
  curl: 'curl',
  git: 'git',
  mariadb: 'mariadb-server',
  podman: 'podman',
  psql: 'postgresql',
  restic: 'restic',
  ssh: 'openssh-client',
  'valkey-cli': 'valkey-server',
  wg: 'wireguard-tools',
  wpa_cli: 'wpasupplicant',
};

describe('the examples', () => {
  test('have a page each, in the shape of all pages, which the index lists', () => {
    assert.ok(names.length > 0);
    const index = readFileSync('docs/services/README.md', 'utf8');
    assert.deepEqual(readdirSync('docs/services').sort(), ['README.md', ...names.map((name) => `${name}.md`)].sort());
    for (const name of names) {
      assert.deepEqual(readPage(name).headings, headings, name);
      assert.ok(index.includes(`(${name}.md)`), name);
    }
  });

  for (const name of names) {
    const files = exampleOf('examples', name);

    test(`${name} is what its page shows`, () => {
      assert.deepEqual([...readPage(name).files].sort(), files.map(({ path, text }) => [path, text]).sort());
    });

    test(`${name} tells to install every program that its page runs`, () => {
      const page = readPage(name);
      const commands = headings.flatMap((heading) => page.commands(heading)).join('\n');
      for (const [program, debianPackage] of Object.entries(packageOf))
        if (new RegExp(`(?:^|[|&;(]|--|') *${program} `, 'm').test(commands))
          assert.ok(page.packages.includes(debianPackage), `${program} is in ${debianPackage}`);
    });

    test(`${name} has a manifest that is right in itself`, () => {
      const folder = `examples/${name}/etc/auxcred/secrets.d`;
      const { status, stdout, stderr } = auxcred(['check', `--manifest=${folder}`]);
      assert.deepEqual({ status, stdout }, { status: 0, stdout: '' });
      assert.match(stderr, /^auxcred: [1-9]\d* secrets? for [1-9]\d* units? in 1 file: ok\n$/);
    });

    test(`auxcred example ${name} prints a script that writes it`, () => {
      const { status, stdout } = auxcred(['example', name]);
      assert.equal(status, 0);
      for (const { path, text, isExecutable } of files) {
        assert.ok(!text.includes('END-OF-FILE'));
        assert.ok(stdout.includes(`install -D -m ${isExecutable ? '755' : '644'} /dev/stdin ${path} `), path);
        assert.ok(stdout.includes(text), path);
      }
      assert.equal(spawnSync('sh', ['-n'], { input: stdout }).status, 0);
    });
  }

  test('are not taken for sound if the folder is mistyped', () => {
    for (const verb of ['check', 'graph', 'ls'])
      fails([verb, '--manifest=examples/nginx', '--manifest=examples/ngin'], 'not-found', /no folder examples\/ngin\b/);
    const file = auxcred(['check', '--manifest=examples/nginx/etc/nginx/conf.d/site.conf']);
    assert.equal(file.status, exitStatus['invalid-manifest']);
    assert.match(file.stdout, /^examples\/nginx\/etc\/nginx\/conf\.d\/site\.conf: error: it can't be read/);
  });

  test('listen on ports of their own, so that one machine can try them all', () => {
    const ports = names.flatMap((name) => {
      const text = exampleOf('examples', name).map((file) => file.text);
      return [...new Set(text.join('\n').match(/\b80[0-9]{2}\b/g) ?? [])];
    });
    assert.ok(ports.length > 1);
    assert.deepEqual([...new Set(ports)], ports);
  });

  test('are listed, and another name is refused with the nearest', () => {
    assert.equal(auxcred(['example']).stdout, `${names.join('\n')}\n`);
    assert.match(auxcred(['example']).stderr, /its page is .*docs\/services\/NAME\.md/);
    for (const [name, meant] of [
      ['postgresq', 'postgresql'],
      ['postgres', 'postgresql'],
      ['ssh', 'ssh-deploy-key'],
      ['node', 'node-app'],
      ['redis', 'valkey'],
      ['wifi', 'wpa-supplicant'],
    ] as const)
      assert.match(fails(['example', name], 'not-found', /there is no example/).stderr, new RegExp(`mean ${meant}\\?`));
    assert.match(fails(['example', 'e'], 'not-found', /there is no example/).stderr, /auxcred example lists them/);
  });
});
