/** Whether power cuts between unseals lead to the TPM's dictionary attack lockout, under auxcred and systemd-creds. */
import type { Machine } from '../test/machine/machine.ts';
import type { Swtpm } from '../test/swtpm.ts';
import { report } from './report.ts';

/** A property of TPM_PT_VAR (TPM 2.0 part 2, table 29). */
function property(swtpm: Swtpm, name: string): number {
  const value = new RegExp(`^${name}: (0x[0-9A-Fa-f]+)$`, 'm').exec(swtpm.tool('tpm2_getcap', 'properties-variable'));
  if (value?.[1] === undefined) throw new Error(`the TPM has no ${name}`);
  return Number(value[1]);
}

interface Endured {
  /** How many unseals succeeded, each of which was followed by a power cut. */
  readonly cuts: number;
  /** TPM2_PT_LOCKOUT_COUNTER at the end. */
  readonly counter: number;
  readonly locked: boolean;
}

/** Unseals and cuts the power in turn, until the TPM is in lockout. @throws Error if unsealing fails without one */
async function endure(machine: Machine, swtpm: Swtpm, unseal: string, most: number): Promise<Endured> {
  const counter = (): number => property(swtpm, 'TPM2_PT_LOCKOUT_COUNTER');
  const limit = property(swtpm, 'TPM2_PT_MAX_AUTH_FAIL');
  // What was used before counts at the next power cut.
  await swtpm.powerCut();
  swtpm.tool('tpm2_dictionarylockout', '--clear-lockout');
  if (counter() !== 0) throw new Error('the lockout counter is not 0 to begin with');
  for (let cuts = 0; cuts < most; cuts++) {
    if (counter() >= limit) return { cuts, counter: counter(), locked: true };
    await machine.shell(unseal);
    await swtpm.powerCut();
  }
  return { cuts: most, counter: counter(), locked: counter() >= limit };
}

const inWords = ({ cuts, counter, locked }: Endured): string =>
  locked ? `locked out after ${String(cuts)}` : `counter ${String(counter)} after ${String(cuts)}`;

/** The machine's seed is sealed to this TPM. */
export async function benchPowerCuts(machine: Machine, swtpm: Swtpm, most: number): Promise<void> {
  const creds = `SYSTEMD_TPM2_DEVICE=${swtpm.device} systemd-creds`;
  const encrypt = `printf value | ${creds} --with-key=tpm2 --tpm2-pcrs=7 --name=cut encrypt - /etc/cut.cred`;
  await machine.shell(`systemctl stop auxcred.service auxcred.socket; ${encrypt}`);
  const unseal = `auxcred unseal --tpm2-device=${swtpm.device}`;
  const decrypt = `${creds} --name=cut decrypt /etc/cut.cred -`;
  const ours = await endure(machine, swtpm, unseal, most);
  const theirs = await endure(machine, swtpm, decrypt, most);
  report({
    what: 'power cuts, each after an unseal',
    measured: `auxcred ${inWords(ours)}`,
    against: `systemd-creds ${inWords(theirs)}`,
    ratio: '',
    goal: `counter 0 ${ours.counter === 0 ? 'met' : 'MISSED'}`,
    data: { kind: 'power cuts', ours: inWords(ours), theirs: inWords(theirs) },
  });
  if (!theirs.locked) return;
  const opens = async (command: string): Promise<string> =>
    (await machine.shell(command, { check: false })).status === 0 ? 'opens' : 'does not open';
  const [own, other] = [await opens(unseal), await opens(decrypt)];
  report({
    what: 'in this lockout',
    measured: `auxcred ${own}`,
    against: `systemd-creds ${other}`,
    ratio: '',
    goal: '',
    data: { kind: 'lockout', ours: own, theirs: other },
  });
}
