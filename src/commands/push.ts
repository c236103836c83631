import { chosenTimeout, destinationOf, wholeNumber } from '../cli/chosen-destination.ts';
import { chosenVault, withFleetSeed } from '../cli/chosen-vault.ts';
import { keep } from '../cli/kept-changes.ts';
import { Options } from '../cli/options.ts';
import { exitStatus, Failure } from '../failure.ts';
import { type Destination, type Outcome, type PushOptions, pushTo } from '../push/host-push.ts';
import { isTerminal } from '../system/terminals.ts';
import { sayProgress } from '../terminal/progress.ts';
import { printJson, printTable, say } from '../terminal/say.ts';
import type { Vault } from '../vault/vault.ts';

/**
 * `auxcred push HOST... | --all`: brings hosts the seeds, fixed files and manifest that they lack, over ssh, and has
 * them activate those.
 */
export async function push(argv: readonly string[]): Promise<number> {
  const options = new Options('push', argv);
  const vault = chosenVault(options);
  const destinations = destinationsOf(vault, options);
  const pushOptions: PushOptions = {
    dryRun: options.flag('dry-run'),
    manifest: options.flag('manifest'),
    replace: options.flag('replace'),
    acceptOlder: options.flag('accept-older'),
    reseal: options.flag('reseal'),
    requireAttestation: options.flag('require-attestation'),
    wait: !options.flag('no-wait'),
    timeout: chosenTimeout(options),
  };
  const jobs = wholeNumber(options, 'jobs', 16, 1000);
  const outcomes = await withFleetSeed(
    vault,
    options,
    async (fleetSeed) =>
      await inParallel(
        destinations,
        jobs,
        async (destination) => await pushTo(vault, destination, pushOptions, fleetSeed),
      ),
  );
  if (options.flag('json')) printJson({ hosts: outcomes.map(jsonOf) });
  else printTable([['HOST', 'RESULT', 'SENT', 'UNITS', 'SECONDS'], ...outcomes.map(rowOf)]);
  const fresh = outcomes.filter(({ enrolled }) => enrolled).map(({ host }) => host);
  if (fresh.length > 0) keep(vault, `Enroll ${fresh.join(', ')}`, 'enrolled');
  const first = outcomes.find(({ failure }) => failure !== undefined)?.failure;
  const failed = outcomes.filter(({ failure }) => failure !== undefined).length;
  if (failed > 0 && outcomes.length > 1)
    say(`${String(failed)} of ${String(outcomes.length)} hosts failed; auxcred push again goes on where they stopped`);
  return first ? exitStatus[first.code] : 0;
}

/** @throws Failure `usage`, `not-found` */
function destinationsOf(vault: Vault, options: Options): Destination[] {
  if (options.flag('all') && options.operands.length > 0)
    throw new Failure('usage', 'push --all is every host, and some are named too', {
      hint: 'auxcred push web1 web2, or auxcred push --all',
    });
  if (!options.flag('all') && options.operands.length === 0)
    throw options.lacks('the name of a host, or --all', 'auxcred push HOST');
  const destinations = options.flag('all')
    ? [...vault.hosts.values()].map((host) => ({ host, target: host.target }))
    : options.operands.map((operand) => destinationOf(vault, operand));
  if (destinations.length === 0)
    throw new Failure('not-found', `the vault at ${vault.folder} knows no host`, {
      hint: '[host.web1] in vault.toml makes one known',
    });
  const twice = destinations.find(
    ({ host }, i) => destinations.findIndex((other) => other.host.name === host.name) !== i,
  );
  if (twice) throw new Failure('usage', `${twice.host.name} is named more than once`);
  return destinations;
}

/** Does `work` for every host, `jobs` at a time, and shows the progress. */
async function inParallel(
  destinations: readonly Destination[],
  jobs: number,
  work: (destination: Destination) => Promise<Outcome>,
): Promise<Outcome[]> {
  const outcomes = new Map<Destination, Outcome>();
  const waiting = [...destinations];
  const busy = new Set<string>();
  const report = (): void => {
    sayProgress(`${String(outcomes.size)} of ${String(destinations.length)} hosts; ${[...busy].join(' ')}`);
  };
  const worker = async (): Promise<void> => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      busy.add(next.host.name);
      report();
      const outcome = await work(next);
      busy.delete(next.host.name);
      outcomes.set(next, outcome);
      report();
      if (!isTerminal(2) && !outcome.failure && outcome.result !== 'nothing to do')
        say(`${outcome.host}: ${outcome.result} (${outcome.seconds.toFixed(1)} s)`);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(jobs, destinations.length) }, worker));
  } finally {
    sayProgress('');
  }
  return destinations.flatMap((destination) => outcomes.get(destination) ?? []);
}

/** `2 fixed`, or nothing for 0. */
const ifAny = (count: number, what: string): string[] => (count === 0 ? [] : [`${String(count)} ${what}`]);

function rowOf({ host, result, sent, units, seconds, failure }: Outcome): string[] {
  const parts = sent
    ? [
        ...(sent.seeds ? ['seeds'] : []),
        ...ifAny(sent.fixed.length, 'fixed'),
        ...ifAny(sent.manifest.length, 'manifest'),
        ...ifAny(sent.removeFixed.length + sent.removeManifest.length, 'removed'),
      ]
    : [];
  const names = units.map(({ unit }) => unit);
  return [
    host,
    failure ? `failed (${failure.code})` : result,
    failure ? '-' : parts.join(', ') || '-',
    (names.length > 3 ? `${String(names.length)} units` : names.join(', ')) || '-',
    seconds.toFixed(1),
  ];
}

function jsonOf({ host, result, sent, units, seconds, failure }: Outcome): unknown {
  const none: readonly string[] = [];
  return {
    host,
    result,
    sent: {
      seeds: sent?.seeds ?? false,
      fixed: sent?.fixed ?? none,
      manifest: sent?.manifest ?? none,
      removed: [...(sent?.removeFixed ?? none), ...(sent?.removeManifest ?? none)],
    },
    units,
    seconds: Number(seconds.toFixed(3)),
    ...(failure === undefined
      ? {}
      : {
          failure: {
            code: failure.code,
            message: failure.message,
            ...(failure.hint === undefined ? {} : { hint: failure.hint }),
          },
        }),
  };
}
