/** One push to one host, on the operator's side. */
import { existsSync } from 'node:fs';
import { type Known, requireAttested } from '../attestation/verdict.ts';
import { keyId, scopeParts, scopeSeed } from '../derive/tree.ts';
import { Failure, messageOf } from '../failure.ts';
import { FixedFolder } from '../fixed/folder.ts';
import { splitName } from '../fixed/name.ts';
import { filesIn } from '../manifest/folder.ts';
import { manifestOf } from '../manifest/manifest.ts';
import { planForNewMachine } from '../provision/provision.ts';
import { type Enrollment, sealForHost, sealingFor } from '../seeds/enrollment.ts';
import type { Payload } from '../seeds/payload.ts';
import { type Scope, scopeSeedsOf, wipeScopes } from '../seeds/scope.ts';
import { sealForTransit } from '../seeds/seal.ts';
import { printable } from '../system/printable.ts';
import { say, systemFailure } from '../terminal/say.ts';
import { readEnrolled, writeEnrolled } from '../vault/enrolled.ts';
import { enrollCommand, withWayOut } from '../vault/over-ssh.ts';
import { scopesOf, tableHeading, type Vault, type VaultHost, vaultFiles, wantedSealing } from '../vault/vault.ts';
import { type Ask, attestedBy, knownOf } from './attestation.ts';
import { converse, nothingToDo, type Shipment } from './conversation.ts';
import { type Difference, differenceOf, isNothing, type Supplies, suppliesOf, unsentManifest } from './difference.ts';
import { encodeRequest, type Offer, type Request, type UnitDone } from './protocol.ts';
import { listed } from './refusals.ts';

export interface PushOptions {
  readonly dryRun: boolean;
  readonly manifest: boolean;
  readonly replace: boolean;
  readonly acceptOlder: boolean;
  readonly reseal: boolean;
  /** Whether every host has to be attested, whatever vault.toml says. */
  readonly requireAttestation: boolean;
  /** Whether the host waits for the units that it restarts. */
  readonly wait: boolean;
  /** Milliseconds. */
  readonly timeout: number;
}

export interface Destination {
  readonly host: VaultHost;
  /** As ssh takes it. */
  readonly target: string;
}

/** What came of one host. */
export interface Outcome {
  readonly host: string;
  readonly result: 'done' | 'at next boot' | 'nothing to do' | 'would change' | 'failed';
  readonly sent: Difference | undefined;
  readonly units: readonly UnitDone[];
  readonly seconds: number;
  /** Whether its ssh host key was not known before. */
  readonly enrolled: boolean;
  readonly failure: Failure | undefined;
}

/** Says something about one host. Names and texts in it may be the host's own. */
const tell = (host: string, text: string): void => {
  say(`${host}: ${printable(text)}`);
};

/** Brings one host what it lacks. Its failure is part of the outcome, and is said here. */
export async function pushTo(
  vault: Vault,
  { host, target }: Destination,
  options: PushOptions,
  fleetSeed: Uint8Array,
): Promise<Outcome> {
  const started = performance.now();
  let sent: Difference | undefined;
  let enrolled = false;
  const outcome = (result: Outcome['result'], units: readonly UnitDone[], failure?: Failure): Outcome => ({
    host: host.name,
    result,
    sent,
    units,
    enrolled,
    seconds: (performance.now() - started) / 1000,
    failure,
  });
  const scopes = scopesOf(vault, host, fleetSeed);
  try {
    const push = new HostPush(vault, { ...host, target }, scopes, options, fleetSeed);
    const hear = (line: string): void => {
      tell(host.name, line);
    };
    const { units, failure, atNextBoot } = await converse(
      { host: host.name, ssh: vault.ssh, target, timeout: options.timeout, hear },
      async (offer, ask) => {
        const { difference, shipment } = await push.answer(offer, ask);
        sent = difference;
        return shipment;
      },
    );
    if (failure) throw withWayOut(failure, host);
    if (!options.dryRun) enrolled = push.remember();
    if (!push.hasWork) return outcome('nothing to do', units);
    if (atNextBoot === true) sayLocked(host.name, options.dryRun);
    if (options.dryRun) return outcome('would change', units);
    const removed = [...(sent?.removeFixed ?? []), ...(sent?.removeManifest ?? [])];
    if (removed.length > 0) tell(host.name, `removed ${listed(removed)}`);
    return outcome(atNextBoot === true ? 'at next boot' : 'done', units);
  } catch (error) {
    return outcome('failed', [], sayFailure(host.name, error));
  } finally {
    wipeScopes(scopes);
  }
}

