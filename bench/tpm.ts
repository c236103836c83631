/** TPM commands for 1, 10 and 100 secrets: the broker unseals once, systemd-creds once a secret. */
import { auxcredMachine, manifestPath, secretToml } from '../test/auxcred-machine.ts';
import type { Machine, RunningTpm } from '../test/machine/machine.ts';
import { startSwtpm } from '../test/swtpm.ts';
import { startTpmProxy, type TpmProxy } from '../test/tpm-proxy.ts';
import { report } from './report.ts';

let proxy: TpmProxy | undefined;

/** A TPM with an SRK, behind a proxy that counts commands. */
async function countedTpm(folder: string): Promise<RunningTpm> {
  const swtpm = await startSwtpm({ folder, pcrs: { 7: ['a7'.repeat(32)] } });
  const attributes = 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt';
  swtpm.tool('tpm2_createprimary', '-C', 'o', '-G', 'ecc256:null:aes128cfb', '-a', attributes, '-c', 'srk.ctx');
  swtpm.tool('tpm2_flushcontext', '-t');
  swtpm.tool('tpm2_evictcontrol', '-C', 'o', '-c', 'srk.ctx', '0x81000001');
  proxy = await startTpmProxy(swtpm.device, () => undefined, folder);
  const { device } = proxy;
  return {
    device,
    stop: async () => {
      await proxy?.stop();
      await swtpm.stop();
    },
  };
}

async function commandsOf(work: () => Promise<unknown>): Promise<number> {
  const before = proxy?.commands.length ?? 0;
  await work();
  return (proxy?.commands.length ?? 0) - before;
}

async function compareCommands(machine: Machine, device: string, secrets: number): Promise<void> {
  const units = Array.from({ length: secrets }, (_, i) => `tpm-${String(i)}.service`);
  for (const unit of units)
    await machine.write(`/etc/systemd/system/${unit}`, '[Service]\nType=oneshot\nExecStart=/bin/true\n');
  await machine.write(manifestPath('tpm'), secretToml('key', units));
  await machine.run(['auxcred', 'apply']);
  const start = ['systemctl', 'start', ...units];
  const ours = await commandsOf(async () => await machine.run(start, { timeoutMs: 120_000 }));
  const creds = `SYSTEMD_TPM2_DEVICE=${device} systemd-creds`;
  await machine.shell(`printf secret | ${creds} --with-key=tpm2 --tpm2-pcrs=7 --name=key encrypt - /etc/tpm.cred`);
  const decrypt = `${creds} --name=key decrypt /etc/tpm.cred - > /dev/null`;
  const each = `for i in $(seq ${String(secrets)}); do ${decrypt}; done`;
  const theirs = await commandsOf(async () => await machine.shell(each, { timeoutMs: 300_000 }));
  await machine.systemctl('stop', 'auxcred.service');
  report({
    what: `TPM commands, ${String(secrets)} secrets`,
    measured: `auxcred ${String(ours)}`,
    against: `systemd-creds ${String(theirs)}`,
    ratio: `${(ours / theirs).toFixed(2)} x`,
    // Two of them are for the counter, which systemd-creds does not have.
    goal: `<= 12, constant ${ours <= 12 ? 'met' : 'MISSED'}`,
  });
}

export async function benchTpm(): Promise<void> {
  const machine = await auxcredMachine({ systemd: '257', name: 'bench', tpm: countedTpm });
  try {
    await machine.boot();
    const device = machine.tpm?.device ?? '';
    const sealing = ['--with-key=tpm2', `--tpm2-device=${device}`, '--tpm2-pcrs=7', '--no-recovery'];
    await machine.run(['auxcred', 'seal', ...sealing]);
    for (const secrets of [1, 10, 100]) await compareCommands(machine, device, secrets);
  } finally {
    await machine.destroy();
  }
}
