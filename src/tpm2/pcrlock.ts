/**
 * The prediction of systemd-pcrlock(8): its policy is in an NV index that only systemd-pcrlock can write, and
 * `pcrlock.json` has the values that the policy was computed from (`tpm2_pcrlock_policy_from_json()` in systemd's
 * src/shared/tpm2-util.c).
 */

import { sameBytes } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { readFileWithin } from '../system/files.ts';
import { Json } from '../system/json.ts';
import { afterOr, afterPcrs, type PcrlockAuthority, type PcrValues, startDigest } from './policy.ts';
import { nameOfPublic } from './srk.ts';
import { contentOf, nvWritten, u32 } from './wire.ts';

/** The values that systemd-pcrlock predicted, and the index that has the policy. */
export interface PcrlockPrediction extends Omit<PcrlockAuthority, 'kind'> {
  /** The values of each PCR, at least one, 32 bytes each; by PCR, ascending. */
  readonly values: ReadonlyMap<number, readonly Uint8Array[]>;
}

/** Where systemd-pcrlock keeps it. */
export const pcrlockFile = '/var/lib/systemd/pcrlock.json';
/** What systemd-pcrlock predicts unless told otherwise. */
const defaultPcrs = [0, 1, 2, 3, 4, 5, 7, 11, 13, 14, 15];
/** Bytes of the index and name algorithm, before the attributes in TPMS_NV_PUBLIC (part 2, table 218). */
const attributesAt = 6;
const longestFile = 1 << 20;
const hint = 'systemd-pcrlock make-policy writes it again';

/** Reads a prediction; undefined if there is none. @throws Failure `malformed` */
export function readPcrlock(file: string): PcrlockPrediction | undefined {
  const bytes = readFileWithin(file, longestFile);
  return bytes && parsePcrlock(bytes, file);
}

/** Parses pcrlock.json. @throws Failure `malformed` */
export function parsePcrlock(bytes: Uint8Array, file: string): PcrlockPrediction {
  const json = Json.parse(bytes, file, hint);
  json.at('pcrBank').oneOf(['sha256'] as const);
  const values = json
    .at('pcrValues')
    .list()
    .map((entry): [number, Uint8Array[]] => [entry.at('pcr').whole(0, 23), entry.at('values').list().map(valueIn)])
    .sort(([a], [b]) => a - b);
  const empty = values.find(([, list]) => list.length === 0 || list.length > 8);
  if (empty) throw json.at('pcrValues').unexpected(`one to eight values of PCR ${String(empty[0])}`);
  const index = json.at('nvIndex').whole(0x01000000, 0x01ffffff);
  const area = new Uint8Array(contentOf(Buffer.from(json.at('nvPublic').text(), 'base64')));
  if (area.length < attributesAt + 4 || !sameBytes(area.subarray(0, 4), u32(index)))
    throw json.at('nvPublic').unexpected('the public area of the NV index');
  // pcrlock.json has the index as it was before the first write.
  const attributes = Buffer.from(area).readUInt32BE(attributesAt);
  area.set(u32((attributes | nvWritten) >>> 0), attributesAt);
  return {
    index,
    name: nameOfPublic(area),
    pcrs: values.map(([pcr]) => pcr),
    file,
    values: new Map(values),
  };
}

function valueIn(item: Json): Uint8Array {
  const text = item.text();
  if (!/^[0-9a-f]{64}$/.test(text)) throw item.unexpected('the value of a PCR');
  return new Uint8Array(Buffer.from(text, 'hex'));
}

/** The PCRs that systemd-pcrlock predicts by default, and left out here: it says so nowhere. */
export const leftOut = ({ pcrs }: Pick<PcrlockAuthority, 'pcrs'>): number[] =>
  defaultPcrs.filter((pcr) => !pcrs.includes(pcr));

/**
 * Refuses a prediction that says too little about what boots.
 * @throws Failure `refused` without PCR 7, or with neither 4 nor 11
 */
export function refuseNarrow(prediction: Pick<PcrlockAuthority, 'pcrs' | 'file'>): void {
  const { pcrs, file } = prediction;
  const lacks = [
    ...(pcrs.includes(7) ? [] : ['7']),
    ...([4, 11].some((pcr) => pcrs.includes(pcr)) ? [] : ['4 and 11']),
  ];
  if (lacks.length === 0) return;
  throw new Failure(
    'refused',
    `systemd-pcrlock left PCR ${lacks.join(', ')} out of ${file}, so it says too little about what boots; ` +
      `it has ${pcrs.length === 0 ? 'none' : pcrs.join('+')}`,
    { hint: 'systemd-pcrlock log shows the components that it does not recognize; systemd-pcrlock lock-* adds them' },
  );
}

/** One step of the policy that systemd-pcrlock computes (`tpm2_calculate_policy_super_pcr()`). */
export interface PredictionStep {
  readonly pcrs: readonly number[];
  /** The digests that PolicyOR takes; empty for a step without one. */
  readonly branches: readonly Uint8Array[];
}

/**
 * The steps that lead to the digest in the NV index: first all PCRs with one value, then a PolicyOR for each other PCR.
 */
export function predictionSteps({ values }: Pick<PcrlockPrediction, 'values'>): {
  readonly steps: PredictionStep[];
  /** 32 bytes. */
  readonly digest: Uint8Array;
} {
  const single: PcrValues = new Map(
    [...values].flatMap(([pcr, [only, ...more]]): [number, Uint8Array][] =>
      only && more.length === 0 ? [[pcr, only]] : [],
    ),
  );
  const steps: PredictionStep[] = single.size === 0 ? [] : [{ pcrs: [...single.keys()], branches: [] }];
  let digest = afterPcrs(startDigest, single);
  for (const [pcr, list] of values) {
    if (list.length < 2) continue;
    const before = digest;
    const branches = list.map((value) => afterPcrs(before, new Map([[pcr, value]])));
    steps.push({ pcrs: [pcr], branches });
    digest = afterOr(branches);
  }
  return { steps, digest };
}

/** The PCRs with a value that was not predicted, ascending. */
export const unpredicted = ({ values }: Pick<PcrlockPrediction, 'values'>, now: PcrValues): number[] =>
  [...values].filter(([pcr, list]) => !list.some((value) => sameBytes(value, now.get(pcr)))).map(([pcr]) => pcr);
