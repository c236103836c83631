/** Verbs that change what is stored: rm, mv, cp, edit, generate. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeEach, describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { at, auxcred, fails, file, names, typed, useVault, works } from './vault.ts';

useVault();

describe('rm, mv and cp', () => {
  beforeEach(() => {
    for (const name of ['host/web1/a', 'host/web1/dir/b', 'host/web1/dir/c']) works(['put', name], name);
  });

  test('rm takes a secret and the folders that it leaves empty; more than one only when told to', () => {
    fails(['rm', 'host/web1/dir'], exitStatus.refused, /is a folder/);
    fails(['rm', 'host/web1/zzz', '--force'], exitStatus['not-found'], /there is no/);
    assert.equal(typed(['rm', 'host/web1/a'], 'n\n').status, exitStatus.refused);
    assert.equal(typed(['rm', 'host/web1/a'], 'y\n').status, 0);
    works(['rm', '--recursive', '--force', 'host/web1/dir']);
    assert.deepEqual(names(), []);
    assert.ok(!existsSync(at('vault/fixed/host')));
  });

  test('mv and cp re-encrypt, also for another scope', () => {
    const before = readFileSync(file('host/web1/a'));
    works(['cp', 'host/web1/a', 'group/db/a']);
    works(['mv', 'host/web1/a', 'host/web2/']);
    assert.equal(works(['get', 'host/web2/a']), 'host/web1/a');
    assert.equal(works(['get', 'group/db/a']), 'host/web1/a');
    assert.notDeepEqual(readFileSync(file('host/web2/a')), before);
    works(['mv', 'host/web1/dir', 'group/db/moved']);
    assert.deepEqual(names(), ['group/db/a', 'group/db/moved/b', 'group/db/moved/c', 'host/web2/a']);
    assert.equal(works(['get', 'group/db/moved/c']), 'host/web1/dir/c');
    fails(['mv', 'group/db/a', 'group/db/moved/b'], exitStatus.refused, /group\/db\/moved\/b already exists/);
    fails(['mv', 'group/db/moved', 'group/db/moved/inside'], exitStatus.usage, /is inside/);
    fails(['cp', 'host/web9/a', 'host/web1/a'], exitStatus['not-found'], /there is no/);
  });

  test('mv and cp of folders that overlap lose no secret', () => {
    for (const name of ['host/web1/x/a/b', 'host/web1/x/a/a/b', 'host/web1/x/b']) works(['put', name], name);
    const before = names();
    for (const verb of ['mv', 'cp']) {
      fails(
        [verb, '--force', 'host/web1/x/a', 'host/web1/x'],
        exitStatus.refused,
        /host\/web1\/x\/a\/a\/b would take the place of host\/web1\/x\/a\/b, which is in host\/web1\/x\/a too, so nothing was changed\n.*go through another name/,
      );
      assert.deepEqual(names(), before);
      for (const name of before) assert.equal(works(['get', name]), name);
    }
    works(['mv', 'host/web1/x/a', 'host/web1/y']);
    fails(['mv', 'host/web1/y', 'host/web1/x'], exitStatus.refused, /host\/web1\/x\/b already exists/);
    works(['mv', '--force', 'host/web1/y', 'host/web1/x']);
    assert.equal(works(['get', 'host/web1/x/b']), 'host/web1/x/a/b');
    assert.equal(works(['get', 'host/web1/x/a/b']), 'host/web1/x/a/a/b');
  });

  test('a conflicting name is found before the first secret moves', () => {
    works(['put', 'group/db/moved/C'], 'x');
    fails(
      ['mv', 'host/web1/dir', 'group/db/moved'],
      exitStatus.refused,
      /differ from group\/db\/moved\/C only in case/,
    );
    assert.deepEqual(names(), ['group/db/moved/C', 'host/web1/a', 'host/web1/dir/b', 'host/web1/dir/c']);
  });

  test('mv of a folder with a file that does not open moves nothing', () => {
    writeFileSync(file('host/web1/dir/c'), 'damaged');
    fails(
      ['mv', 'host/web1/dir', 'group/db/moved'],
      exitStatus.malformed,
      /host\/web1\/dir\/c is not a file of a fixed folder/,
    );
    assert.deepEqual(names(), ['host/web1/a', 'host/web1/dir/b', 'host/web1/dir/c']);
  });
});

describe('edit', () => {
  const editor = (script: string): NodeJS.ProcessEnv => {
    writeFileSync(
      at('editor'),
      `#!/bin/sh\nstat -f -c %T "$1" > ${at('where')}; stat -c %a "$1" >> ${at('where')}\n${script}\n`,
      { mode: 0o755 },
    );
    return { EDITOR: at('editor') };
  };

  test('happens in memory and leaves nothing there', () => {
    works(['put', 'host/web1/a'], 'old');
    const left = (): string[] =>
      ['/dev/shm', '/run'].flatMap((place) => readdirSync(place)).filter((name) => name.startsWith('auxcred-'));
    const before = left();
    assert.equal(auxcred(['edit', 'host/web1/a'], '', editor('printf "new\\nlines\\n" > "$1"')).status, 0);
    assert.equal(readFileSync(at('where'), 'utf8'), 'tmpfs\n600\n');
    assert.equal(works(['get', 'host/web1/a']), 'new\nlines\n');
    assert.deepEqual(left(), before);
  });

  test('keeps the old secret if nothing changed, everything was deleted, or the editor failed', () => {
    works(['put', 'host/web1/a'], 'old');
    const before = readFileSync(file('host/web1/a'));
    assert.match(auxcred(['edit', 'host/web1/a'], '', editor('true')).stderr, /host\/web1\/a is unchanged/);
    assert.equal(auxcred(['edit', 'host/web1/a'], '', editor(': > "$1"')).status, exitStatus.usage);
    assert.equal(auxcred(['edit', 'host/web1/a'], '', editor('echo x > "$1"; exit 3')).status, exitStatus.system);
    assert.match(
      auxcred(['edit', 'host/web1/a'], '', { EDITOR: '/no/such/editor' }).stderr,
      /the editor \/no\/such\/editor can't be run: there is no such program$/m,
    );
    assert.deepEqual(readFileSync(file('host/web1/a')), before);
  });

  test('drops the newline that an editor adds to a secret that had none', () => {
    works(['put', 'host/web1/a'], 'old');
    assert.match(auxcred(['edit', 'host/web1/a'], '', editor('echo >> "$1"')).stderr, /unchanged/);
    assert.equal(auxcred(['edit', 'host/web1/a'], '', editor('echo new > "$1"')).status, 0);
    assert.equal(works(['get', 'host/web1/a']), 'new');
    assert.equal(auxcred(['edit', 'host/web1/fresh'], '', editor('echo one > "$1"')).status, 0);
    assert.equal(works(['get', 'host/web1/fresh']), 'one');
  });
});

describe('generate', () => {
  test('stores a random secret of any kind, and shows at most a public half', () => {
    assert.equal(works(['generate', 'host/web1/a', '--length=40', '--alphabet=readable', '--require=digit,upper']), '');
    assert.match(works(['get', 'host/web1/a']), /^(?=.*\d)(?=.*[A-Z])[2-9A-HJ-NP-Za-km-z]{40}$/);
    const shown = works(['generate', 'host/web1/key', '--kind=ssh-ed25519', '--comment=me']);
    writeFileSync(at('key'), works(['get', 'host/web1/key']), { mode: 0o600 });
    assert.equal(shown, spawnSync('ssh-keygen', ['-y', '-f', at('key')], { encoding: 'utf8' }).stdout);
    works(['generate', 'host/web1/words', '--kind=passphrase', '--words=8', '--separator= ']);
    assert.equal(works(['get', 'host/web1/words']).split(' ').length, 8);
    const first = works(['get', 'host/web1/a']);
    works(['generate', 'host/web1/a', '--length=40', '--force']);
    const second = works(['get', 'host/web1/a']);
    assert.notEqual(first, second);
  });

  test('refuses what can be guessed, what a kind does not have, and an overwrite', () => {
    fails(
      ['generate', 'host/web1/a', '--length=8'],
      exitStatus.usage,
      /it can be guessed: it has 48 bits.*\n.*; --weak if/,
    );
    works(['generate', 'host/web1/a', '--length=8', '--weak']);
    fails(['generate', 'host/web1/b', '--kind=uuid', '--length=8'], exitStatus.usage, /a uuid has no --length/);
    fails(['generate', 'host/web1/b', '--kind=pasword'], exitStatus.usage, /--kind=pasword is not known/);
    fails(['generate', 'host/web1/b', '--length=x'], exitStatus.usage, /--length: a whole number/);
    fails(['generate', 'host/web1/a'], exitStatus.refused, /exists/);
  });
});
