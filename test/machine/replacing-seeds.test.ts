import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { replaceSeeds } from '../../src/machine/replacing-seeds.ts';
import { encodePins, pinsOf, readPins, samePins } from '../../src/seeds/pins.ts';
import type { Scope } from '../../src/seeds/scope.ts';
import { linkTarget } from '../../src/system/files.ts';
import { pathsUnder } from '../../src/system/paths.ts';

const scopesOf = (byte: number): readonly Scope[] => [
  { kind: 'host', name: 'web1', epoch: 1, seed: new Uint8Array(32).fill(byte) },
];
const [oldPins, newPins] = [1, 2].map((byte) => pinsOf(scopesOf(byte), undefined));
assert.ok(oldPins && newPins);

let folder = '';
let root = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'replacing-'));
});
after(() => {
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  root = mkdtempSync(join(folder, 'root-'));
  for (const path of ['etc/auxcred', 'etc/systemd/system/auxcred.service.d', 'var/lib/auxcred'])
    mkdirSync(join(root, path), { recursive: true });
  const paths = pathsUnder(root);
  writeFileSync(paths.pins, encodePins(oldPins));
  writeFileSync(paths.seeds, 'old');
  writeFileSync(paths.brokerDropIn, '[Service]\nBindReadOnlyPaths=-/old\n');
});

/** Replaces the old seeds by new ones under a TPM. */
const replace = async (lock: number | undefined): Promise<0 | 1> =>
  await replaceSeeds({
    root,
    paths: pathsUnder(root),
    payload: {
      counter: 2,
      scopes: scopesOf(2),
      sealing: { withKey: 'tpm2', recovery: [], pcrs: [], pcrsAtFirstBoot: [], lock, device: undefined },
    },
    sealed: Buffer.from('new'),
    sealedKey: undefined,
    pins: newPins,
    counter: undefined,
    active: undefined,
    isBrokerOutdated: true,
  });

/** Keeps seeds.age from being replaced, as a power cut right before it would. */
function blockSeeds(): void {
  const { seeds } = pathsUnder(root);
  rmSync(seeds);
  mkdirSync(join(seeds, 'in-the-way'), { recursive: true });
}

const present = () => {
  const paths = pathsUnder(root);
  const pins = readPins(paths);
  const dropIn = readFileSync(paths.brokerDropIn, 'utf8');
  return {
    pinsOld: pins !== undefined && samePins(pins.scopes, oldPins.scopes),
    pinsNew: pins !== undefined && samePins(pins.next ?? pins.scopes, newPins.scopes),
    grantsOld: dropIn.includes('BindReadOnlyPaths=-/old'),
    grantsNew: dropIn.includes('DeviceAllow='),
    startsAtBoot: linkTarget(paths.brokerAtBoot) !== undefined,
  };
};

const both = { pinsOld: true, pinsNew: true, grantsOld: true, grantsNew: true, startsAtBoot: true };

describe('replacing seeds', () => {
  test('what the new seeds need is there before they are, and what the old ones need stays until then', async () => {
    blockSeeds();
    await assert.rejects(replace(11));
    assert.deepEqual(present(), both);
  });

  test('a broker that starts at boot for a lock does so until the seeds without one are there', async () => {
    await replace(11);
    assert.deepEqual(present(), { ...both, pinsOld: false, grantsOld: false });
    blockSeeds();
    await assert.rejects(replace(undefined));
    assert.equal(present().startsAtBoot, true);
    rmSync(pathsUnder(root).seeds, { recursive: true });
    await replace(undefined);
    assert.equal(present().startsAtBoot, false);
  });
});
