import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { applyRendering } from '../../src/drop-ins/rendered-folder.ts';
import { renderingVersion } from '../../src/drop-ins/rendering.ts';
import { readManifest } from '../../src/manifest/manifest.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import { encodings } from './unreadable.ts';

/** The drop-in of a unit, relative to the generator's folder. */
const dropIn = (unit: string): string => `${unit}.d/50-auxcred.conf`;
const blocked = /^AssertPathExists=!\/$/m;
const manifest = '[secret.a]\nunits = ["a.service", "both.service"]\n';

for (const shell of ['dash', 'bash'])
  describe(`auxcred-generator under ${shell}`, () => {
    let folder = '';
    let root = '';
    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'generator-'));
      root = join(folder, 'root');
      write('etc/auxcred/secrets.d/web.toml', manifest);
      write('usr/lib/auxcred/secrets.d/vendor.toml', '[secret.v]\nunits = ["v.service"]\ndelivery = "stage"\n');
    });
    afterEach(() => {
      rmSync(folder, { recursive: true });
    });

    const write = (path: string, text: string): void => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    };
    const apply = (): void => {
      applyRendering(pathsUnder(root), readManifest(root));
    };
    /** Runs the generator as systemd does. @returns everything that it wrote, by path */
    const generate = (given: { node?: string; limit?: number; environment?: object } = {}): Record<string, string> => {
      const { node = process.execPath, limit = node === process.execPath ? 60 : 1, environment = {} } = given;
      const out = mkdtempSync(join(folder, 'out-'));
      const script = readFileSync('generators/auxcred-generator', 'utf8')
        .replaceAll('@root@', root)
        .replace('@node@', node)
        .replace('timeout -k 1 60 ', `timeout -k 1 ${String(limit)} `)
        .replace('@libdir@', join(process.cwd(), 'dist'))
        .replace('/dev/kmsg', join(folder, 'kmsg'));
      const front = join(folder, 'front');
      writeFileSync(front, script);
      const { status } = spawnSync(shell, [front, out, `${out}.early`, `${out}.late`], {
        stdio: 'ignore',
        env: { PATH: process.env['PATH'], NODE_OPTIONS: '--no-such-option', ...environment },
      });
      assert.equal(status, 0);
      return Object.fromEntries(
        readdirSync(out, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => {
            const path = join(entry.parentPath, entry.name);
            return [relative(out, path), readFileSync(path, 'utf8')];
          }),
      );
    };
    const noNode = '/nonexistent/node';
    // What Node does is the same under every shell.
    const nodes = shell === 'dash' ? [process.execPath, noNode] : [noNode];
    const provisionFirst = 'auxcred.service.d/50-auxcred-provision.conf';

    test('copies what was applied, without Node', () => {
      apply();
      const copied = generate({ node: noNode });
      assert.deepEqual(Object.keys(copied).sort(), [dropIn('a.service'), dropIn('both.service'), dropIn('v.service')]);
      assert.match(copied[dropIn('a.service')] ?? '', /^LoadCredentialEncrypted=a:\/run\/auxcred\/encrypted\.sock$/m);
      assert.match(
        copied[dropIn('v.service')] ?? '',
        /^ExecStartPre=\+\/usr\/lib\/auxcred\/auxcred\.cjs stage %n v\nExecStopPost=-\+\/bin\/rm -f \/run\/credstore\/auxcred\.[0-9a-f]{32}\.v\nLoadCredential=v:auxcred\.[0-9a-f]{32}\.v$/m,
      );
    });

    test('waits for a slow Node', () => {
      const slow = join(folder, 'slow-node');
      writeFileSync(slow, `#!/bin/sh\nsleep 6\nexec '${process.execPath}' "$@"\n`, { mode: 0o755 });
      assert.match(generate({ node: slow, limit: 60 })[dropIn('a.service')] ?? '', /^LoadCredentialEncrypted=/m);
    });

    test('encrypted credentials and files need no broker, and are provisioned first if they were not applied', () => {
      const more =
        '[secret.c]\ndelivery = "credstore"\nunits = ["c.service", "systemd-udevd.service"]\n[secret.f]\ndelivery = "file"\nunits = ["f.service"]\n[secret.u]\ndelivery = "file"\nneeded-for = "users"\n';
      write('etc/auxcred/secrets.d/web.toml', more);
      const rendered = generate();
      assert.match(
        rendered[dropIn('c.service')] ?? '',
        /^RequiresMountsFor=\/var\/lib\/systemd\n\n\[Service\]\nLoadCredentialEncrypted=c:\/etc\/credstore\.encrypted\/auxcred\.[0-9a-f]{32}\.c$/m,
      );
      assert.doesNotMatch(rendered[dropIn('c.service')] ?? '', /auxcred\.socket/);
      assert.doesNotMatch(rendered[dropIn('systemd-udevd.service')] ?? '', /RequiresMountsFor/);
      assert.match(
        rendered[dropIn('f.service')] ?? '',
        /^Wants=auxcred-files\.service\nAfter=auxcred-files\.service\nAssertPathExists=\/run\/auxcred\/files\/f$/m,
      );
      assert.match(
        rendered[dropIn('sysinit.target')] ?? '',
        /^\[Unit\]\nWants=auxcred-files\.service\nWants=auxcred-user-files\.service$/m,
      );
      assert.deepEqual(
        Object.keys(rendered)
          .filter((path) => path.endsWith('-provision.conf'))
          .sort(),
        [
          provisionFirst,
          'auxcred-files.service.d/50-auxcred-provision.conf',
          'c.service.d/50-auxcred-provision.conf',
        ].sort(),
      );
      apply();
      write('etc/auxcred/secrets.d/web.toml', `${more}[`);
      const broken = generate();
      assert.match(broken[dropIn('f.service')] ?? '', blocked);
      assert.equal(broken[dropIn('sysinit.target')], undefined, 'the boot itself is never blocked');
    });

    test('renders the same without what was applied, and has it provisioned first', () => {
      apply();
      const copied = generate({ node: noNode });
      rmSync(join(root, 'etc/auxcred/rendered'));
      const { [provisionFirst]: first, ...rendered } = generate();
      assert.deepEqual(rendered, copied);
      assert.match(first ?? '', /Wants=auxcred-provision\.service\nAfter=auxcred-provision\.service/);
    });

    test('drop-ins of another version are rendered again, and without Node blocked', () => {
      apply();
      const sums = join(root, 'etc/auxcred/rendered/manifest');
      const [version, ...lines] = readFileSync(sums, 'utf8').split('\n');
      assert.equal(version, renderingVersion);
      const unit = join(root, 'etc/auxcred/rendered/units', dropIn('a.service'));
      // Version 0.1.0 listed the manifest's files alone.
      const old = lines.filter((line) => !line.includes('/units/'));
      for (const first of [[], ['# auxcred rendering 1'], ['# auxcred rendering 30']]) {
        writeFileSync(sums, [...first, ...old].join('\n'));
        writeFileSync(unit, '[Service]\nLoadCredential=a:/run/auxcred/credentials.sock\n');
        const blocking = generate({ node: noNode });
        for (const name of ['a.service', 'both.service', 'v.service'])
          assert.match(blocking[dropIn(name)] ?? '', blocked, name);
        const { [provisionFirst]: provision, ...rendered } = generate();
        assert.ok(provision !== undefined);
        assert.match(
          rendered[dropIn('a.service')] ?? '',
          /^LoadCredentialEncrypted=a:\/run\/auxcred\/encrypted\.sock$/m,
        );
        assert.equal(applyRendering(pathsUnder(root), readManifest(root)).length, 1, 'apply replaces them');
        assert.deepEqual(generate({ node: noNode }), rendered);
      }
    });

    test('a manifest renders to the same drop-ins in every release of this version', () => {
      write(
        'etc/auxcred/secrets.d/web.toml',
        ['socket', 'stage', 'credstore', 'file']
          .map(
            (delivery) => `[secret.${delivery}]\ndelivery = "${delivery}"\nunits = ["all.service", "tmpl@.service"]\n`,
          )
          .join(''),
      );
      // What has the boot provision is written each time, and never copied.
      const rendered = Object.entries(generate()).filter(([name]) => !name.endsWith('-provision.conf'));
      const hash = createHash('sha256').update(JSON.stringify(rendered.sort())).digest('hex');
      assert.equal(
        hash,
        'b317fd659fd7564cb607cf6f9c0b8bc55e16dbef581d85e4f84ad05d6c43133a',
        'raise renderingVersion, and the line in the generator with it',
      );
    });

    const changes: Record<string, () => void> = {
      'an edited file': () => {
        write('etc/auxcred/secrets.d/web.toml', manifest.replace('both', 'new'));
      },
      'a new file': () => {
        write('run/auxcred/secrets.d/more.json', '{"secret": {"n": {"units": ["new.service"]}}}');
      },
      'a deleted file': () => {
        rmSync(join(root, 'etc/auxcred/secrets.d/web.toml'));
      },
      'a renamed file': () => {
        rmSync(join(root, 'etc/auxcred/secrets.d/web.toml'));
        write('etc/auxcred/secrets.d/wab.toml', manifest);
      },
      'a mask': () => {
        symlinkSync('/dev/null', join(root, 'etc/auxcred/secrets.d/vendor.toml'));
      },
      'an override': () => {
        write('run/auxcred/secrets.d/vendor.toml', '[secret.v]\nunits = ["new.service"]\n');
      },
    };
    for (const [name, change] of Object.entries(changes))
      test(`notices ${name}`, () => {
        apply();
        change();
        const { [provisionFirst]: first, ...rendered } = generate();
        assert.ok(first !== undefined, 'the slow path was taken');
        apply();
        assert.deepEqual(generate({ node: noNode }), rendered);
      });

    test('an unusable file blocks the units that it had and those that it names, and no others', () => {
      apply();
      for (const broken of [
        '[secret.a]\nunits = ["a.service", "new.service"',
        '[secret.a]\nlenght = 3\nunits = ["a.service", "new.service"]\n',
      ]) {
        write('etc/auxcred/secrets.d/web.toml', broken);
        const rendered = generate();
        for (const unit of ['a.service', 'both.service', 'new.service'])
          assert.match(rendered[dropIn(unit)] ?? '', blocked, unit);
        assert.doesNotMatch(rendered[dropIn('v.service')] ?? '', blocked);
      }
      rmSync(join(root, 'etc/auxcred/secrets.d/web.toml'));
      mkdirSync(join(root, 'etc/auxcred/secrets.d/web.toml'));
      assert.match(generate()[dropIn('a.service')] ?? '', blocked);
    });

    test('an instance with secrets of its own gets those of its template too', () => {
      const own =
        '[secret.own]\nunits = ["w@blue.service"]\n[secret.mine]\ncredential = "a"\nunits = ["w@blue.service"]\n';
      const ofAll = (delivery: string): string =>
        `[secret.all]\ndelivery = "${delivery}"\nunits = ["w@.service"]\n[secret.a]\nunits = ["w@.service"]\n`;
      write('etc/auxcred/secrets.d/web.toml', own + ofAll('socket'));
      const loads = (text = ''): string[] =>
        [...text.matchAll(/^LoadCredential(?:Encrypted)?=([^:]+):/gm)].map(([, id = '']) => id);
      const rendered = generate();
      assert.deepEqual(loads(rendered[dropIn('w@.service')]), ['a', 'all']);
      assert.deepEqual(loads(rendered[dropIn('w@blue.service')]), ['a', 'all', 'own']);
      write('etc/auxcred/secrets.d/web.toml', own + ofAll('stage'));
      const staged = generate();
      assert.deepEqual(loads(staged[dropIn('w@blue.service')]), ['a', 'own', 'all']);
      const file = /^LoadCredential=all:.*$/m;
      assert.equal(
        file.exec(staged[dropIn('w@blue.service')] ?? '')?.[0],
        file.exec(staged[dropIn('w@.service')] ?? '')?.[0],
      );
      assert.doesNotMatch(staged[dropIn('w@blue.service')] ?? '', /ExecStopPost/);
    });

    test('a blocked template blocks its instances, which have drop-ins of their own', () => {
      write('etc/auxcred/secrets.d/blue.toml', '[secret.blue]\nunits = ["w@blue.service"]\n');
      for (const isApplied of [false, true]) {
        if (isApplied) apply();
        write('etc/auxcred/secrets.d/web.toml', '[secret.w\nunits = ["w@.service"]\n');
        for (const given of [{}, ...(isApplied ? [{ node: noNode }] : [])])
          for (const unit of ['w@.service', 'w@blue.service'])
            assert.match(generate(given)[dropIn(unit)] ?? '', blocked, unit);
        write('etc/auxcred/secrets.d/web.toml', manifest);
      }
    });

    test('a rendering that is removed while it is copied is rendered again, or blocked', () => {
      apply();
      const fake = join(folder, 'bin');
      mkdirSync(fake);
      // Copies a part, then fails, as if the rest had just been removed.
      writeFileSync(
        join(fake, 'cp'),
        '#!/bin/sh\nmkdir -p "$3/a.service.d" "$3/gone.service.d"\n: > "$3/a.service.d/50-auxcred.conf"\necho > "$3/gone.service.d/50-auxcred.conf"\nexit 1\n',
      );
      chmodSync(join(fake, 'cp'), 0o755);
      const environment = { PATH: `${fake}:${process.env['PATH'] ?? ''}` };
      const rendered = generate({ environment });
      assert.match(rendered[dropIn('a.service')] ?? '', /^LoadCredentialEncrypted=a:/m);
      assert.match(rendered[dropIn('both.service')] ?? '', /^LoadCredentialEncrypted=a:/m);
      assert.equal(rendered[dropIn('gone.service')], undefined);
      const without = generate({ environment, node: noNode });
      for (const unit of ['a.service', 'both.service', 'v.service']) assert.match(without[dropIn(unit)] ?? '', blocked);
    });

    test('a FIFO in place of a file blocks nobody', () => {
      apply();
      rmSync(join(root, 'etc/auxcred/secrets.d/web.toml'));
      assert.equal(spawnSync('mkfifo', [join(root, 'etc/auxcred/secrets.d/web.toml')]).status, 0);
      assert.match(generate()[dropIn('a.service')] ?? '', blocked);
      assert.match(generate({ node: noNode })[dropIn('a.service')] ?? '', /LoadCredentialEncrypted=a:/);
    });

    const fakes: Record<string, string | undefined> = {
      missing: undefined,
      failing: '#!/bin/sh\nexit 3\n',
      hanging: '#!/bin/sh\nexec sleep 30\n',
      crashing: '#!/bin/sh\nkill -SEGV $$\n',
    };
    for (const [kind, script] of Object.entries(fakes))
      test(`a ${kind} Node never leaves a declared unit without a drop-in`, () => {
        apply();
        write(
          'etc/auxcred/secrets.d/web.toml',
          `${manifest}[secret.new]\nunits = ["new.service", 'esc\\x2daped.service']\n`,
        );
        const node = join(folder, 'node');
        if (script !== undefined) {
          writeFileSync(node, script);
          chmodSync(node, 0o755);
        }
        const rendered = generate({ node });
        for (const unit of ['a.service', 'both.service', 'v.service'])
          assert.match(rendered[dropIn(unit)] ?? '', /LoadCredential/, unit);
        for (const unit of ['new.service', 'esc\\x2daped.service'])
          assert.match(rendered[dropIn(unit)] ?? '', blocked, unit);
        assert.match(readFileSync(join(folder, 'kmsg'), 'utf8'), /^<3>auxcred-generator\[\d+\]: /);
      });

    const isSafe = /^(?:LoadCredentialEncrypted=|AssertPathExists=!\/)/m;
    const losses: Record<string, () => void> = {
      'the drop-ins are gone': () => {
        rmSync(join(root, 'etc/auxcred/rendered/units'), { recursive: true });
      },
      'a drop-in is emptied': () => {
        writeFileSync(join(root, 'etc/auxcred/rendered/units', dropIn('a.service')), '');
      },
      'a drop-in is gone': () => {
        rmSync(join(root, 'etc/auxcred/rendered/units', dropIn('a.service')));
      },
      'the sums are emptied': () => {
        writeFileSync(join(root, 'etc/auxcred/rendered/manifest'), '');
      },
      'the sums are cut off': () => {
        const sums = join(root, 'etc/auxcred/rendered/manifest');
        writeFileSync(sums, readFileSync(sums, 'utf8').slice(0, 100));
      },
      'the folder is a link to nowhere': () => {
        rmSync(join(root, 'etc/auxcred/secrets.d'), { recursive: true });
        symlinkSync('/nonexistent', join(root, 'etc/auxcred/secrets.d'));
      },
      'the folder is a file': () => {
        rmSync(join(root, 'etc/auxcred/secrets.d'), { recursive: true });
        writeFileSync(join(root, 'etc/auxcred/secrets.d'), '');
      },
    };
    for (const [what, damage] of Object.entries(losses))
      for (const node of nodes)
        test(`no unit starts without its secret where ${what}, ${node === noNode ? 'without' : 'with'} Node`, () => {
          apply();
          damage();
          const rendered = generate({ node });
          for (const unit of ['a.service', 'both.service']) assert.match(rendered[dropIn(unit)] ?? '', isSafe, unit);
        });

    for (const [what, bytes] of Object.entries(encodings))
      for (const node of nodes)
        test(`a file that was never applied blocks what it names, ${what}, ${node === noNode ? 'without' : 'with'} Node`, () => {
          apply();
          write('usr/lib/systemd/system/new.service', '[Service]\n');
          write('usr/lib/systemd/system/systemd-networkd.service', '[Service]\n');
          write('etc/auxcred/secrets.d/new.toml', '');
          writeFileSync(join(root, 'etc/auxcred/secrets.d/new.toml'), bytes);
          const rendered = generate({ node });
          assert.match(rendered[dropIn('new.service')] ?? '', blocked);
          assert.equal(rendered[dropIn('systemd-networkd.service')], undefined);
          for (const unit of ['a.service', 'both.service']) assert.match(rendered[dropIn(unit)] ?? '', isSafe, unit);
        });

    test('hostile file names change nothing', () => {
      for (const name of [
        'with space.toml',
        '-rf.toml',
        'new\nline.toml',
        '$(touch pwned).toml',
        "quote'.toml",
        '*.toml',
      ])
        write(`etc/auxcred/secrets.d/${name}`, '');
      apply();
      const copied = generate({ node: noNode });
      assert.equal(Object.keys(copied).length, 3);
      write('etc/auxcred/secrets.d/with space.toml', '[secret.s]\nunits = ["s.service"]\n');
      assert.ok(dropIn('s.service') in generate());
      assert.match(generate({ node: noNode })[dropIn('s.service')] ?? '', blocked);
      assert.ok(!existsSync('pwned'));
    });

    test('prints nothing in the initrd, and nothing if nothing is declared', () => {
      apply();
      assert.deepEqual(generate({ environment: { SYSTEMD_IN_INITRD: '1' } }), {});
      rmSync(root, { recursive: true });
      mkdirSync(root);
      assert.deepEqual(generate({ node: noNode }), {});
    });
  });
