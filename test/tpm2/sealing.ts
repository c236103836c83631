import { randomBytes } from 'node:crypto';
import { Failure, type FailureCode } from '../../src/failure.ts';
import { readPcrs } from '../../src/tpm2/pcr.ts';
import { literalPolicy } from '../../src/tpm2/policy.ts';
import { type NativeObject, type SealedObject, seal, unseal } from '../../src/tpm2/sealed-object.ts';
import { openTpm, type Tpm } from '../../src/tpm2/tpm.ts';
import type { Swtpm } from '../swtpm.ts';

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const failsWith =
  (code: FailureCode, text?: RegExp) =>
  (error: unknown): boolean =>
    error instanceof Failure && error.code === code && (text === undefined || text.test(error.message));
export const digest = (byte: string): string => byte.repeat(32);
export const secret = (): Uint8Array => new Uint8Array(randomBytes(32));

export async function withTpm<T>(device: string, work: (tpm: Tpm) => Promise<T>): Promise<T> {
  const tpm = await openTpm(device);
  try {
    return await work(tpm);
  } finally {
    await tpm.close();
  }
}

export const sealTo = async (device: string, value: Uint8Array, pcrs: readonly number[]): Promise<NativeObject> =>
  await withTpm(device, async (tpm) => await seal(tpm, value, literalPolicy(await readPcrs(tpm, pcrs))));
export const unsealAt = async (device: string, sealed: SealedObject): Promise<Uint8Array> =>
  await withTpm(device, async (tpm) => await unseal(tpm, sealed));

/** What a client left behind in a TPM; empty for nothing. */
export const leftIn = (swtpm: Swtpm): string =>
  ['handles-transient', 'handles-loaded-session', 'handles-saved-session']
    .map((kind) => swtpm.tool('tpm2_getcap', kind))
    .join('');

/** Wrong guesses that the TPM has counted. */
export const lockoutCounter = (swtpm: Swtpm): number =>
  Number(/TPM2_PT_LOCKOUT_COUNTER: (0x[0-9A-Fa-f]+)/.exec(swtpm.tool('tpm2_getcap', 'properties-variable'))?.[1]);

/** The attributes of an SRK as systemd and tpm2-tools make it. */
export const srkAttributes = 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt';

/** Makes a key in the owner hierarchy with tpm2-tools, in srk.ctx. */
export function createPrimary(swtpm: Swtpm, algorithm = 'ecc256:null:aes128cfb', attributes = srkAttributes): void {
  swtpm.tool('tpm2_createprimary', '-C', 'o', '-G', algorithm, '-a', attributes, '-c', 'srk.ctx');
  swtpm.tool('tpm2_flushcontext', '-t');
}

/** Stores the key in srk.ctx where an installed system has its SRK. @returns its Name */
export function makePersistent(swtpm: Swtpm): string {
  swtpm.tool('tpm2_evictcontrol', '-C', 'o', '-c', 'srk.ctx', '0x81000001');
  swtpm.tool('tpm2_flushcontext', '-t');
  return /^name: ([0-9a-f]+)$/m.exec(swtpm.tool('tpm2_readpublic', '-c', '0x81000001'))?.[1] ?? '';
}

export const removePersistent = (swtpm: Swtpm): void => {
  swtpm.tool('tpm2_evictcontrol', '-C', 'o', '-c', '0x81000001');
};

export const commandCodes = {
  hierarchyControl: 0x121,
  createPrimary: 0x131,
  create: 0x153,
  import: 0x156,
  unseal: 0x15e,
  startAuthSession: 0x176,
  verifySignature: 0x177,
  pcrExtend: 0x182,
  nvDefineSpace: 0x12a,
  nvIncrement: 0x134,
  nvRead: 0x14e,
  nvReadPublic: 0x169,
} as const;

/** A command with an empty password for its one handle, as it goes over the wire (TPM 2.0 part 1, section 18). */
export function command(code: number, handle: number, parameters: Uint8Array): Buffer {
  const header = Buffer.alloc(14);
  const password = Buffer.from([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
  header.writeUInt16BE(0x8002);
  header.writeUInt32BE(header.length + password.length + parameters.length, 2);
  header.writeUInt32BE(code, 6);
  header.writeUInt32BE(handle, 10);
  return Buffer.concat([header, password, parameters]);
}

/** TPM2_PCR_Extend of one SHA-256 digest (part 3, section 22.2). */
export const pcrExtend = (pcr: number): Buffer =>
  command(commandCodes.pcrExtend, pcr, Buffer.concat([Buffer.from([0, 0, 0, 1, 0, 0x0b]), Buffer.alloc(32, 1)]));
