/** nixos/render.nix against the program's own rendering. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { brokerDropIn } from '../../src/drop-ins/broker-drop-in.ts';
import { renderDropIn } from '../../src/drop-ins/drop-in.ts';
import { renderUnits } from '../../src/drop-ins/rendering.ts';
import { digestsOf } from '../../src/manifest/declared.ts';
import { type Manifest, manifestOf } from '../../src/manifest/manifest.ts';
import { Json } from '../../src/system/json.ts';
import { systemdVersion } from '../../src/system/systemctl.ts';
import { configurations, type Declared, soundConfigurations } from './declarations.ts';
import { evaluated, isList, nixValue, parseErrors, type Value } from './expression.ts';

const path = '/etc/auxcred/secrets.d/configuration.json';

interface Rendered {
  /** JSON. */
  readonly manifest: string;
  readonly problems: readonly { readonly severity: string; readonly key: string; readonly message: string }[];
  /** Undefined if there are errors. */
  readonly units: readonly { readonly unit: string; readonly sections: Sections }[] | undefined;
  readonly writers: readonly string[];
}

/** The assignments of a drop-in, by section and key. */
type Sections = Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>;

/** Renders configurations with nix, all in one call. */
function rendered(all: readonly Readonly<Record<string, Declared>>[]): readonly Rendered[] {
  const results = evaluated(`
    map (secrets:
      let
        made = import ${resolve('nixos/render.nix')} {
          inherit secrets;
          package = "/usr";
          canRefresh = ${String(systemdVersion() >= 260)};
        };
        isSound = builtins.all ({ severity, ... }: severity != "error") made.problems;
      in
      {
        manifest = builtins.toJSON made.manifest;
        inherit (made) problems;
      }
      // (if isSound then {
        inherit (made) writers;
        units = builtins.mapAttrs (_: unit: {
          inherit (unit) unitConfig serviceConfig;
          ordering = { Wants = unit.wants; After = unit.after; };
        }) made.units;
      } else { })
    ) ${nixValue(all)}`);
  return Json.of(results, 'render.nix', '').list().map(renderedOf);
}

const listsOf = (json: Json): Record<string, readonly string[]> =>
  Object.fromEntries(json.entries().map(([key, list]) => [key, list.list().map((item) => item.text())]));

const renderedOf = (json: Json): Rendered => ({
  manifest: json.at('manifest').text(),
  problems: json
    .at('problems')
    .list()
    .map((problem) => ({
      severity: problem.at('severity').text(),
      key: problem.at('key').text(),
      message: problem.at('message').text(),
    })),
  units: json.at('units').optional((units) =>
    units.entries().map(([unit, made]) => ({
      unit,
      sections: {
        Unit: withLists({ ...listsOf(made.at('unitConfig')), ...listsOf(made.at('ordering')) }),
        Service: listsOf(made.at('serviceConfig')),
      },
    })),
  ),
  writers: json.at('writers').optional((writers) => writers.list().map((writer) => writer.text())) ?? [],
});

/** What the module does to a declaration before it is a manifest's: names of units, and Nix's notation of keys. */
function manifestEntry({ units, neededFor, ...declared }: Declared): Declared {
  const full = (unit: Value): Value =>
    typeof unit !== 'string' ||
    /\.(?:service|socket|target|device|mount|automount|swap|timer|path|slice|scope)$/.test(unit)
      ? unit
      : `${unit}.service`;
  return {
    ...declared,
    ...(units === undefined ? {} : { units: isList(units) ? units.map(full) : units }),
    ...(neededFor === undefined ? {} : { 'needed-for': neededFor }),
  };
}

/** The manifest as a person would write it in JSON. */
const manifestText = (secrets: Readonly<Record<string, Declared>>): string =>
  JSON.stringify({
    secret: Object.fromEntries(Object.entries(secrets).map(([name, declared]) => [name, manifestEntry(declared)])),
  });

/** A problem without what its message quotes: the two languages quote differently. */
const problemLine = ({ severity, key, message }: { severity: string; key?: string | undefined; message: string }) =>
  `${severity} ${key ?? ''}: ${message.replaceAll(/"(?:[^"\\]|\\.)*"/gs, '""')}`;

function assignments(dropIn: string): Sections {
  const sections: Record<string, Record<string, string[]>> = {};
  let section: Record<string, string[]> = {};
  for (const line of dropIn.split('\n')) {
    const heading = /^\[(.*)\]$/.exec(line)?.[1];
    if (heading !== undefined) section = sections[heading] = {};
    else if (line !== '' && !line.startsWith('#'))
      (section[line.slice(0, line.indexOf('='))] ??= []).push(line.slice(line.indexOf('=') + 1));
  }
  return sections;
}

const withLists = (lists: Readonly<Record<string, readonly string[]>>): Record<string, readonly string[]> =>
  Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0));