function sayLocked(host: string, isDryRun: boolean): void {
  tell(
    host,
    `its broker locked the seeds, so the files ${isDryRun ? 'would' : 'are written, and'} become ` +
      'active at its next boot',
  );
  tell(host, 'hint: auxcred push --reseal sends the seeds too, and activates everything now');
}

function sayFailure(host: string, error: unknown): Failure {
  const thrown = systemFailure(error) ?? error;
  const failure = thrown instanceof Failure ? thrown : new Failure('system', `unexpected error: ${messageOf(thrown)}`);
  if (failure.message.startsWith(`${host} `)) say(printable(failure.message));
  else tell(host, failure.message);
  if (failure.hint !== undefined) tell(host, `hint: ${failure.hint}`);
  return failure;
}

/** The operator's side of one conversation: what the host is answered. */
class HostPush {
  hasWork = false;
  readonly #vault: Vault;
  readonly #host: VaultHost;
  readonly #scopes: readonly Scope[];
  readonly #options: PushOptions;
  readonly #fleetSeed: Uint8Array;
  readonly #supplies: Supplies;
  readonly #enrolled: Enrollment | undefined;
  readonly #known: Known | undefined;
  /** The ssh host key that the host named in its offer. */
  #offeredKey: Uint8Array | undefined;

  /** @throws Failure if the vault is wrong, before the host is asked anything */
  constructor(vault: Vault, host: VaultHost, scopes: readonly Scope[], options: PushOptions, fleetSeed: Uint8Array) {
    this.#vault = vault;
    this.#host = host;
    this.#scopes = scopes;
    this.#options = options;
    this.#fleetSeed = fleetSeed;
    this.#supplies = suppliesOf(vault, host, scopes, options.manifest);
    this.#enrolled = readEnrolled(vault, host.name)?.machine;
    this.#known = options.requireAttestation || host.requireAttestation ? this.#demanded() : undefined;
  }

