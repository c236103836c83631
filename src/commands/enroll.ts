import { createHash } from 'node:crypto';
import { sshFingerprint } from '../age/ssh-ed25519.ts';
import { checkedCertificate, isVirtual, readEkIssuers } from '../attestation/ek-certificate.ts';
import type { Endorsement } from '../attestation/messages.ts';
import { isForMachine, needsHost, refuseGiven } from '../cli/chosen-destination.ts';
import { hostName } from '../cli/chosen-sealing.ts';
import { chosenVault } from '../cli/chosen-vault.ts';
import { keep } from '../cli/kept-changes.ts';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import { sshHostKeyOf } from '../machine/keys.ts';
import { openersOf } from '../machine/openers.ts';
import { type EnrolledTpm, type Enrollment, encodeEnrollment, parseEnrollment } from '../seeds/enrollment.ts';
import { readInput } from '../system/input.ts';
import { pathsUnder } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { printBytes, printJson, printTable, say, warn } from '../terminal/say.ts';
import { findEk } from '../tpm2/endorsement-key.ts';
import { pcrAdvice, readPresentPcrs, unmeasuredPcrs, valuesOf } from '../tpm2/pcr.ts';
import { pcrlockFile, readPcrlock } from '../tpm2/pcrlock.ts';
import { tpmFailure } from '../tpm2/response.ts';
import { readSrkPublic } from '../tpm2/srk.ts';
import { openTpm, type Tpm, tpmPresent } from '../tpm2/tpm.ts';
import { readEnrolled, writeEnrolled } from '../vault/enrolled.ts';
import { enrollCommand } from '../vault/over-ssh.ts';
import { hostOf, type Vault, type VaultHost, vaultFiles } from '../vault/vault.ts';

/**
 * `auxcred enroll`: on a machine, prints what an operator needs to seal to it; `auxcred enroll HOST --from=FILE` stores
 * that in the vault, `auxcred enroll HOST` shows it.
 */
export async function enroll(argv: readonly string[]): Promise<number> {
  const options = new Options('enroll', argv);
  if (options.operands.length === 0) {
    refuseGiven(options, ['from', 'vault'], needsHost, 'auxcred enroll web1 --from=FILE');
    printBytes(encodeEnrollment(await ownEnrollment(options)));
    return 0;
  }
  const [name = ''] = options.exactly('the name of a host');
  refuseGiven(options, ['root', 'name', 'tpm2-device'], isForMachine, 'auxcred enroll, without the host');
  const vault = chosenVault(options);
  const host = hostOf(vault, name);
  const from = options.value('from');
  if (from === undefined) show(vault, host, options.flag('json'));
  else
    take(
      vault,
      host,
      parseEnrollment(readInput(from, mostEnrollmentBytes), from === '-' ? 'standard input' : from),
      options.flag('replace'),
    );
  return 0;
}

/** Maximum size of an enrollment, in bytes. */
const mostEnrollmentBytes = 1 << 20;

/** @throws Failure */
async function ownEnrollment(options: Options): Promise<Enrollment> {
  const root = options.value('root') ?? '/';
  const paths = pathsUnder(root);
  const host = hostName(options.value('name'), paths);
  const sshHostKey = sshHostKeyOf(paths);
  const tpm = await ownTpm(
    root,
    openersOf(paths, options.value('tpm2-device')).device,
    options.value('tpm2-device') !== undefined,
  );
  if (!sshHostKey) warn(`this machine has no ssh-ed25519 host key at ${paths.sshHostKey}`, 'ssh-keygen -A makes one');
  if (!sshHostKey && !tpm)
    throw new Failure('no-recipient', 'this machine has neither an ssh-ed25519 host key nor a TPM to seal to', {
      hint: 'ssh-keygen -A',
    });
  return { host, sshHostKey, tpm };
}

/** A TPM that can't be used is an error only if it was named; otherwise it is left out. */
async function ownTpm(root: string, device: string | undefined, required: boolean): Promise<EnrolledTpm | undefined> {
  if (!tpmPresent(device) && !required) {
    say('this machine has no TPM');
    return undefined;
  }
  try {
    return await readTpm(root, device);
  } catch (error) {
    if (required || !(error instanceof Failure)) throw error;
    warn(`the TPM is left out: ${error.message}`, error.hint);
    return undefined;
  }
}

async function readTpm(root: string, device: string | undefined): Promise<EnrolledTpm> {
  const tpm = await openTpm(device);
  try {
    return {
      device,
      srk: await readSrkPublic(tpm),
      ...(await endorsementOf(tpm)),
      pcrs: systemIsRunning(root) ? await readPresentPcrs(tpm) : undefined,
      ...predictedHere(root),
    };
  } catch (error) {
    throw tpmFailure(error);
  } finally {
    await tpm.close();
  }
}

