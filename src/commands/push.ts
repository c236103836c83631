import { existsSync } from 'node:fs';
import { keep } from '../cli/chosen-folder.ts';
import { withFleetSeed } from '../cli/chosen-manifest.ts';
import { Options } from '../cli/options.ts';
import { keyId, scopeParts, scopeSeed } from '../derive/tree.ts';
import { exitStatus, Failure, messageOf } from '../failure.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { filesIn } from '../manifest/folder.ts';
import { manifestOf } from '../manifest/manifest.ts';
import { plannedAfresh } from '../provision/provision.ts';
import { converse, type Shipment } from '../push/conversation.ts';
import {
  type Difference,
  differenceOf,
  isNothing,
  type Supplies,
  suppliesOf,
  unsentManifest,
} from '../push/difference.ts';
import { encodeRequest, type Offer, type Request, type UnitDone } from '../push/protocol.ts';
import { listed } from '../push/refusals.ts';
import { type Enrollment, sealForHost, sealingFor } from '../seeds/enrollment.ts';
import type { Payload } from '../seeds/payload.ts';
import { type Scope, wipeScopes } from '../seeds/scope.ts';
import { sealForTransit } from '../seeds/seal.ts';
import { printable } from '../system/printable.ts';
import { printJson, printTable, say, sayProgress, systemFailure } from '../terminal/say.ts';
import { readEnrolled, writeEnrolled } from '../vault/enrolled.ts';
import {
  hostOf,
  readVault,
  scopesOf,
  targetPattern,
  type Vault,
  type VaultHost,
  vaultFiles,
  vaultFolder,
} from '../vault/vault.ts';

/** How a push is meant. */
interface Wishes {
  readonly dryRun: boolean;
  readonly manifest: boolean;
  readonly replace: boolean;
  readonly acceptOlder: boolean;
  readonly reseal: boolean;
  /** Whether the host waits for the units that it restarts. */
  readonly wait: boolean;
  /** Milliseconds. */
  readonly timeout: number;
}

interface Destination {
  readonly host: VaultHost;
  /** As ssh takes it. */
  readonly target: string;
}

/** What came of one host. */
interface Outcome {
  readonly host: string;
  readonly result: 'done' | 'nothing to do' | 'would change' | 'failed';
  readonly sent: Difference | undefined;
  readonly units: readonly UnitDone[];
  readonly seconds: number;
  /** Whether its ssh host key was not known before. */
  readonly enrolled: boolean;
  readonly failure: Failure | undefined;
}

/** `auxcred push HOST... | --all`: brings hosts over ssh what they lack of their seeds, fixed files and manifest, and has them put it in force. */
export async function push(argv: readonly string[]): Promise<number> {
  const options = new Options('push', argv);
  const vault = readVault(vaultFolder(options.value('vault'), process.env));
  const destinations = destinationsOf(vault, options);
  const wishes: Wishes = {
    dryRun: options.flag('dry-run'),
    manifest: options.flag('manifest'),
    replace: options.flag('replace'),
    acceptOlder: options.flag('accept-older'),
    reseal: options.flag('reseal'),
    wait: !options.flag('no-wait'),
    timeout: 1000 * numberOf(options, 'timeout', 300, 86_400),
  };
  const jobs = numberOf(options, 'jobs', 16, 1000);
  const outcomes = await withFleetSeed(
    vault,
    options,
    async (fleetSeed) =>
      await inParallel(
        destinations,
        jobs,
        async (destination) => await outcomeOf(vault, destination, wishes, fleetSeed),
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

/** A host by its name, by its target, or as USER@NAME, which says how it is reached. @throws Failure */
function destinationOf(vault: Vault, operand: string): Destination {
  const byTarget = [...vault.hosts.values()].find(({ target }) => target === operand);
  if (byTarget) return { host: byTarget, target: operand };
  const user = operand.slice(0, operand.lastIndexOf('@') + 1);
  const host = hostOf(vault, operand.slice(user.length));
  if (user !== '' && !targetPattern.test(operand)) throw new Failure('usage', `${operand} is not a destination of ssh`);
  return { host, target: user === '' ? host.target : operand };
}

function numberOf(options: Options, name: string, usual: number, most: number): number {
  const text = options.value(name) ?? String(usual);
  const number = Number(text);
  if (!/^[0-9]+$/.test(text) || number < 1 || number > most)
    throw new Failure('usage', `--${name}=${text} is not a whole number from 1 to ${String(most)}`);
  return number;
}

/** Runs `work` for every host, so many at once, and says how far it is. */
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
      if (!process.stderr.isTTY && !outcome.failure && outcome.result !== 'nothing to do')
        say(`${outcome.host}: ${outcome.result} (${outcome.seconds.toFixed(1)} s)`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, destinations.length) }, worker));
  sayProgress('');
  return destinations.flatMap((destination) => outcomes.get(destination) ?? []);
}

