/** Whether power cuts between unseals lead to the TPM's dictionary attack lockout, under auxcred and systemd-creds. */
import type { Machine } from '../test/machine/machine.ts';
import type { Swtpm } from '../test/swtpm.ts';
import { report } from './report.ts';

/** TPM2_PT_LOCKOUT_COUNTER (TPM 2.0 part 2, table 29), or another property of the same list. */
function property(swtpm: Swtpm, name: string): number {
  const value = new RegExp(`^${name}: (0x[0-9A-Fa-f]+)$`, 'm').exec(swtpm.tool('tpm2_getcap', 'properties-variable'));
  if (value?.[1] === undefined) throw new Error(`the TPM has no ${name}`);
  return Number(value[1]);
}
const counter = (swtpm: Swtpm): number => property(swtpm, 'TPM2_PT_LOCKOUT_COUNTER');

/**
 * An object of the kind that power cuts do count against: its authorization value is protected from dictionary attacks,
 * since `noda` is missing (TPM 2.0 part 1, 19.8.7).
 */
const protectedHandle = '0x81010001';

function makeProtected(swtpm: Swtpm): void {
  const attributes = 'fixedtpm|fixedparent|userwithauth';
  swtpm.tool('tpm2_getrandom', '-o', 'value', '16');
  const files = ['-u', 'protected.pub', '-r', 'protected.priv'];
  swtpm.tool('tpm2_create', '-C', '0x81000001', '-i', 'value', '-p', 'pin', '-a', attributes, ...files);
  swtpm.tool('tpm2_load', '-C', '0x81000001', ...files, '-c', 'protected.ctx');
  swtpm.tool('tpm2_evictcontrol', '-C', 'o', '-c', 'protected.ctx', protectedHandle);
  swtpm.tool('tpm2_flushcontext', '-t');
}

/** The machine's seed and its systemd-creds use this TPM. */
export async function benchPowerCuts(machine: Machine, swtpm: Swtpm, cuts: number): Promise<void> {
  const creds = `SYSTEMD_TPM2_DEVICE=${swtpm.device} systemd-creds`;
  const encrypt = `printf value | ${creds} --with-key=tpm2 --tpm2-pcrs=7 --name=cut encrypt - /etc/cut.cred`;
  await machine.shell(`systemctl stop auxcred.service auxcred.socket; ${encrypt}`);
  const unseal = {
    auxcred: `auxcred unseal --tpm2-device=${swtpm.device}`,
    creds: `${creds} --name=cut decrypt /etc/cut.cred -`,
  } as const;
  const highest = { auxcred: 0, creds: 0 };
  for (let cut = 0; cut < cuts; cut++)
    for (const program of ['auxcred', 'creds'] as const) {
      await machine.shell(unseal[program]);
      await swtpm.powerCut();
      highest[program] = Math.max(highest[program], counter(swtpm));
    }
  report({
    what: `${String(cuts)} power cuts after an unseal each`,
    measured: `auxcred's lockout counter: ${String(highest.auxcred)}`,
    against: `systemd-creds': ${String(highest.creds)}`,
    ratio: '',
    goal: `0 ${highest.auxcred === 0 ? 'met' : 'MISSED'}`,
    data: { kind: 'power cuts', cuts, ours: highest.auxcred, theirs: highest.creds },
  });
  await benchLockout(machine, swtpm, unseal);
}

/** The same with an object that is protected from dictionary attacks, and who still unseals afterwards. */
async function benchLockout(
  machine: Machine,
  swtpm: Swtpm,
  unseal: Readonly<Record<'auxcred' | 'creds', string>>,
): Promise<void> {
  makeProtected(swtpm);
  const most = property(swtpm, 'TPM2_PT_MAX_AUTH_FAIL');
  let until = 0;
  while (counter(swtpm) < most) {
    swtpm.tool('tpm2_unseal', '-c', protectedHandle, '-p', 'pin');
    await swtpm.powerCut();
    until++;
    if (until > 2 * most)
      throw new Error('power cuts lock nothing out on this TPM, so that the count above says nothing');
  }
  const opens = async (program: 'auxcred' | 'creds'): Promise<string> =>
    (await machine.shell(unseal[program], { check: false })).status === 0 ? 'opens' : 'does not open';
  const [ours, theirs] = [await opens('auxcred'), await opens('creds')];
  report({
    what: `in lockout, by ${String(until)} cuts with a PIN object`,
    measured: `auxcred ${ours}`,
    against: `systemd-creds ${theirs}`,
    ratio: '',
    goal: '',
    data: { kind: 'lockout', cuts: until, ours, theirs },
  });
}
