import { exitStatus, Failure, type FailureCode } from '../failure.ts';
import { type FixedName, nameText } from '../fixed/name.ts';
import type { FixedContent, VaultReference } from '../manifest/declaration.ts';
import { Fetched } from '../vault/fetched.ts';
import type { VaultSource } from '../vault/protocol.ts';
import { Options } from './options.ts';
import { commit, isVault, type OpenPlace, type Place, placeOf, withSeeds } from './place.ts';
import { say } from './say.ts';
import { sourceFor } from './source.ts';
import { viewLists, viewOf, viewOptions } from './view.ts';

/** A secret of another vault, and where it goes. */
interface Wanted {
  readonly name: FixedName;
  readonly vault: VaultReference;
  readonly host: string | undefined;
}

/**
 * `auxcred fetch`: gets the secrets of kind "vault" from their vaults into the fixed folder, for one host or for all of them.
 * A file is written only where the value is another one. A vault that fails keeps what was fetched before, and the others go on.
 */
export async function fetch(argv: readonly string[]): Promise<number> {
  const lists = [...viewLists];
  const taken = { flags: ['dry-run', 'all'], values: [...viewOptions], lists };
  const options = new Options('fetch', argv, taken);
  const place = placeOf(options);
  const hosts = place.vault && options.value('host') === undefined ? [...place.vault.hosts.keys()] : [options.value('host')];
  const wanted = new Map<string, Wanted>();
  for (const host of hosts) {
    for (const one of wantedBy(isVault(options) ? new Options('fetch', [...argv.filter((argument) => !/^--(?:host|vault)=/.test(argument)), ...(host === undefined ? [] : [`--host=${host}`]), ...(place.vault ? [`--vault=${place.vault.folder}`] : [])], taken) : options, host)) wanted.set(nameText(one.name), one);
  }
  const chosen = [...wanted.values()].filter(({ name }) => options.operands.length === 0 || options.operands.includes(name.path) || options.operands.includes(nameText(name)));
  const unknown = options.operands.find((operand) => !chosen.some(({ name }) => name.path === operand || nameText(name) === operand));
  if (unknown !== undefined) throw new Failure('not-found', `no secret ${unknown} of kind "vault" is declared`, { hint: [...wanted.keys()].join(', ') });
  const failures: FailureCode[] = [];
  const changed = chosen.length === 0 ? [] : await withSeeds(options, (open) => {
    const fetched = new Fetched(open.folder.path);
    const sources = new Map<string, VaultSource | Failure>();
    const names = chosen.filter((one) => {
      try {
        return fetchOne(open, one, sourceIn(sources, one.vault.name, place), fetched, options);
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        failures.push(error.code);
        say(`${nameText(one.name)} stays what it is: ${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}`);
        return false;
      }
    });
    if (!options.flag('dry-run')) fetched.save();
    return names;
  });
  for (const { name, vault } of changed) say(`${options.flag('dry-run') ? 'would fetch' : 'fetched'} ${nameText(name)} from ${vault.name}`);
  say(`${String(changed.length)} of ${String(chosen.length)} secrets from other vaults changed${failures.length === 0 ? '' : `, ${String(failures.length)} failed`}`);
  if (changed.length > 0 && !options.flag('dry-run')) commit(place, `Fetch ${changed.length === 1 ? changed.map(({ name }) => nameText(name)).join('') : `${String(changed.length)} secrets`}`);
  const [first] = failures;
  return first === undefined ? 0 : exitStatus[first];
}

function wantedBy(options: Options, host: string | undefined): Wanted[] {
  const { manifest, standpoint } = viewOf(options);
  return manifest.declarations.flatMap(({ content }) => (isFetched(content) ? [{ name: { scope: content.share === undefined ? standpoint.host : `group/${content.share}`, path: content.path }, vault: content.vault, host }] : []));
}

const isFetched = (content: { readonly form: string }): content is FixedContent & { readonly vault: VaultReference } => content.form === 'fixed' && 'vault' in content && content.vault !== undefined;

/** A vault that can't be asked at all fails for each of its secrets alike. */
function sourceIn(sources: Map<string, VaultSource | Failure>, name: string, place: Place): VaultSource {
  let source = sources.get(name);
  if (source === undefined) {
    try {
      source = sourceFor(name, place);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      source = error;
    }
    sources.set(name, source);
  }
  if (source instanceof Failure) throw source;
  return source;
}

/** @returns whether the value is another one */
function fetchOne({ folder, seedOf, former }: OpenPlace, { name, vault, host }: Wanted, source: VaultSource, fetched: Fetched, options: Options): boolean {
  const exists = folder.read(name) !== undefined;
  const old = exists ? folder.open(name, seedOf, former) : undefined;
  try {
    const request = { name: vault.path, options: vault.options, host };
    const fingerprint = source.fingerprint(request);
    if (old && fingerprint !== undefined && !options.flag('all') && fetched.has(name, vault, fingerprint, old.sequence)) return false;
    const value = source.get(request);
    try {
      const changed = !old || Buffer.compare(old.value, value) !== 0;
      if (options.flag('dry-run')) return changed;
      const sequence = changed ? folder.write(name, value, seedOf) : old.sequence;
      fetched.note(name, vault, fingerprint, sequence);
      return changed;
    } finally {
      value.fill(0);
    }
  } finally {
    old?.value.fill(0);
  }
}