/** What is about one host: names and texts in it may be the host's own. */
const tell = (host: string, text: string): void => {
  say(`${host}: ${printable(text)}`);
};

async function outcomeOf(
  vault: Vault,
  destination: Destination,
  wishes: Wishes,
  fleetSeed: Uint8Array,
): Promise<Outcome> {
  const host = destination.host.name;
  const started = performance.now();
  let sent: Difference | undefined;
  let enrolled = false;
  const outcome = (result: Outcome['result'], units: readonly UnitDone[], failure?: Failure): Outcome => ({
    host,
    result,
    sent,
    units,
    enrolled,
    seconds: (performance.now() - started) / 1000,
    failure,
  });
  const scopes = scopesOf(vault, destination.host, fleetSeed);
  try {
    const operator = new HostPush(vault, destination.host, scopes, wishes, fleetSeed);
    const conversation = {
      host,
      ssh: vault.ssh,
      target: destination.target,
      timeout: wishes.timeout,
      hear: (line: string) => {
        tell(host, line);
      },
    };
    const { units, failure } = await converse(conversation, async (offer) => {
      const shipment = await operator.answer(offer);
      sent = operator.difference;
      return shipment;
    });
    if (failure) throw failure;
    if (!wishes.dryRun) enrolled = operator.remember();
    if (!operator.hasWork) return outcome('nothing to do', units);
    const removed = [...(sent?.removeFixed ?? []), ...(sent?.removeManifest ?? [])];
    if (!wishes.dryRun && removed.length > 0) tell(host, `removed ${listed(removed)}`);
    return outcome(wishes.dryRun ? 'would change' : 'done', units);
  } catch (error) {
    const failure = systemFailure(error) ?? error;
    const known =
      failure instanceof Failure ? failure : new Failure('system', `unexpected error: ${messageOf(failure)}`);
    if (known.message.startsWith(`${host} `)) say(printable(known.message));
    else tell(host, known.message);
    if (known.hint !== undefined) tell(host, `hint: ${known.hint}`);
    return outcome('failed', [], known);
  } finally {
    wipeScopes(scopes);
  }
}

/** What one host is answered. */
class HostPush {
  difference: Difference | undefined;
  hasWork = false;
  readonly #vault: Vault;
  readonly #host: VaultHost;
  readonly #scopes: readonly Scope[];
  readonly #wishes: Wishes;
  readonly #fleetSeed: Uint8Array;
  readonly #supplies: Supplies;
  readonly #enrolled: Enrollment | undefined;
  #offered: Uint8Array | undefined;

  /** @throws Failure for what is wrong in the vault, before the host is asked anything */
  constructor(vault: Vault, host: VaultHost, scopes: readonly Scope[], wishes: Wishes, fleetSeed: Uint8Array) {
    this.#vault = vault;
    this.#host = host;
    this.#scopes = scopes;
    this.#wishes = wishes;
    this.#fleetSeed = fleetSeed;
    this.#supplies = suppliesOf(vault, host, scopes, wishes.manifest);
    this.#enrolled = readEnrolled(vault, host.name)?.machine;
  }

