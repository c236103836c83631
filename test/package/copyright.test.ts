import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { copyright } from '../../src/package/copyright.ts';
import { bundle } from '../../src/package/executable.ts';
import { program, scratch, succeed } from './built.ts';

type Paragraph = Readonly<Record<string, string>>;

/** The paragraphs of a file in Debian's form, with the indentation and the dots of empty lines taken away. */
const paragraphsOf = (text: string): Paragraph[] =>
  text
    .trim()
    .split('\n\n')
    .map((block) =>
      Object.fromEntries(
        block.split(/\n(?! )/).map((field): [string, string] => {
          const colon = field.indexOf(':');
          assert.ok(colon > 0, field);
          return [
            field.slice(0, colon),
            field
              .slice(colon + 1)
              .trim()
              .replaceAll(/\n (?:\.$)?/gm, '\n'),
          ];
        }),
      ),
    );

describe('the copyright file', () => {
  const built = scratch();
  const dist = join(built.path, 'dist');
  let paragraphs: Paragraph[] = [];
  before(() => {
    succeed(process.execPath, program('bundle'), `--dist=${dist}`);
    paragraphs = paragraphsOf(readFileSync(join(dist, 'copyright'), 'utf8'));
  });
  after(() => {
    built.remove();
  });
  const about = (files: string): Paragraph => {
    const found = paragraphs.filter(({ Files }) => Files === files);
    assert.equal(found.length, 1, files);
    return found[0] ?? {};
  };

  test('is in the form that Debian reads', () => {
    const [header, ...works] = paragraphs;
    assert.equal(header?.['Format'], 'https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/');
    for (const { Files, Copyright = '', License = '' } of works) {
      assert.match(Copyright, /^\S.+/, Files);
      assert.match(License, /^[\w.+-]+\n\S/, Files);
    }
    assert.equal(about('*')['License'], `Expat\n${readFileSync('LICENSE', 'utf8').trim()}`);
  });

  test('has the licence of every node module inside the programs, word for word', async () => {
    const inside = new Set(['koffi']);
    for (const name of ['auxcred', 'auxcred-broker', 'auxcred-generator'])
      for (const module of await bundle({ name, entry: `src/programs/${name}.ts`, without: [] }, built.path))
        inside.add(module);
    assert.ok(inside.size > 6);
    for (const name of inside) {
      const { License = '', Comment = '' } = about(`node_modules/${name}/*`);
      const file = succeed('sh', '-c', `cat node_modules/${name}/[Ll][Ii][Cc][Ee][Nn]*`);
      const plain = (text: string): string => text.replaceAll(/\s+/g, ' ').trim();
      assert.equal(plain(License.replace(/^.*\n/, '')), plain(file), name);
      assert.match(Comment, /^Version \d+\.\d+\.\d+\.$/, name);
    }
  });

  test('names who made the word list, and its licence', () => {
    const { Copyright = '', License = '', Comment = '' } = about('src/derive/words.ts');
    assert.match(Copyright, /Electronic Frontier Foundation/);
    assert.match(License, /^CC-BY-3\.0-US\n[^]*https:\/\/creativecommons\.org\/licenses\/by\/3\.0\/us\//);
    assert.match(Comment, /unchanged/);
  });

  test('is not made without a licence', () => {
    assert.throws(() => copyright(new Set([`@koromix/koffi-linux-${process.arch}`])), /has no licence file/);
  });
});
