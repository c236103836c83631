/** Whose secrets a call means, by its options, on a computer without a seed of its own. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { folderSide, manifestSide, type Side, secretSide } from '../../src/cli/chosen-side.ts';
import { Options } from '../../src/cli/options.ts';

type Sides = readonly [manifest: Side, folder: Side, secret: Side | undefined];

describe('the side that a call means', () => {
  let folder = '';
  const usual = process.env['AUXCRED_VAULT'];
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'side-'));
    mkdirSync(join(folder, 'vault'));
    writeFileSync(join(folder, 'vault/vault.toml'), '');
  });
  afterEach(() => {
    if (usual === undefined) delete process.env['AUXCRED_VAULT'];
    else process.env['AUXCRED_VAULT'] = usual;
  });
  after(() => {
    rmSync(folder, { recursive: true });
  });

  const sides = (vault: string, ...args: readonly string[]): Sides => {
    process.env['AUXCRED_VAULT'] = join(folder, vault);
    const options = new Options('get', args);
    return [manifestSide(options), folderSide(options), secretSide(options)];
  };

  for (const [given, withVault, withoutVault] of [
    [[], ['machine', 'vault', 'vault'], ['machine', 'machine', undefined]],
    [['--group=db'], ['machine', 'vault', 'vault'], ['machine', 'machine', undefined]],
    [['--host=web1'], ['vault', 'vault', 'vault'], ['vault', 'machine', 'vault']],
    [['--vault=V'], ['vault', 'vault', 'vault'], ['vault', 'vault', 'vault']],
    [['--root=/'], ['machine', 'machine', 'machine'], ['machine', 'machine', 'machine']],
    [
      ['--root=/', '--group=db'],
      ['machine', 'machine', 'machine'],
      ['machine', 'machine', 'machine'],
    ],
    [
      ['--root=/', '--host=web1'],
      ['vault', 'machine', 'vault'],
      ['vault', 'machine', 'vault'],
    ],
  ] as const satisfies readonly (readonly [readonly string[], Sides, Sides])[])
    test(`with ${given.join(' ') || 'no option'}`, () => {
      assert.deepEqual(sides('vault', ...given), withVault);
      assert.deepEqual(sides('none', ...given), withoutVault);
    });
});