function sameUnits(manifest: Manifest, { units = [], writers }: Rendered): void {
  const wanted = [...renderUnits(manifest.declarations)].map(([unit, dropIn]) => [unit, assignments(dropIn)]);
  const target: [string, Sections][] = writers.length > 0 ? [['sysinit.target', { Unit: { Wants: writers } }]] : [];
  const made = [...units.map(({ unit, sections }): [string, Sections] => [unit, sections]), ...target];
  assert.deepEqual(Object.fromEntries(made), Object.fromEntries(wanted));
}

test('every file of nixos/ parses', () => {
  const files = readdirSync('nixos', { recursive: true })
    .map((name) => join('nixos', String(name)))
    .filter((name) => name.endsWith('.nix'));
  assert.ok(files.includes('nixos/module.nix'));
  assert.equal(parseErrors(['flake.nix', ...files]), '');
});

describe('render.nix', () => {
  test('renders the same manifest and the same drop-ins as the program', () => {
    const all = fc.sample(soundConfigurations, 200);
    let compared = 0;
    for (const [i, result] of rendered(all).entries()) {
      const secrets = all[i] ?? {};
      const text = manifestText(secrets);
      const manifest = manifestOf([{ path, text }]);
      assert.deepEqual(JSON.parse(result.manifest), JSON.parse(text), nixValue(secrets));
      if (result.units === undefined) continue;
      compared++;
      try {
        sameUnits(manifest, result);
      } catch (error) {
        throw new Error(nixValue(secrets), { cause: error });
      }
    }
    assert.ok(compared > 100, String(compared));
  });

  test('finds the same problems as auxcred check', () => {
    const all = fc.sample(configurations, 400);
    let [sound, broken] = [0, 0];
    for (const [i, result] of rendered(all).entries()) {
      const secrets = all[i] ?? {};
      const { problems } = manifestOf([{ path, text: result.manifest }]);
      assert.deepEqual(
        result.problems.map(problemLine).sort(),
        problems.map(problemLine).sort(),
        `${nixValue(secrets)}\n${JSON.stringify(result.problems, undefined, 1)}`,
      );
      if (problems.some(({ severity }) => severity === 'error')) broken++;
      else sound++;
    }
    assert.ok(sound > 50 && broken > 100, `${String(sound)} sound, ${String(broken)} broken`);
  });

  test('has realms that change when the digest of the declaration does', () => {
    const all = fc.sample(configurations, 300);
    const made = evaluated(`
      map (secrets:
        let made = import ${resolve('nixos/render.nix')} { inherit secrets; };
        in { text = builtins.toJSON made.manifest; inherit (made) realms; }
      ) ${nixValue(all)}`);
    const [realmOf, digestOf] = [new Map<string, string>(), new Map<string, string>()];
    for (const result of Json.of(made, 'render.nix', '').list())
      for (const [name, digest] of digestsOf(result.at('text').text())) {
        const [realm, one] = [result.at('realms').at(name).text(), `${name} ${digest}`];
        assert.equal(realmOf.get(one) ?? realm, realm, name);
        assert.equal(digestOf.get(realm) ?? one, one, name);
        realmOf.set(one, realm);
        digestOf.set(realm, one);
      }
    assert.ok(realmOf.size > 300, String(realmOf.size));
  });

  test('lets a running unit have its new credentials on systemd 260', () => {
    const secrets = { a: { change: 'reload', units: ['web'] }, b: { delivery: 'stage', units: ['web'] } };
    const made = evaluated(`
      (import ${resolve('nixos/render.nix')} {
        secrets = ${nixValue(secrets)};
        canRefresh = true;
      }).units."web.service".serviceConfig`);
    const { declarations } = manifestOf([{ path, text: manifestText(secrets) }]);
    assert.deepEqual(made, assignments(renderDropIn('web.service', declarations, true))['Service']);
  });
});

test('broker.nix has the lines that auxcred seal writes', () => {
  const cases = (['host', 'tpm2', 'tpm2+host', 'systemd-creds'] as const).flatMap((withKey) =>
    [undefined, 'device:/dev/tpmrm1', 'swtpm:path=/run/swtpm,x=y'].flatMap((device) =>
      [true, false].flatMap((sshHostKey) =>
        [true, false].flatMap((tssGroup) =>
          [undefined, '/run/keys/signature.json', '/etc/signature.json', '/run/systemd/tpm2-pcr-signature.json'].map(
            (signature) => ({ withKey, device, sshHostKey, tssGroup, signature }),
          ),
        ),
      ),
    ),
  );
  const made = evaluated(
    `map (import ${resolve('nixos/broker.nix')}) ` +
      `${nixValue(cases.map((one) => ({ ...one, device: one.device ?? null, signature: one.signature ?? null })))}`,
  );
  const lists = Json.of(made, 'broker.nix', '')
    .list()
    .map((lines) =>
      Object.fromEntries(
        lines
          .entries()
          .map(([key, value]) => [key, value.isText() ? [value.text()] : value.list().map((item) => item.text())]),
      ),
    );
  assert.deepEqual(
    lists,
    cases.map(({ signature, ...one }) => {
      const signed = { publicKey: new Uint8Array(), pcrs: [11], signature };
      return assignments(brokerDropIn({ ...one, signed }, one))['Service'];
    }),
  );
});