/** Left out if the endorsement hierarchy has a password: sealing does not need it. */
async function endorsementOf(tpm: Tpm): Promise<Pick<EnrolledTpm, 'endorsement'>> {
  try {
    const { handle, public: ek, certificate } = await findEk(tpm);
    await tpm.release(handle);
    return { endorsement: { ek, certificate } };
  } catch (error) {
    const failure = tpmFailure(error);
    if (!(failure instanceof Failure)) throw error;
    warn(`the endorsement key is left out, so this machine can't be attested: ${failure.message}`);
    return {};
  }
}

/** What systemd-pcrlock predicted on this machine; a damaged file is left out. */
function predictedHere(root: string): Pick<EnrolledTpm, 'pcrlock'> {
  if (!systemIsRunning(root)) return {};
  try {
    const prediction = readPcrlock(pcrlockFile);
    if (!prediction) return {};
    const { values: _, ...pcrlock } = prediction;
    return { pcrlock };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    warn(`the prediction is left out: ${error.message}`, error.hint);
    return {};
  }
}

/** Stores a machine's enrollment. @throws Failure `refused` if another machine was enrolled before */
function take(vault: Vault, host: VaultHost, machine: Enrollment, replace: boolean): void {
  if (machine.host !== host.name)
    throw new Failure('refused', `that enrollment is for ${machine.host}, not ${host.name}`, {
      hint: `if it is the right machine: auxcred enroll --name=${host.name} there`,
    });
  const before = enrolledBefore(vault, host.name, replace);
  const changes = before ? differences(before, machine) : [];
  if (changes.length > 0 && !replace)
    throw new Failure('refused', `this is not the machine that was enrolled as ${host.name}: ${changes.join('; ')}`, {
      hint: 'find out why; --replace if that is as intended',
    });
  writeEnrolled(vault, host.name, machine);
  keep(vault, `Enroll ${host.name}`, 'enrolled');
  for (const change of changes) say(`replaced: ${change}`);
  sayPcrs(host, before?.tpm?.pcrs, machine.tpm?.pcrs);
  sayMissing(host, machine);
  sayVouching(vault, host.name, machine);
  const keys = [
    ...(machine.sshHostKey ? [`ssh host key ${sshFingerprint(machine.sshHostKey)}`] : []),
    ...(machine.tpm ? [`SRK ${nameOf(machine.tpm).slice(0, 20)}`] : []),
    ...(machine.tpm?.endorsement ? [`EK ${ekFingerprint(machine.tpm.endorsement).slice(0, 16)}`] : []),
  ];
  say(`enrolled ${host.name}: ${keys.join(', ')}`);
}

/** The stored enrollment; a damaged file may be replaced like any other. @throws Failure */
function enrolledBefore(vault: Vault, host: string, replace: boolean): Enrollment | undefined {
  try {
    return readEnrolled(vault, host)?.machine;
  } catch (error) {
    if (replace && error instanceof Failure && error.code === 'malformed') return undefined;
    throw error;
  }
}

/** Who vouches for the TPM, beside the connection that the enrollment came over. */
function sayVouching(vault: Vault, name: string, { tpm }: Enrollment): void {
  if (!tpm) return;
  const onlyWay = 'only the connection that this enrollment came over vouches for';
  if (!tpm.endorsement) {
    say(`${onlyWay} the SRK of ${name}: it was enrolled without an endorsement key, so it can't be attested`);
    return;
  }
  const folder = vaultFiles(vault.folder).ekIssuers;
  const issuers = readEkIssuers(folder);
  if (tpm.endorsement.certificate && issuers.length === 0) {
    say(`${onlyWay} the TPM of ${name}: ${folder} has no issuer's certificate to check its own with`);
    return;
  }
  try {
    const { manufacturer, model, chain } = checkedCertificate(tpm.endorsement, issuers, Date.now());
    say(`the TPM of ${name} is certified: ${manufacturer}, model ${model}, by ${chain.join(' > ')}`);
    if (isVirtual(manufacturer)) say(`it is virtual: the host that runs ${name} can forge its answers`);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    say(`${onlyWay} the TPM of ${name}: ${error.message}`);
  }
}

