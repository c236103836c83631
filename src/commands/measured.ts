import { chosenPrediction } from '../cli/chosen-prediction.ts';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import { type BootLogs, bootLogs, changesIn } from '../health/boot-changes.ts';
import { type MeasuredPcr, measuredBoot, type NextPcr, pcrsOfTpm, predictedPcrs } from '../health/measured-boot.ts';
import { nextBoot } from '../health/next-boot.ts';
import { ReadableFiles } from '../health/readable-files.ts';
import { type SealedSeeds, sealedSeeds } from '../health/sealed-seeds.ts';
import { openersOf } from '../machine/openers.ts';
import { type MeasuredLog, neededLog } from '../measured/measured-log.ts';
import { pcrNames } from '../measured/pcr-names.ts';
import { predictBoot } from '../measured/prediction.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { printable } from '../system/printable.ts';
import { colored, print, printJson, say } from '../terminal/say.ts';
import { lockedValue } from '../tpm2/boot-lock.ts';
import { tpmPresent } from '../tpm2/tpm.ts';

/** `auxcred measured`: shows what this boot measured, PCR by PCR, beside what the seed is sealed to. */
export async function measured(argv: readonly string[]): Promise<number> {
  const options = new Options('measured', argv);
  options.exactly();
  const paths = chosenLogs(options);
  const log = neededLog(
    { firmware: paths.firmwareLog, userspace: paths.userspaceLog },
    'it needs UEFI and a TPM 2.0; --log=FILE shows a copy from elsewhere',
  );
  const readable = new ReadableFiles();
  const seeds = sealedSeeds(readable, paths);
  const tpm = await tpmValues(options, paths, seeds);
  if (seeds.state === 'hidden') say(`${paths.seeds} is not readable by this user, so nothing is compared with it`);
  const prediction = chosenPrediction(options);
  if (prediction) {
    const next = nextBoot(paths, log, {
      ...prediction,
      readsMachine: options.value('log') === undefined || options.value('root') !== undefined,
    });
    const pcrs = predictedPcrs(predictBoot(log, next, tpm ? { current: tpm } : {}), seeds.object?.policy);
    if (options.flag('json')) printJson({ version: 1, bank: 'sha256', entry: next.boot.id, pcrs });
    else printPrediction(next.boot.id, pcrs);
    return 0;
  }
  const pcrs = measuredBoot(log, tpm, seeds.object?.policy);
  const boots = bootLogs(readable, paths);
  if (options.flag('json')) printJson(jsonOf(log, pcrs, boots));
  else printPcrs(pcrs, boots);
  return 0;
}

/**
 * The paths of the system, with the logs that were named. A log from elsewhere has no userspace log but a named one.
 */
function chosenLogs(options: Options): Paths {
  const paths = pathsUnder(options.value('root') ?? '/');
  const [firmware, userspace] = [options.value('log'), options.value('userspace-log')];
  if (userspace !== undefined && firmware === undefined)
    throw new Failure('usage', '--userspace-log needs --log', { hint: 'both logs are of one boot' });
  return firmware === undefined ? paths : { ...paths, firmwareLog: firmware, userspaceLog: userspace ?? '/dev/null' };
}

/** The TPM's values, if the log is of this boot and the TPM answers. */
async function tpmValues(
  options: Options,
  paths: Paths,
  { pins }: SealedSeeds,
): Promise<ReadonlyMap<number, Uint8Array> | undefined> {
  const given = openersOf(paths, options.value('tpm2-device')).device;
  if (given === undefined && (options.value('log') !== undefined || paths.root !== '/')) return undefined;
  const device = given ?? (typeof pins === 'string' ? undefined : pins.device);
  if (!tpmPresent(device)) {
    say('there is no TPM to compare with');
    return undefined;
  }
  try {
    return await pcrsOfTpm(device);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    say(`the TPM's own values are left out: ${error.message}`);
    return undefined;
  }
}

/** The state of a PCR that the seed is sealed to, by the TPM's value, or by the log's without a TPM. */
const current = ({ log, tpm }: MeasuredPcr): string => tpm ?? log;

function changesOf(pcr: MeasuredPcr, boots: BootLogs): string[] {
  const { sealed } = pcr;
  return sealed === undefined || sealed === current(pcr)
    ? []
    : changesIn(boots, { pcr: pcr.pcr, sealed, now: current(pcr) });
}

function stateOf(pcr: MeasuredPcr): string {
  if (pcr.sealed === undefined) return '';
  return pcr.sealed === current(pcr)
    ? colored('sealed, and matches', 'green')
    : colored('sealed to another value', 'red');
}

/** Why a PCR has another value than the log leads to. */
function beyondLog({ pcr, tpm, log }: MeasuredPcr): string {
  if (pcr === 10) return "IMA's own log says what was measured";
  if (tpm === Buffer.from(lockedValue).toString('hex'))
    return 'the broker extended it to lock the seed until the next boot';
  return `the log does not account for it: it leads to ${log.slice(0, 16)}`;
}

function printPcrs(pcrs: readonly MeasuredPcr[], boots: BootLogs): void {
  for (const pcr of pcrs) {
    const heading = `PCR ${String(pcr.pcr)}`.padEnd(8);
    const state = stateOf(pcr);
    print(
      `${colored(heading, 'bold')}${current(pcr).slice(0, 16)}  ${pcrNames[pcr.pcr] ?? ''}${state && `; ${state}`}`,
    );
    for (const change of changesOf(pcr, boots)) print(`        ${colored(`since the seal: ${change}`, 'red')}`);
    if (pcr.tpm !== undefined && pcr.tpm !== pcr.log) print(`        ${beyondLog(pcr)}`);
    for (const { digest, text } of pcr.events) print(`        ${digest.slice(0, 16)}  ${text}`);
  }
}

function printPrediction(entry: string, pcrs: readonly NextPcr[]): void {
  print(`the boot of ${printable(entry, 200)}`);
  for (const { pcr, values, sure, why, matches } of pcrs) {
    const state =
      matches === undefined ? '' : matches ? ', and the seed is sealed to it' : ', and the seed is sealed to another';
    for (const { phase, value } of values)
      print(
        `${colored(`PCR ${String(pcr)}`.padEnd(8), 'bold')}${value.slice(0, 16)}${phase === undefined ? '' : `  ${phase}`}`,
      );
    print(`        ${colored(sure ? 'sure' : 'not sure', sure ? 'green' : 'yellow')}${state}: ${why}`);
  }
  const sealed = pcrs.filter(({ matches }) => matches !== undefined);
  if (sealed.length === 0) return;
  const named = (list: readonly NextPcr[]): string => list.map(({ pcr }) => `PCR ${String(pcr)}`).join(', ');
  const [other, unsure] = [sealed.filter(({ matches }) => matches === false), sealed.filter(({ sure }) => !sure)];
  if (other.length > 0) print(`the seed would not open: ${named(other)} will have another value`);
  else if (unsure.length > 0) print(`the seed may not open: ${named(unsure)} can't be known yet`);
  else print('the seed will open');
}

/** docs/formats.md lists every key. */
function jsonOf({ banks }: MeasuredLog, pcrs: readonly MeasuredPcr[], boots: BootLogs): Record<string, unknown> {
  return {
    version: 1,
    bank: 'sha256',
    banks,
    pcrs: pcrs.map((pcr) => ({
      ...pcr,
      matches: pcr.sealed === undefined ? undefined : pcr.sealed === current(pcr),
      changes: changesOf(pcr, boots),
    })),
  };
}
