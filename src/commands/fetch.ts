import { type OpenPlace, type Place, placeOf, withSeeds } from '../cli/chosen-folder.ts';
import { viewOf } from '../cli/chosen-manifest.ts';
import { failureLine } from '../cli/failure-line.ts';
import { commit } from '../cli/kept-changes.ts';
import { Options } from '../cli/options.ts';
import { otherVault } from '../cli/other-vault.ts';
import { exitStatus, Failure, type FailureCode } from '../failure.ts';
import type { OpenFile } from '../fixed/folder.ts';
import { type FixedName, nameText } from '../fixed/name.ts';
import type { VaultReference } from '../manifest/declaration.ts';
import { Fetched } from '../other-vaults/fetched.ts';
import type { OtherVault } from '../other-vaults/protocol.ts';
import { canonicalJson } from '../system/json.ts';
import { say } from '../terminal/say.ts';

/** A secret of another vault, and its name here. */
interface Wanted {
  readonly name: FixedName;
  readonly vault: VaultReference;
  /** A host that declares it. */
  readonly host: string | undefined;
  readonly isShared: boolean;
}

/**
 * `auxcred fetch`: fetches the secrets of kind "vault" from their vaults into the fixed folder, for one host or for
 * all. A file is written only if its value changed. If a vault fails, what was fetched before stays, and the others go
 * on.
 */
export async function fetch(argv: readonly string[]): Promise<number> {
  const options = new Options('fetch', argv);
  const place = placeOf(options);
  const chosen = chosenAmong(wantedIn(place, options), options.operands);
  const { changed, failures } = chosen.length === 0 ? nothing : await fetchAll(place, chosen, options);
  const isDry = options.flag('dry-run');
  for (const { name, vault } of changed)
    say(`${isDry ? 'would fetch' : 'fetched'} ${nameText(name)} from ${vault.name}`);
  const failed = failures.length === 0 ? '' : `, ${String(failures.length)} failed`;
  say(`${String(changed.length)} of ${String(chosen.length)} secrets from other vaults changed${failed}`);
  if (changed.length > 0 && !isDry) commit(place, `Fetch ${namesOf(changed)}`);
  const [first] = failures;
  return first === undefined ? 0 : exitStatus[first];
}

interface Outcome {
  readonly changed: readonly Wanted[];
  readonly failures: readonly FailureCode[];
}

const nothing: Outcome = { changed: [], failures: [] };

const namesOf = (changed: readonly Wanted[]): string =>
  changed.length === 1 ? changed.map(({ name }) => nameText(name)).join('') : `${String(changed.length)} secrets`;

/**
 * The secrets that the manifests of all hosts, or of the named one, ask for.
 * @throws Failure if they contradict each other
 */
function wantedIn(place: Place, options: Options): ReadonlyMap<string, Wanted> {
  const given = options.value('host');
  const hosts = place.vault && given === undefined ? [...place.vault.hosts.keys()] : [given];
  const wanted = new Map<string, Wanted>();
  for (const host of hosts) {
    const isElsewhere = place.vault && host !== undefined;
    const asked = isElsewhere ? options.with('vault', place.vault.folder).with('host', host) : options;
    for (const one of wantedBy(asked, host)) {
      const name = nameText(one.name);
      const other = wanted.get(name);
      if (other && canonicalJson(other.vault) !== canonicalJson(one.vault))
        throw new Failure('invalid-manifest', `${name} is declared with two different sources in other vaults`, {
          hint: `the manifests of ${other.host ?? ''} and ${host ?? ''} have to agree on it`,
        });
      wanted.set(name, one);
    }
  }
  return wanted;
}

/** The named ones, or all. @throws Failure `not-found` for an unknown name */
function chosenAmong(wanted: ReadonlyMap<string, Wanted>, operands: readonly string[]): Wanted[] {
  const isNamed = ({ name }: Wanted, operand: string): boolean => name.path === operand || nameText(name) === operand;
  const all = [...wanted.values()];
  const unknown = operands.find((operand) => !all.some((one) => isNamed(one, operand)));
  if (unknown !== undefined)
    throw new Failure('not-found', `no secret ${unknown} of kind "vault" is declared`, {
      hint: [...wanted.keys()].join(', ') || 'kind = "vault" in a manifest declares one',
    });
  return operands.length === 0 ? all : all.filter((one) => operands.some((operand) => isNamed(one, operand)));
}

/** Fetches each. One that fails is unchanged, and the reason is printed. */
async function fetchAll(place: Place, chosen: readonly Wanted[], options: Options): Promise<Outcome> {
  const failures: FailureCode[] = [];
  const changed = await withSeeds(place, options, (open) => {
    const fetched = new Fetched(place.fetched);
    const vaults = new Map<string, OtherVault | Failure>();
    const names = chosen.filter((one) => {
      try {
        return fetchOne(open, one, vaultIn(vaults, one.vault.name, place), fetched, options);
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        failures.push(error.code);
        say(`${nameText(one.name)} is unchanged: ${failureLine(error)}`);
        return false;
      }
    });
    if (!options.flag('dry-run')) fetched.save();
    return names;
  });
  return { changed, failures };
}

function wantedBy(options: Options, host: string | undefined): Wanted[] {
  const { manifest, standpoint } = viewOf(options);
  return manifest.declarations.flatMap(({ content }) =>
    content.form === 'fixed' && content.vault !== undefined
      ? [
          {
            name: {
              scope: content.share === undefined ? standpoint.host : `group/${content.share}`,
              path: content.path,
            },
            vault: content.vault,
            host,
            isShared: content.share !== undefined,
          },
        ]
      : [],
  );
}

/** A vault that can't be reached fails for each of its secrets. */
function vaultIn(vaults: Map<string, OtherVault | Failure>, name: string, place: Place): OtherVault {
  let vault = vaults.get(name);
  if (vault === undefined) {
    try {
      vault = otherVault(name, place);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      vault = error;
    }
    vaults.set(name, vault);
  }
  if (vault instanceof Failure) throw vault;
  return vault;
}

/** @returns whether the value changed */
function fetchOne(
  open: OpenPlace,
  { name, vault, host, isShared }: Wanted,
  source: OtherVault,
  fetched: Fetched,
  options: Options,
): boolean {
  const old = present(open, name);
  try {
    const request = { name: vault.path, options: vault.options, host: isShared ? undefined : host };
    const fingerprint = source.fingerprint(request);
    if (old && fingerprint !== undefined && !options.flag('all') && fetched.has(name, vault, fingerprint, old.sequence))
      return false;
    const value = source.get(request);
    try {
      const changed = !old || Buffer.compare(old.value, value) !== 0;
      if (options.flag('dry-run')) return changed;
      const sequence = changed ? open.folder.write(name, value, open) : old.sequence;
      fetched.note(name, vault, fingerprint, sequence);
      return changed;
    } finally {
      value.fill(0);
    }
  } finally {
    old?.value.fill(0);
  }
}

/** The value that was fetched before; a file that is damaged or of an earlier epoch is fetched again. */
function present({ folder, seedOf }: OpenPlace, name: FixedName): OpenFile | undefined {
  try {
    return folder.open(name, seedOf);
  } catch (error) {
    if (error instanceof Failure && (error.code === 'not-found' || error.code === 'malformed')) return undefined;
    throw error;
  }
}
