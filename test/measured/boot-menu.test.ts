/**
 * The boot menu: what it boots, and versions as systemd-analyze compares them. Its order is compared with bootctl's in
 * `test/measured-boot/menu.test.ts`, since bootctl can't be installed without a boot loader.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { defaultBoot, namedBoot, startedBy } from '../../src/health/boot-entries.ts';
import { defaultEntry, type MenuChoice, type MenuEntry, versionOrder } from '../../src/measured/boot-menu.ts';
import { commandLineOf, efiPath, parseLoaderEntry, partsOf } from '../../src/measured/loader-entry.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import { failsWith } from '../tpm2/sealing.ts';
import { bootLoader, run } from './images.ts';
import { placeIn, placeMenu } from './menu.ts';

const root = mkdtempSync(join(tmpdir(), 'auxcred-menu-'));
after(() => {
  rmSync(root, { recursive: true, force: true });
});
const paths = pathsUnder(root);
const esp = join(root, 'efi');
const place = placeIn(root);
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
  placeMenu(root);

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
