import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createMachine, type Machine, type MachineOptions, type RunningTpm } from './machine/machine.ts';
import { type Swtpm, startSwtpm } from './swtpm.ts';

/** The Debian package from `npm run deb`: the tests run what users install. */
export function debianPackage(): string {
  const name = readdirSync('dist').find((entry) => entry.endsWith('.deb'));
  if (name === undefined) throw new Error('there is no package in dist/: npm run deb');
  return join('dist', name);
}

/** A machine with auxcred installed from its package, switched off. */
export async function auxcredMachine(options: Omit<MachineOptions, 'installed'>): Promise<Machine> {
  return await createMachine({ ...options, installed: debianPackage() });
}

/** What this machine's firmware measures at power-on: values of our own for PCRs 7 and 14, and whatever a test adds. */
export interface Firmware {
  readonly measured: Record<number, string[]>;
  /** The TPM of the present boot. */
  tpm: Swtpm | undefined;
  start(folder: string): Promise<RunningTpm>;
}

const digest = (byte: string): string => byte.repeat(32);

export function firmware(): Firmware {
  const measured: Record<number, string[]> = { 7: [digest('a7')], 14: [digest('ae')] };
  const self: Firmware = {
    measured,
    tpm: undefined,
    start: async (folder) => (self.tpm = await startSwtpm({ folder, pcrs: measured })),
  };
  return self;
}

/** A manifest file under /etc/auxcred/secrets.d. */
export const manifestPath = (name: string): string => `/etc/auxcred/secrets.d/${name}.toml`;

/** Has systemd itself, in the machine, use the TPM that `device` names: there is no device node in a container. */
export async function nameTpm(machine: Machine, device: string): Promise<void> {
  await machine.write(
    '/etc/systemd/system.conf.d/tpm.conf',
    `[Manager]\nManagerEnvironment=SYSTEMD_TPM2_DEVICE=${device}\nDefaultEnvironment=SYSTEMD_TPM2_DEVICE=${device}\n`,
  );
}

/** TOML for one secret. */
export function secretToml(
  name: string,
  units: readonly string[],
  more: Readonly<Record<string, string | number | boolean>> = {},
): string {
  const lines = Object.entries({ kind: 'hex', ...more }).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  return `[secret.${JSON.stringify(name)}]\n${lines.join('\n')}\nunits = ${JSON.stringify(units)}\n\n`;
}