  /** @throws Failure */
  async answer(offer: Offer): Promise<Shipment> {
    this.#checkHostKey(offer);
    const difference = differenceOf(this.#host.name, offer, this.#supplies, {
      ...this.#wishes,
      keyIdIn: (scope, epoch) => this.#keyIdIn(scope, epoch),
    });
    this.difference = difference;
    this.hasWork = !isNothing(difference) || offer.unfinished;
    this.#refuseNoFolder(difference);
    this.#sayManifest(offer, difference);
    if (!this.hasWork) return { request: undefined, bytes: [encodeRequest(undefined)] };
    if (this.#wishes.dryRun) this.#sayPlan(difference, offer);
    return await this.#shipment(difference, offer);
  }

  /** A host that was not enrolled is from now on the one with that ssh host key. @returns whether it was not */
  remember(): boolean {
    const { name } = this.#host;
    if (this.#enrolled || !this.#offered) return false;
    writeEnrolled(this.#vault, name, { host: name, sshHostKey: this.#offered, tpm: undefined });
    say(`${name} is enrolled by its ssh host key, as ssh found it; auxcred enroll ${name} adds its TPM`);
    return true;
  }

  /** @throws Failure `refused` where another machine answers than the one that is enrolled */
  #checkHostKey({ sshHostKey }: Offer): void {
    this.#offered = sshHostKey;
    const expected = this.#enrolled?.sshHostKey;
    if (!expected || (sshHostKey && Buffer.compare(expected, sshHostKey) === 0)) return;
    const { name } = this.#host;
    throw new Failure(
      'refused',
      `${name} has ${sshHostKey ? 'another' : 'no'} ssh-ed25519 host key ${sshHostKey ? 'than' : 'in place of'} the one that it is enrolled with`,
      {
        hint: `find out why; then ssh ${this.#host.target} auxcred enroll | auxcred enroll ${name} --replace --from=-`,
      },
    );
  }

  #keyIdIn(scope: string, epoch: number): Uint8Array {
    const { kind, name } = scopeParts(scope);
    const seed = scopeSeed(this.#fleetSeed, kind, name, epoch);
    const id = keyId(seed);
    seed.fill(0);
    return id;
  }

  #sayPlan({ seeds, fixed, removeFixed, manifest, removeManifest }: Difference, { unfinished }: Offer): void {
    const { name } = this.#host;
    if (seeds) tell(name, 'would seal its seeds');
    for (const [what, names] of [
      ['send', [...fixed, ...manifest]],
      ['remove', [...removeFixed, ...removeManifest]],
    ] as const)
      if (names.length > 0) tell(name, `would ${what} ${listed(names)}`);
    if (unfinished) tell(name, 'would finish what an earlier push or copy began');
  }

