import { commit, type OpenPlace, type Place, placeOf, withSeeds } from '../cli/chosen-folder.ts';
import { viewOf } from '../cli/chosen-manifest.ts';
import { otherVault } from '../cli/chosen-vault.ts';
import { Options } from '../cli/options.ts';
import { exitStatus, Failure, type FailureCode } from '../failure.ts';
import type { OpenFile } from '../fixed/folder.ts';
import { type FixedName, nameText } from '../fixed/name.ts';
import type { VaultReference } from '../manifest/declaration.ts';
import { Fetched } from '../other-vaults/fetched.ts';
import type { OtherVault } from '../other-vaults/protocol.ts';
import { canonicalJson } from '../system/json.ts';
import { say } from '../terminal/say.ts';

/** A secret of another vault, and where it goes. */
interface Wanted {
  readonly name: FixedName;
  readonly vault: VaultReference;
  /** One that declares it. */
  readonly host: string | undefined;
  readonly isShared: boolean;
}

/**
 * `auxcred fetch`: gets the secrets of kind "vault" from their vaults into the fixed folder, for one host or for all of them.
 * A file is written only where the value is another one. A vault that fails keeps what was fetched before, and the others go on.
 */
export async function fetch(argv: readonly string[]): Promise<number> {
  const options = new Options('fetch', argv);
  const place = placeOf(options);
  const hosts =
    place.vault && options.value('host') === undefined ? [...place.vault.hosts.keys()] : [options.value('host')];
  const wanted = new Map<string, Wanted>();
  for (const host of hosts) {
    for (const one of wantedBy(
      place.vault && host !== undefined ? options.with('vault', place.vault.folder).with('host', host) : options,
      host,
    )) {
      const other = wanted.get(nameText(one.name));
      if (other && canonicalJson(other.vault) !== canonicalJson(one.vault))
        throw new Failure(
          'invalid-manifest',
          `${nameText(one.name)} is declared to come from two places in other vaults`,
          { hint: `the manifests of ${other.host ?? ''} and ${host ?? ''} have to agree on it` },
        );
      wanted.set(nameText(one.name), one);
    }
  }
  const chosen = [...wanted.values()].filter(
    ({ name }) =>
      options.operands.length === 0 ||
      options.operands.includes(name.path) ||
      options.operands.includes(nameText(name)),
  );
  const unknown = options.operands.find(
    (operand) => !chosen.some(({ name }) => name.path === operand || nameText(name) === operand),
  );
  if (unknown !== undefined)
    throw new Failure('not-found', `no secret ${unknown} of kind "vault" is declared`, {
      hint: [...wanted.keys()].join(', '),
    });
  const failures: FailureCode[] = [];
  const changed =
    chosen.length === 0
      ? []
      : await withSeeds(place, options, (open) => {
          const fetched = new Fetched(place.fetched);
          const vaults = new Map<string, OtherVault | Failure>();
          const names = chosen.filter((one) => {
            try {
              return fetchOne(open, one, vaultIn(vaults, one.vault.name, place), fetched, options);
            } catch (error) {
              if (!(error instanceof Failure)) throw error;
              failures.push(error.code);
              say(
                `${nameText(one.name)} stays what it is: ${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}`,
              );
              return false;
            }
          });
          if (!options.flag('dry-run')) fetched.save();
          return names;
        });
  for (const { name, vault } of changed)
    say(`${options.flag('dry-run') ? 'would fetch' : 'fetched'} ${nameText(name)} from ${vault.name}`);
  say(
    `${String(changed.length)} of ${String(chosen.length)} secrets from other vaults changed${failures.length === 0 ? '' : `, ${String(failures.length)} failed`}`,
  );
  if (changed.length > 0 && !options.flag('dry-run'))
    commit(
      place,
      `Fetch ${changed.length === 1 ? changed.map(({ name }) => nameText(name)).join('') : `${String(changed.length)} secrets`}`,
    );
  const [first] = failures;
  return first === undefined ? 0 : exitStatus[first];
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

/** A vault that can't be asked at all fails for each of its secrets alike. */
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

/** @returns whether the value is another one */
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

/** What was fetched before; a file that is damaged or of an earlier epoch is fetched again. */
function present({ folder, seedOf }: OpenPlace, name: FixedName): OpenFile | undefined {
  try {
    return folder.open(name, seedOf);
  } catch (error) {
    if (error instanceof Failure && (error.code === 'not-found' || error.code === 'malformed')) return undefined;
    throw error;
  }
}
