/** The boot menu: the order of systemd-boot as bootctl shows it, and versions as systemd-analyze compares them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { defaultBoot, installedBoots, namedBoot, startedBy } from '../../src/health/boot-entries.ts';
import { defaultEntry, type MenuChoice, type MenuEntry, versionOrder } from '../../src/measured/boot-menu.ts';
import { commandLineOf, efiPath, parseLoaderEntry, partsOf } from '../../src/measured/loader-entry.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import { failsWith } from '../tpm2/sealing.ts';
import { bootLoader, makeUki, read, run } from './images.ts';

const root = mkdtempSync(join(tmpdir(), 'auxcred-menu-'));
after(() => {
  rmSync(root, { recursive: true, force: true });
});
const paths = pathsUnder(root);
const esp = join(root, 'efi');
const place = (path: string, content: Uint8Array | string): void => {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
};
const variable = (name: string, text: string): void => {
  const file = `sys/firmware/efi/efivars/${name}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f`;
  place(file, Buffer.concat([Buffer.from([7, 0, 0, 0]), Buffer.from(`${text}\0`, 'utf16le')]));
};

describe('versions', () => {
  test('are ordered as systemd-analyze orders them', () => {
    const version = fc.stringMatching(/^[a-c0-3~^.\-_+]{0,8}$/).filter((text) => !text.startsWith('-'));
    fc.assert(
      fc.property(version, version, (a, b) => {
        const { status } = spawnSync('systemd-analyze', ['compare-versions', a, b]);
        // 11: the first is newer, 12: the second.
        const expected = status === 11 ? 1 : status === 12 ? -1 : status;
        assert.equal(Math.sign(versionOrder(a, b)), expected, `${a} ${b}`);
      }),
      { numRuns: 150 },
    );
  });
});

describe('the menu', () => {
  const conf = (version: string, more = ''): string =>
    `title ${version}\nversion ${version}\nlinux /m/linux\noptions quiet\n${more}`;
  const entries: Readonly<Record<string, string>> = {
    'b-1.9.conf': conf('1.9'),
    'b-1.10.conf': conf('1.10'),
    'keyed-1.conf': conf('1', 'sort-key debian\nmachine-id aa\n'),
    'keyed-2.conf': conf('2', 'sort-key debian\nmachine-id aa\n'),
    'other.conf': conf('9', 'sort-key arch\n'),
    'bad+0-3.conf': conf('99', 'sort-key arch\n'),
  };
  place('efi/m/linux', read(bootLoader));
  for (const [name, text] of Object.entries(entries)) place(`efi/loader/entries/${name}`, text);
  place('efi/loader/entries/gone.conf', 'title gone\nlinux /m/none\nsort-key aaa\n');
  const { file } = makeUki(root, 'u.efi', {
    '.linux': read(bootLoader),
    '.cmdline': 'quiet',
    '.osrel': 'ID=debian\nNAME=Debian\nPRETTY_NAME="Debian 13"\nVERSION_ID="13"\n',
  });
  place('efi/EFI/Linux/u.efi', read(file));

  test('has the order that bootctl shows', () => {
    // bootctl wants a mount point.
    const script =
      'mount -t tmpfs none "$1/mnt" && cp -r "$1/efi/." "$1/mnt" && bootctl --esp-path="$1/mnt" --no-pager list';
    mkdirSync(join(root, 'mnt'));
    const { stdout, stderr } = spawnSync('unshare', ['--map-root-user', '--mount', 'sh', '-c', script, 'sh', root], {
      encoding: 'utf8',
      env: { ...process.env, SYSTEMD_RELAX_ESP_CHECKS: '1', LC_ALL: 'C' },
    });
    const shown = [...stdout.matchAll(/^ +id: (\S+)/gm)].map(([, id]) => id ?? '');
    const ours = installedBoots(paths).map(({ id }) => id);
    assert.ok(shown.length >= 6, `${stdout}${stderr}`);
    const known = shown.map((id) => id.replace(/\+\d+(?:-\d+)?/, '')).filter((id) => ours.includes(id));
    assert.deepEqual(
      ours.filter((id) => known.includes(id)),
      known,
    );
    assert.ok(ours.includes('u.efi'));
    assert.ok(!ours.includes('gone.conf'));
  });

  test('boots the first, unless something else was chosen', () => {
    const chosen = (): string | undefined => defaultBoot(paths)?.id;
    assert.equal(chosen(), 'other.conf');
    place('efi/loader/loader.conf', '# comment\ntimeout 3\ndefault b-*\n');
    assert.equal(chosen(), 'b-1.10.conf');
    variable('LoaderEntryDefault', 'keyed-1.conf');
    assert.equal(chosen(), 'keyed-1.conf');
    variable('LoaderEntryLastBooted', 'u.efi');
    variable('LoaderEntryDefault', '@saved');
    assert.equal(chosen(), 'u.efi');
    variable('LoaderEntryOneShot', 'B-1.9.conf');
    assert.equal(chosen(), 'b-1.9.conf');
    variable('LoaderEntryOneShot', 'no-such.conf');
    assert.equal(chosen(), 'u.efi');
  });

  test('boots a bad entry only if there is no other', () => {
    const entry = (id: string, triesLeft: number | undefined): MenuEntry => ({
      id,
      triesLeft,
      sortKey: undefined,
      machineId: undefined,
      version: undefined,
    });
    const none: MenuChoice = { once: undefined, always: undefined, configured: undefined, last: undefined };
    assert.equal(defaultEntry([entry('b', 0), entry('a', 3)], none)?.id, 'a');
    assert.equal(defaultEntry([entry('b', 0)], none)?.id, 'b');
    assert.equal(defaultEntry([], none), undefined);
  });

  test('finds entries and UKIs by id and by path', () => {
    for (const named of ['b-1.9.conf', 'b-1.9', join(esp, 'loader/entries/b-1.9.conf')])
      assert.equal(namedBoot(paths, named)?.file, join(esp, 'loader/entries/b-1.9.conf'));
    for (const named of ['u', 'U.efi', join(esp, 'EFI/Linux/u.efi')])
      assert.equal(namedBoot(paths, named)?.file, join(esp, 'EFI/Linux/u.efi'));
    assert.equal(namedBoot(paths, 'nothing'), undefined);
  });

  test('reads what an entry starts', () => {
    place('efi/m/i1', 'abc');
    place('efi/m/i2', 'de');
    place('efi/loader/entries/two.conf', 'linux /m/linux\ninitrd /m/i1\ninitrd m//i2\noptions a\noptions b\n');
    const started = startedBy({ id: 'two.conf', file: join(esp, 'loader/entries/two.conf') });
    assert.ok(started.kind === 'linux');
    assert.equal(started.commandLine, 'initrd=\\m\\i1 initrd=m\\i2 a b');
    assert.equal(Buffer.from(started.initrd).toString(), 'abcde');
    assert.match(started.unknown ?? '', /no multiple of 4/);
    const hash = /hash: ([0-9a-f]{64})/.exec(run('pesign', '-h', '-i', bootLoader))?.[1];
    assert.equal(Buffer.from(started.image.digest('sha256')).toString('hex'), hash);
    const edited = startedBy({ id: 'two.conf', file: join(esp, 'loader/entries/two.conf') }, 'single');
    assert.equal(edited.commandLine, 'initrd=\\m\\i1 initrd=m\\i2 single');
    for (const [text, code] of [
      ['linux /m/none\n', 'not-found'],
      ['linux /m/linux\ninitrd /m/none\n', 'not-found'],
      ['linux /../../etc/passwd\n', 'malformed'],
      ['title nothing\n', 'malformed'],
    ] as const) {
      place('efi/loader/entries/wrong.conf', text);
      const wrong = { id: 'wrong.conf', file: join(esp, 'loader/entries/wrong.conf') };
      assert.throws(() => startedBy(wrong), failsWith(code), text);
    }
    rmSync(join(esp, 'loader/entries/wrong.conf'));
  });
});

describe('the text of an entry', () => {
  test('any text is parsed, and no path leads out of the partition', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const entry = parseLoaderEntry(text, 'x.conf');
        assert.equal(typeof (commandLineOf(entry) ?? ''), 'string');
      }),
    );
    fc.assert(
      fc.property(fc.array(fc.constantFrom('..', '.', 'a', '/', '\\'), { maxLength: 6 }), (parts) => {
        try {
          assert.ok(!partsOf(parts.join('/'), 'x').includes('..'));
        } catch (error) {
          assert.ok(failsWith('malformed')(error));
        }
      }),
    );
  });

  test('comments, unknown keys and quotes are read as systemd-boot reads them', () => {
    const entry = parseLoaderEntry(
      '#linux /a\n linux\t/b \nlinux /c\nfoo bar\ntitle "x y"\noptions "q r"\noptions\n',
      'x',
    );
    assert.deepEqual([entry.linux, entry.options, entry.initrds], ['/c', 'q r', []]);
    assert.equal(efiPath('//a/./b\\\\c'), '\\a\\.\\b\\c');
  });
});
