import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { contentOf, filesIn, run, scratch, succeed } from './built.ts';
import { emptyPackage, pooled, type Signer, signer, tamper, withVersion } from './repository.ts';

describe('the apt repository', () => {
  const work = scratch();
  const ours = signer();
  const repository = join(work.path, 'repo');
  const release = join(repository, 'dists/stable/Release');
  let [first, second] = ['', ''];
  before(() => {
    const small = emptyPackage('auxcred', '1', work.path);
    first = withVersion(small, '1.0', work.path);
    second = withVersion(small, '1.1', work.path);
  });
  after(() => {
    ours[Symbol.dispose]();
    work.remove();
  });
  const publish = (by: Pick<Signer, 'publish'>, ...args: string[]): string => {
    const { status, stdout, stderr } = by.publish(...args);
    assert.equal(status, 0, stderr);
    return stdout;
  };
  const verify = (): number | null => {
    const key = join(work.path, 'key.gpg');
    succeed('gpg', '--batch', '--yes', '--dearmor', '--output', key, join(repository, 'auxcred.asc'));
    const inline = run('gpgv', '--keyring', key, join(repository, 'dists/stable/InRelease')).status;
    const detached = run('gpgv', '--keyring', key, `${release}.gpg`, release).status;
    return inline === 0 ? detached : inline;
  };

  test('is signed, and prints what a machine needs', () => {
    const said = publish(ours, `--output=${repository}`, '--url=https://example.org/auxcred', first);
    assert.equal(verify(), 0);
    assert.match(said, new RegExp(`signed by ${ours.fingerprint}`));
    assert.match(said, /^ {4}install -D -m 644 auxcred\.asc \/etc\/apt\/keyrings\/auxcred\.asc$/m);
    const sources = readFileSync(join(repository, 'auxcred.sources'), 'utf8');
    assert.ok(said.includes(sources));
    assert.match(sources, /^URIs: https:\/\/example\.org\/auxcred$/m);
    assert.match(sources, /^Signed-By: \/etc\/apt\/keyrings\/auxcred\.asc$/m);
    assert.doesNotMatch(readFileSync(release, 'utf8'), /Valid-Until/, 'unless it is asked for');

    const undo = tamper(release);
    assert.notEqual(verify(), 0);
    undo();
  });

  test('names each list by its hash, and the package by its own', () => {
    const text = readFileSync(release, 'utf8');
    assert.match(text, /^Acquire-By-Hash: yes$/m);
    const lists = [...text.matchAll(/^ ([0-9a-f]{64}) (\d+) (\S+)$/gm)];
    assert.deepEqual(
      lists.map(([, , , path = '']) => basename(path)),
      ['Packages', 'Packages.xz'],
    );
    for (const [, hash = '', size, path = ''] of lists) {
      const content = readFileSync(join(repository, 'dists/stable', path));
      assert.equal(createHash('sha256').update(content).digest('hex'), hash);
      assert.equal(content.length, Number(size));
      assert.deepEqual(readFileSync(join(repository, 'dists/stable', path, '../by-hash/SHA256', hash)), content);
    }
    const list = succeed('xz', '--decompress', '--stdout', join(repository, 'dists/stable', lists[1]?.[3] ?? ''));
    const sum = createHash('sha256').update(readFileSync(first)).digest('hex');
    assert.match(list, new RegExp(`^SHA256: ${sum}$`, 'm'));
    assert.doesNotMatch(list, /^(?:MD5sum|SHA1):/m);
  });

  test('keeps the older version, and the lists that a machine may just be reading', () => {
    const old = [...readFileSync(release, 'utf8').matchAll(/^ ([0-9a-f]{64}) /gm)].map(([, hash = '']) => hash);
    publish(ours, `--output=${repository}`, second);
    const hashes = filesIn(repository).filter((path) => path.includes('/by-hash/'));
    assert.equal(hashes.length, 4);
    for (const hash of old) assert.ok(hashes.some((path) => path.endsWith(hash)));
    assert.ok(existsSync(pooled(repository, '_1.0_')));
    publish(ours, `--output=${repository}`, second);
    assert.equal(filesIn(repository).filter((path) => path.includes('/by-hash/')).length, 2);
  });

  test('refuses other content for a published version, and leaves all as it is', () => {
    const before = contentOf(repository);
    const folder = scratch();
    const changed = join(folder.path, basename(second));
    cpSync(first, changed);
    const { status, stderr } = ours.publish(`--output=${repository}`, changed);
    folder.remove();
    assert.notEqual(status, 0);
    assert.match(stderr, /a published version can't change, raise the version/);
    assert.deepEqual(contentOf(repository), before);
  });

  test('is the same bytes at another time in another folder', () => {
    const copies = ['a', 'b'].map((name) => join(work.path, name));
    for (const copy of copies)
      publish(
        ours.at(1_700_000_000),
        `--output=${copy}`,
        '--url=https://example.org/',
        '--valid-days=30',
        first,
        second,
      );
    const [one = '', other = ''] = copies;
    assert.deepEqual(contentOf(other), contentOf(one));
    const text = readFileSync(join(one, 'dists/stable/InRelease'), 'utf8');
    assert.match(text, /^Date: Tue, 14 Nov 2023 22:13:20 UTC$/m);
    assert.match(text, /^Valid-Until: Thu, 14 Dec 2023 22:13:20 UTC$/m);
  });

  test("refuses what can't work", () => {
    const output = join(work.path, 'refused');
    for (const [args, expected] of [
      [[`--key=${ours.fingerprint.slice(-16)}`, first], /the whole fingerprint/],
      [['--valid-days=soon', first], /not a number of days/],
      [['--url=example.org', first], /not a URL that apt reads/],
      [['--sign', first], /--sign is not an option/],
      [[`--key=${'A'.repeat(40)}`, first], /gpg failed/],
    ] as const) {
      const { status, stderr } = ours.publish(`--output=${output}`, ...args);
      assert.notEqual(status, 0, args.join(' '));
      assert.match(stderr, expected);
    }
    assert.ok(!existsSync(join(output, 'dists/stable/InRelease')));
    assert.ok(!existsSync(join(output, 'dists')) || !readdirSync(join(output, 'dists/stable')).includes('Release'));
  });
});
