import { existsSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { challengeTo, encodeExpected, parseExpected } from '../attestation/challenge.ts';
import {
  encodeAnswer,
  encodeChallenge,
  encodeStatement,
  longestMessage,
  parseAnswer,
  parseChallenge,
  parseStatement,
} from '../attestation/messages.ts';
import { type AttestationPolicy, attestationPolicyOf, readAttestationPolicy } from '../attestation/policy.ts';
import { type Known, type Verdict, verdictOn } from '../attestation/verdict.ts';
import { destinationOf, isForMachine, needsHost, refuseGiven } from '../cli/chosen-destination.ts';
import { chosenVault } from '../cli/chosen-vault.ts';
import { usualTimeout } from '../cli/manual.ts';
import { Options } from '../cli/options.ts';
import { exitStatus, Failure } from '../failure.ts';
import { answerTo, statementOf } from '../machine/attesting.ts';
import { openersOf } from '../machine/openers.ts';
import { attestedBy, knownOf } from '../push/attestation.ts';
import { converse, nothingToDo } from '../push/conversation.ts';
import type { Destination } from '../push/host-push.ts';
import { ensureFolder, readIfPresent, replaceFile } from '../system/files.ts';
import { readInput } from '../system/input.ts';
import { pathsUnder } from '../system/paths.ts';
import { printable } from '../system/printable.ts';
import { colored, print, printBytes, printJson, say } from '../terminal/say.ts';
import { readEnrolled } from '../vault/enrolled.ts';
import { type Vault, vaultFiles } from '../vault/vault.ts';

/**
 * `auxcred attest`: on a machine, prints its statement, or with `--challenge` its answer. With a host of the vault,
 * challenges it over ssh, or step by step with `--from` and `--verify`, and judges its answer.
 */
export async function attest(argv: readonly string[]): Promise<number> {
  const options = new Options('attest', argv);
  if (options.operands.length === 0) return await onMachine(options);
  refuseGiven(options, ['challenge', 'root', 'tpm2-device'], isForMachine, twoForms);
  const [operand = ''] = options.exactly('the name of a host');
  const vault = chosenVault(options);
  const destination = destinationOf(vault, operand);
  const { name } = destination.host;
  const known = knownOf(vault, destination.host, readEnrolled(vault, name)?.machine, policyOf(options, destination));
  const [from, answer] = [options.value('from'), options.value('verify')];
  if (from !== undefined && answer !== undefined)
    throw new Failure('usage', '--from and --verify are two steps', {
      hint: 'first --from=STATEMENT, then on the machine --challenge=FILE, then --verify=ANSWER',
    });
  if (from !== undefined) {
    challenge(vault, known, readInput(from, longestMessage));
    return 0;
  }
  const verdict =
    answer === undefined
      ? await attestedOverSsh(vault, destination, known)
      : answered(vault, known, readInput(answer, longestMessage));
  if (options.flag('json')) printJson(jsonOf(verdict));
  else printVerdict(verdict);
  return verdict.attested ? 0 : exitStatus.refused;
}

const twoForms = 'auxcred attest on the machine, auxcred attest HOST here';

/** The machine's side: prints its statement, or its answer to a challenge. */
async function onMachine(options: Options): Promise<number> {
  refuseGiven(options, ['from', 'verify', 'policy', 'vault'], needsHost, twoForms);
  const paths = pathsUnder(options.value('root') ?? '/');
  const { device } = openersOf(paths, options.value('tpm2-device'));
  const file = options.value('challenge');
  if (file === undefined) printBytes(encodeStatement(await statementOf(device)));
  else {
    const given = parseChallenge(readInput(file, longestMessage), file === '-' ? 'standard input' : file);
    printBytes(encodeAnswer(await answerTo(given, paths, device)));
  }
  return 0;
}

/** The named policy, else the host's own; one that demands nothing if there is none. */
function policyOf(options: Options, { host: { name, attestation } }: Destination): AttestationPolicy {
  const named = options.value('policy');
  if (named !== undefined || existsSync(attestation)) return readAttestationPolicy(named ?? attestation);
  say(`there is no ${attestation}, so anything that ${name} booted is accepted`);
  return attestationPolicyOf(new Uint8Array(0), attestation);
}

const pendingFile = (vault: Vault, host: string): string => join(vaultFiles(vault.folder).challenges, `${host}.json`);

function challenge(vault: Vault, { host, endorsement }: Known, statement: Uint8Array): void {
  const { challenge: made, expected } = challengeTo(host, endorsement, parseStatement(statement, host));
  const file = pendingFile(vault, host);
  ensureFolder(dirname(file), { mode: 0o700 });
  replaceFile(file, encodeExpected(expected), { mode: 0o600 });
  printBytes(encodeChallenge(made));
}

/** Each challenge is good for one answer. */
function answered(vault: Vault, known: Known, bytes: Uint8Array): Verdict {
  const file = pendingFile(vault, known.host);
  const pending = readIfPresent(file);
  if (!pending)
    throw new Failure('refused', `no challenge to ${known.host} is open: each is good for one answer`, {
      hint: `auxcred attest ${known.host} --from=STATEMENT makes one`,
    });
  const answer = parseAnswer(bytes, known.host);
  rmSync(file);
  return verdictOn(answer, parseExpected(pending, file), known, Date.now());
}

async function attestedOverSsh(vault: Vault, { host: { name }, target }: Destination, known: Known): Promise<Verdict> {
  const found: Verdict[] = [];
  const hear = (line: string): void => {
    say(`${name}: ${printable(line)}`);
  };
  const conversation = { host: name, ssh: vault.ssh, target, timeout: 1000 * usualTimeout, hear };
  // The result says whether its seeds open, which the verdict does not depend on.
  await converse(conversation, async (_, ask) => {
    found.push(await attestedBy(known, ask));
    return nothingToDo;
  });
  const [verdict] = found;
  if (!verdict) throw new Failure('system', `${name} was not asked`);
  return verdict;
}

const colors = { passed: 'green', failed: 'red', noted: 'yellow' } as const;

function printVerdict({ host, attested, checks }: Verdict): void {
  for (const { name, result, text } of checks) print(`${colored(result, colors[result])}  ${name}: ${printable(text)}`);
  print(attested ? `${host} is attested` : `${host} is not attested`);
}

/** docs/formats.md lists every key. */
const jsonOf = ({ host, attested, checks, proof, vendor }: Verdict): Record<string, unknown> => ({
  version: 1,
  host,
  attested,
  checks,
  tpm: vendor,
  pcrs:
    proof &&
    Object.fromEntries([...proof.pcrs].map(([pcr, value]) => [String(pcr), Buffer.from(value).toString('hex')])),
  unexplained: proof?.unexplained,
  resetCount: proof?.resetCount,
  restartCount: proof?.restartCount,
});