  /** @throws Failure */
  async answer(offer: Offer, ask: Ask): Promise<{ difference: Difference; shipment: Shipment }> {
    this.#checkHostKey(offer);
    const difference = differenceOf(this.#host, offer, this.#supplies, {
      ...this.#options,
      keyIdIn: (scope, epoch) => this.#keyIdIn(scope, epoch),
    });
    this.#refuseUnopened(difference);
    this.hasWork = !isNothing(difference) || offer.unfinished;
    this.#refuseNoFolder(difference);
    this.#sayManifest(offer, difference);
    if (!this.hasWork) return { difference, shipment: nothingToDo };
    if (this.#known) await this.#attest(this.#known, ask);
    if (this.#options.dryRun) this.#sayPlan(difference, offer);
    return { difference, shipment: await this.#shipment(difference, offer) };
  }

  /** @throws Failure `refused` for a host whose seeds an attestation says nothing about */
  #demanded(): Known {
    if (this.#host.withKey === 'host')
      throw new Failure(
        'refused',
        `the seeds of ${this.#host.name} are sealed to its ssh host key, which no TPM vouches for`,
        {
          hint:
            `with-key = "tpm2" of ${tableHeading('host', this.#host.name)} in vault.toml, or ` +
            (this.#options.requireAttestation
              ? 'push to it without --require-attestation'
              : 'require-attestation = false there'),
        },
      );
    return knownOf(this.#vault, this.#host, this.#enrolled);
  }

  /** Before anything is sent. @throws Failure `refused` */
  async #attest(known: Known, ask: Ask): Promise<void> {
    const verdict = await attestedBy(known, ask);
    requireAttested(verdict);
    for (const { result, text } of verdict.checks) if (result === 'noted') tell(known.host, text);
    tell(known.host, 'attested');
  }

  /** Enrolls a host that was not enrolled by the ssh host key that it offered. @returns whether it did */
  remember(): boolean {
    const { name } = this.#host;
    if (this.#enrolled || !this.#offeredKey) return false;
    try {
      writeEnrolled(this.#vault, name, { host: name, sshHostKey: this.#offeredKey, tpm: undefined });
    } catch (error) {
      const failure = systemFailure(error) ?? error;
      if (!(failure instanceof Failure)) throw error;
      const { code, message, hint } = failure;
      throw new Failure(code, `it has everything now, but is not enrolled here: ${message}`, {
        ...(hint !== undefined && { hint }),
        cause: error,
      });
    }
    say(`${name} is enrolled by its ssh host key, as ssh found it; ${enrollCommand(this.#host)} adds its TPM`);
    return true;
  }

  /** @throws Failure `refused` if the machine that answers is not the enrolled one */
  #checkHostKey({ sshHostKey }: Offer): void {
    this.#offeredKey = sshHostKey;
    const expected = this.#enrolled?.sshHostKey;
    if (!expected || (sshHostKey && Buffer.compare(expected, sshHostKey) === 0)) return;
    const { name } = this.#host;
    throw new Failure(
      'refused',
      sshHostKey
        ? `${name} has another ssh-ed25519 host key than the one that it is enrolled with`
        : `${name} has no ssh-ed25519 host key, but is enrolled with one`,
      {
        hint: `find out why; then ${enrollCommand(this.#host, '--replace')}`,
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

  /**
   * A host that locked its seeds would notice only at its next boot.
   * @throws Failure for fixed files that do not open
   */
  #refuseUnopened({ fixed }: Difference): void {
    const folder = new FixedFolder(vaultFiles(this.#vault.folder).fixed);
    const seedOf = scopeSeedsOf(this.#scopes);
    for (const text of fixed) {
      const name = splitName(text);
      if (name) folder.open(name, seedOf).value.fill(0);
    }
  }

  /**
   * An incomplete vault takes nothing away.
   * @throws Failure `not-found` if fixed secrets would go because the fixed folder is missing
   */
  #refuseNoFolder({ removeFixed }: Difference): void {
    const { fixed } = vaultFiles(this.#vault.folder);
    if (removeFixed.length === 0 || this.#options.replace || existsSync(fixed)) return;
    throw new Failure(
      'not-found',
      `${this.#host.name} has fixed secrets that a push brought (${listed(removeFixed)}), and there is no folder ${fixed}`,
      {
        hint: 'restore it, or mount its file system; push --replace takes them away from the host',
      },
    );
  }

  /**
   * Says if the host gets no manifest, since without one no unit gets a secret.
   * @throws Failure `not-found` if its manifest would go because its folders are missing
   */
  #sayManifest(offer: Offer, { removeManifest }: Difference): void {
    const { name, manifest: folders } = this.#host;
    const sought = folders.join(' or ');
    const supply = this.#supplies.manifest;
    if (supply?.size === 0) {
      if (removeManifest.length > 0 && !this.#options.replace && !folders.some((folder) => existsSync(folder)))
        throw new Failure(
          'not-found',
          `${name} has a manifest that a push brought (${listed(removeManifest)}), and there is no folder ${sought}`,
          {
            hint: `manifest = ["DIR"] of ${tableHeading('host', name)} in vault.toml; push --replace takes it away from the host`,
          },
        );
      tell(name, `there is no manifest for it in ${sought}, so none is sent`);
    }
    if (supply) return;
    const unsent = unsentManifest(this.#host, offer);
    if (unsent.length > 0) tell(name, `its manifest is not sent: --manifest ${unsent.join(' and ')}`);
    else if (offer.manifest.size === 0)
      tell(name, `it has no manifest in /etc/auxcred/secrets.d, and there is none for it in ${sought}`);
  }

  /** Says that the host may keep recipients that vault.toml takes away. */
  #sayRecipients({ dropsRecipients, pins }: Offer): void {
    const { name, withKeyIsChosen, recipients, recipientsAreChosen } = this.#host;
    const takesAway = !withKeyIsChosen && recipientsAreChosen && recipients.length === 0;
    if (dropsRecipients || pins.size === 0 || !takesAway) return;
    tell(name, 'its version of auxcred keeps the recovery recipients that its seeds have, whatever vault.toml says');
    tell(name, `hint: install this version there, then auxcred push --reseal ${name}`);
  }

  async #shipment(difference: Difference, offer: Offer): Promise<Shipment> {
    const { fixed, manifest } = this.#supplies;
    const { dryRun } = this.#options;
    // Only a real push gives seeds to a host whose identity nobody vouches for.
    const withheld = dryRun && difference.seeds && !this.#enrolled;
    if (withheld) this.#judgeHere();
    const seeds = difference.seeds && !withheld ? await this.#sealed(offer) : undefined;
    if (seeds) this.#sayRecipients(offer);
    const files = [
      ...difference.fixed.map((name) => ({ name, bytes: fixed.get(name)?.bytes ?? new Uint8Array(0) })),
      ...difference.manifest.map((name) => ({ name, bytes: manifest?.get(name)?.bytes ?? new Uint8Array(0) })),
    ];
    const announced = files.map(({ name, bytes }) => ({ name, length: bytes.length }));
    const request: Request = {
      purpose: withheld ? 'judge-without-seeds' : dryRun ? 'judge' : 'receive',
      seeds: seeds && {
        length: seeds.length,
        keepSealing: !this.#host.withKeyIsChosen,
        keepRecipients: !this.#host.recipientsAreChosen,
        device: this.#host.withKey === 'host' ? undefined : this.#enrolled?.tpm?.device,
        replaces: difference.replaces,
      },
      fixed: announced.slice(0, difference.fixed.length),
      removeFixed: difference.removeFixed,
      manifest: announced.slice(difference.fixed.length),
      removeManifest: difference.removeManifest,
      replace: this.#options.replace,
      acceptOlder: this.#options.acceptOlder,
      wait: this.#options.wait,
    };
    return { request, bytes: [encodeRequest(request), ...(seeds ? [seeds] : []), ...files.map(({ bytes }) => bytes)] };
  }

  /** Judges here what the host can't without its seeds, as far as the vault knows its manifest. @throws Failure */
  #judgeHere(): void {
    const manifest = this.#supplies.manifest && manifestOf(filesIn(this.#host.manifest));
    if (manifest?.problems.every(({ severity }) => severity !== 'error') === true)
      planForNewMachine(manifest.declarations, this.#scopes, new FixedFolder(vaultFiles(this.#vault.folder).fixed), {
        at: new Date(),
        acceptEarlier: false,
      });
    tell(this.#host.name, 'it is not enrolled, so a dry run sends it no seeds');
  }

  /**
   * The seeds in an age file that only this host opens: with its TPM if it is enrolled with one and is to use it, else
   * with its ssh host key.
   * @throws Failure
   */
  async #sealed({ sshHostKey }: Offer): Promise<Uint8Array> {
    const { name, withKey } = this.#host;
    const machine = this.#enrolled ?? { host: name, sshHostKey, tpm: undefined };
    const payload: Payload = {
      counter: 1,
      scopes: this.#scopes,
      sealing: sealingFor(wantedSealing(this.#host), machine),
    };
    if (withKey !== 'host' && machine.tpm) return await sealForHost(payload, machine);
    const key = machine.sshHostKey ?? sshHostKey;
    if (!key)
      throw new Failure('no-recipient', `${name} has no ssh-ed25519 host key to seal to`, {
        hint: 'ssh-keygen -A there makes one',
      });
    return await sealForTransit(payload, key);
  }
}