/** Warns of what the vault asks for and the machine lacks, and of the risk. */
function sayMissing({ name, withKey, pcrs, publicKey, pcrlock }: VaultHost, { sshHostKey, tpm }: Enrollment): void {
  if (withKey !== 'tpm2' && !sshHostKey)
    warn(`with-key = "${withKey}" needs an ssh-ed25519 host key, which ${name} does not have`);
  if (withKey === 'host') return;
  const isAuthorized = publicKey !== undefined || pcrlock !== undefined;
  if (pcrs.length === 0 && !isAuthorized)
    warn(`no PCR is bound: anything that boots on ${name} can open the seed`, 'tpm2-pcrs = "4+7" in vault.toml');
  for (const advice of pcrAdvice(pcrs, isAuthorized)) warn(advice);
  if (pcrlock !== undefined && tpm?.pcrs && !tpm.pcrlock)
    warn(`systemd-pcrlock predicted nothing on ${name}`, 'systemd-pcrlock make-policy there; then enroll it again');
  if (!tpm) warn(`with-key = "${withKey}" needs a TPM, which ${name} does not have`);
  else if (!tpm.pcrs)
    say(
      `${name} is being installed${pcrs.length > 0 ? `: PCR ${pcrs.join('+')} will be bound at its first boot` : ''}`,
    );
  else sayUnfit(name, tpm.pcrs, pcrs);
}

/** Warns of PCRs that bind nothing. */
function sayUnfit(name: string, known: ReadonlyMap<number, Uint8Array>, wanted: readonly number[]): void {
  for (const pcr of wanted)
    if (!known.has(pcr))
      warn(
        `the TPM of ${name} has no SHA-256 value for PCR ${String(pcr)}`,
        'enable the SHA-256 bank in the firmware, and enroll it again',
      );
  for (const pcr of unmeasuredPcrs(
    valuesOf(
      known,
      wanted.filter((one) => known.has(one)),
    ),
  ))
    warn(`PCR ${String(pcr)} of ${name} has never been extended: nothing that boots is measured into it`);
}

/** Reports which of the PCRs that the host's seeds are bound to changed since the last enrollment. */
function sayPcrs({ pcrs }: VaultHost, before: EnrolledTpm['pcrs'], now: EnrolledTpm['pcrs']): void {
  const changed = pcrs.filter(
    (pcr) => before && now && Buffer.compare(before.get(pcr) ?? none, now.get(pcr) ?? none) !== 0,
  );
  if (changed.length > 0) say(`PCR ${changed.join(' and PCR ')} changed since the last enrollment`);
}

const none = new Uint8Array(0);

/** SHA-256 of the SubjectPublicKeyInfo, 64 digits. */
const ekFingerprint = ({ ek: { key } }: Endorsement): string =>
  createHash('sha256')
    .update(key.export({ format: 'der', type: 'spki' }))
    .digest('hex');
const nameOf = ({ srk: { name } }: EnrolledTpm): string => Buffer.from(name).toString('hex');

/** How two machines differ, in words. A key that was not known before does not count. */
function differences(before: Enrollment, now: Enrollment): string[] {
  const key = ({ sshHostKey }: Enrollment): string | undefined => sshHostKey && sshFingerprint(sshHostKey);
  const srk = ({ tpm }: Enrollment): string | undefined => tpm && nameOf(tpm);
  const differs = (what: string, was: string | undefined, is: string | undefined): string[] =>
    was === undefined || was === is ? [] : [`its ${what} is ${is ?? 'none'}, not ${was}`];
  const ek = ({ tpm }: Enrollment): string | undefined => tpm?.endorsement && ekFingerprint(tpm.endorsement);
  return [
    ...differs('ssh host key', key(before), key(now)),
    ...differs('SRK', srk(before), srk(now)),
    ...differs('EK', ek(before), ek(now)),
  ];
}

function show(vault: Vault, host: VaultHost, json: boolean): void {
  const { name } = host;
  const enrolled = readEnrolled(vault, name);
  if (!enrolled)
    throw new Failure('not-found', `${name} is not enrolled`, {
      hint: enrollCommand(host),
    });
  const {
    since,
    machine: { sshHostKey, tpm },
  } = enrolled;
  const fingerprint = sshHostKey && sshFingerprint(sshHostKey);
  const srk = tpm && nameOf(tpm);
  const ek = tpm?.endorsement && ekFingerprint(tpm.endorsement);
  if (json)
    printJson({
      host: name,
      sshHostKey: fingerprint,
      srk,
      ek,
      ekCertificate: tpm?.endorsement?.certificate !== undefined,
      device: tpm?.device,
      since,
    });
  else
    printTable([
      ['HOST', 'SSH HOST KEY', 'SRK', 'EK', 'SINCE'],
      [name, fingerprint ?? 'none', srk ?? 'none', ek ?? 'none', since],
    ]);
}
