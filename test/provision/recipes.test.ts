/** From a manifest to the files that the broker and the next provision read, byte for byte. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { scopeSeed } from '../../src/derive/tree.ts';
import { recipeValue } from '../../src/derive/value.ts';
import { encodeFixed } from '../../src/fixed/file.ts';
import { FixedFolder } from '../../src/fixed/folder.ts';
import { splitName } from '../../src/fixed/name.ts';
import { fixedValues } from '../../src/fixed/value.ts';
import { manifestOf } from '../../src/manifest/manifest.ts';
import { withFingerprint } from '../../src/provision/fingerprint.ts';
import { provision } from '../../src/provision/provision.ts';
import { type Scope, scopeName, seedsOf } from '../../src/seeds/scope.ts';
import {
  installSnapshot,
  parseReleases,
  readFixedFile,
  readSnapshot,
  releaseKey,
} from '../../src/snapshot/snapshot.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import { bytes, hex, spelt, type Text, text } from '../derive/vectors.ts';

interface Machine {
  what: string;
  fleet: string;
  host: string;
  epoch: number;
  groups: Record<string, number>;
  at: string;
  counter: number;
  tpmCounter?: number;
  recipients: string[];
  since: string;
  fixed: { name: string; sequence: number; nonce: string; value: string }[];
  secrets: Record<string, unknown>;
  values: Record<string, { text: string } | { hex: string }>;
  fingerprints: Record<string, string>;
  releases: string;
  record: string;
}
interface Vectors {
  machines: Machine[];
  fingerprints: { what?: string; seed: string; unit: string; credential: string; value: Text; fingerprint: string }[];
}
const vectors: Vectors = JSON.parse(readFileSync('test/vectors/recipes.json', 'utf8'));

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'auxcred-recipes-'));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

function scopesOf({ fleet, host, epoch, groups }: Machine): [Scope, ...Scope[]] {
  const scope = (kind: Scope['kind'], name: string, number: number): Scope => ({
    kind,
    name,
    epoch: number,
    seed: scopeSeed(bytes(fleet), kind, name, number),
  });
  return [scope('host', host, epoch), ...Object.entries(groups).map(([name, number]) => scope('group', name, number))];
}

function putFixed(machine: Machine, scopes: readonly Scope[], folder: FixedFolder): void {
  for (const { name, sequence, nonce, value } of machine.fixed) {
    const file = splitName(name) ?? assert.fail(name);
    const { seed } = scopes.find((scope) => scopeName(scope) === file.scope) ?? assert.fail(name);
    folder.place(file, encodeFixed(seed, file.path, sequence, Buffer.from(value), bytes(nonce)));
  }
}

describe('what a machine activates', () => {
  for (const machine of vectors.machines)
    test(`is that of the published vectors: ${machine.what}`, () => {
      const scopes = scopesOf(machine);
      const [host] = scopes;
      const [paths, copy] = ['a', 'b'].map((name) => pathsUnder(join(root, name)));
      assert.ok(paths && copy);
      putFixed(machine, scopes, new FixedFolder(paths.fixed));
      const { declarations, problems } = manifestOf([
        { path: 'x.json', text: JSON.stringify({ secret: machine.secrets }) },
      ]);
      assert.deepEqual(
        problems.filter(({ severity }) => severity === 'error'),
        [],
      );
      const sealing = {
        withKey: 'host',
        recovery: machine.recipients,
        pcrs: [],
        pcrsAtFirstBoot: [],
        device: undefined,
      } as const;
      provision(root, paths, declarations, scopes, {
        at: new Date(machine.at),
        counter: machine.counter,
        sealing,
        acceptEarlier: false,
        hook: 'later',
        ...(machine.tpmCounter === undefined ? {} : { tpmCounter: machine.tpmCounter - 1 }),
      });
      const snapshot = readSnapshot(paths, host) ?? assert.fail();
      assert.deepEqual(Object.fromEntries(snapshot.fingerprints), machine.fingerprints);
      const sources = {
        seedOf: seedsOf(scopes),
        fixedValue: fixedValues(seedsOf(scopes), (recipe) => readFixedFile(paths, recipe)),
      };
      assert.deepEqual(snapshot.releases.map(releaseKey), Object.keys(machine.values));
      for (const release of parseReleases(Buffer.from(machine.releases), host).releases) {
        const expected = machine.values[releaseKey(release)] ?? assert.fail(releaseKey(release));
        const value = recipeValue(release.recipe, sources);
        if ('hex' in expected) assert.equal(hex(value), expected.hex);
        else assert.equal(text(value), expected.text);
      }
      // The time of activation comes from the clock; the vectors have one of their own.
      const history = new Map(
        [...snapshot.history].map(([name, entries]) => [
          name,
          entries.map((entry) => ({ ...entry, since: machine.since })),
        ]),
      );
      installSnapshot(copy, {
        before: undefined,
        snapshot: { ...snapshot, history },
        host,
        fileOf: (recipe) => readFixedFile(paths, recipe) ?? assert.fail(),
      });
      assert.equal(readFileSync(join(copy.snapshot, 'releases.json'), 'utf8'), machine.releases);
      assert.equal(readFileSync(join(copy.snapshot, 'record.json'), 'utf8'), machine.record);
      assert.deepEqual(readSnapshot(copy, host), { ...snapshot, history });
    });
});

test('fingerprints of releases are those of the published vectors', () => {
  for (const { seed, unit, credential, value, fingerprint } of vectors.fingerprints) {
    withFingerprint(bytes(seed), (of) => {
      assert.equal(of('release', unit, credential, bytes(spelt(value))), fingerprint);
    });
  }
});