  /** A vault that is not all there takes nothing away. @throws Failure `not-found` if all of a host's fixed secrets would go since the fixed folder is not there */
  #refuseNoFolder({ removeFixed }: Difference): void {
    const { fixed } = vaultFiles(this.#vault.folder);
    if (removeFixed.length === 0 || this.#wishes.replace || existsSync(fixed)) return;
    throw new Failure(
      'not-found',
      `${this.#host.name} has fixed secrets that a push brought (${listed(removeFixed)}), and there is no folder ${fixed}`,
      {
        hint: 'restore it, or mount its file system; push --replace takes them away from the host',
      },
    );
  }

  /** Who pushes wants units to have secrets, and without a manifest none does. @throws Failure `not-found` where all of a host's manifest would go since its folders are not there */
  #sayManifest(offer: Offer, { removeManifest }: Difference): void {
    const { name, manifest: folders } = this.#host;
    const sought = folders.join(' or ');
    const supply = this.#supplies.manifest;
    if (supply?.size === 0) {
      if (removeManifest.length > 0 && !this.#wishes.replace && !folders.some((folder) => existsSync(folder)))
        throw new Failure(
          'not-found',
          `${name} has a manifest that a push brought (${listed(removeManifest)}), and there is no folder ${sought}`,
          { hint: `manifest = ["DIR"] of [host.${name}] in vault.toml; push --replace takes it away from the host` },
        );
      tell(name, `there is no manifest for it in ${sought}, so none is sent`);
    }
    if (supply) return;
    const unsent = unsentManifest(this.#host, offer);
    if (unsent.length > 0) tell(name, `its manifest is not sent: --manifest brings ${listed(unsent)}`);
    else if (offer.manifest.size === 0)
      tell(name, `it has no manifest in /etc/auxcred/secrets.d, and there is none for it in ${sought}`);
  }

  async #shipment(difference: Difference, offer: Offer): Promise<Shipment> {
    const { fixed, manifest } = this.#supplies;
    const { dryRun } = this.#wishes;
    // Nothing but a push gives seeds to a host that only says itself who it is.
    const withheld = dryRun && difference.seeds && !this.#enrolled;
    if (withheld) this.#judgeHere();
    const seeds = difference.seeds && !withheld ? await this.#sealed(offer) : undefined;
    const files = [
      ...difference.fixed.flatMap((name) => ({ name, bytes: fixed.get(name)?.bytes ?? new Uint8Array(0) })),
      ...difference.manifest.map((name) => ({ name, bytes: manifest?.get(name)?.bytes ?? new Uint8Array(0) })),
    ];
    const announced = files.map(({ name, bytes }) => ({ name, length: bytes.length }));
    const request: Request = {
      purpose: withheld ? 'judge-without-seeds' : dryRun ? 'judge' : 'receive',
      seeds: seeds && { length: seeds.length, keepSealing: !this.#host.withKeyIsChosen, replaces: difference.replaces },
      fixed: announced.slice(0, difference.fixed.length),
      removeFixed: difference.removeFixed,
      manifest: announced.slice(difference.fixed.length),
      removeManifest: difference.removeManifest,
      replace: this.#wishes.replace,
      acceptOlder: this.#wishes.acceptOlder,
      wait: this.#wishes.wait,
    };
    return { request, bytes: [encodeRequest(request), ...(seeds ? [seeds] : []), ...files.map(({ bytes }) => bytes)] };
  }

  /** What the host can't judge without its seeds, as far as the vault knows its manifest. @throws Failure */
  #judgeHere(): void {
    const manifest = this.#supplies.manifest && manifestOf(filesIn(this.#host.manifest));
    if (manifest?.problems.every(({ severity }) => severity !== 'error') === true)
      plannedAfresh(manifest.declarations, this.#scopes, new FixedFolder(vaultFiles(this.#vault.folder).fixed), {
        at: new Date(),
        acceptEarlier: false,
      });
    tell(this.#host.name, 'it is not enrolled, so a dry run sends it no seeds');
  }

  /** The seeds in an age file that only this host opens: by its TPM where it is enrolled with one that it is to use, else by its ssh host key. @throws Failure */
  async #sealed({ sshHostKey }: Offer): Promise<Uint8Array> {
    const { name, withKey } = this.#host;
    const machine = this.#enrolled ?? { host: name, sshHostKey, tpm: undefined };
    const payload: Payload = { counter: 1, scopes: this.#scopes, sealing: sealingFor(this.#host, machine) };
    if (withKey !== 'host' && machine.tpm) return await sealForHost(payload, machine);
    const key = machine.sshHostKey ?? sshHostKey;
    if (!key)
      throw new Failure('no-recipient', `${name} has no ssh-ed25519 host key to seal to`, {
        hint: 'ssh-keygen -A there makes one',
      });
    return await sealForTransit(payload, key);
  }
}

const counted = (count: number, what: string): string[] => (count === 0 ? [] : [`${String(count)} ${what}`]);

function rowOf({ host, result, sent, units, seconds, failure }: Outcome): string[] {
  const parts = sent
    ? [
        ...(sent.seeds ? ['seeds'] : []),
        ...counted(sent.fixed.length, 'fixed'),
        ...counted(sent.manifest.length, 'manifest'),
        ...counted(sent.removeFixed.length + sent.removeManifest.length, 'removed'),
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
