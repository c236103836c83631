/** A machine whose system is a NixOS configuration: stage 2 of NixOS is its first process, as in NixOS' containers. */
import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunResult } from '../machine/container.ts';
import { createMachine, type Machine, type MachineOptions } from '../machine/machine.ts';
import { storeFolder } from './nix.ts';

/** What a machine keeps of Debian's /etc: who it is, and what its programs can't do without. */
const keptInEtc = ['machine-id', 'hostname', 'ssh', 'alternatives', 'ld.so.cache'];

/** A machine of which Debian has only the programs, switched off. Boot it with `bootSystem`. */
export async function nixosMachine(options: Omit<MachineOptions, 'systemd'>): Promise<Machine> {
  const machine = await createMachine({
    ...options,
    systemd: 'nixos',
    readOnlyBinds: { '/nix/store': storeFolder },
  });
  const etc = join(machine.root, 'etc');
  for (const name of readdirSync(etc)) if (!keptInEtc.includes(name)) rmSync(join(etc, name), { recursive: true });
  for (const name of readdirSync(join(etc, 'ssh')))
    if (!name.startsWith('ssh_host_')) rmSync(join(etc, 'ssh', name), { recursive: true });
  for (const folder of ['usr/lib/systemd/system', 'usr/lib/systemd/user', 'usr/lib/sysusers.d', 'usr/lib/tmpfiles.d']) {
    rmSync(join(machine.root, folder), { recursive: true });
    mkdirSync(join(machine.root, folder));
  }
  // A login shell of NixOS has the programs of the configuration on its PATH.
  symlinkSync('/run/current-system/sw/bin/auxcred', join(machine.root, 'usr/local/bin/auxcred'));
  mkdirSync(join(machine.root, 'nix/store'), { recursive: true });
  writeFileSync(join(machine.root, 'etc/NIXOS'), '');
  return machine;
}

/** Boots a configuration by its path in the store. */
export const bootSystem = async (machine: Machine, toplevel: string): Promise<string> =>
  await machine.boot({ init: `${toplevel}/init`, timeoutMs: 120_000 });

/** Runs a configuration's own program that switches to it. */
export const switchTo = async (
  machine: Machine,
  toplevel: string,
  action: 'switch' | 'boot' | 'test' | 'dry-activate',
): Promise<RunResult> =>
  await machine.run([`${toplevel}/bin/switch-to-configuration`, action], { check: false, timeoutMs: 120_000 });

/** A file that a service of a test left in /run/probe; undefined if it left none. */
export async function recorded(machine: Machine, name: string): Promise<string | undefined> {
  const { status, stdout } = await machine.run(['cat', `/run/probe/${name}`], { check: false });
  return status === 0 ? stdout : undefined;
}
