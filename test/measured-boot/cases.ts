import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe } from 'node:test';
import { cannotBoot } from '../machine/machine.ts';
import type { MeasuredMachine, Probes, Start } from './measured-machine.ts';

const units = ['early', 'normal', 'late'] as const;

/** As the guide advises for unified kernel images. */
export const signedPolicy = '--with-key=tpm2 --tpm2-public-key=/run/systemd/tpm2-pcr-public-key.pem --tpm2-pcrs=7';

const manifest = units.map((unit) => `[secret."key-${unit}"]\nkind = "hex"\nunits = ["${unit}.service"]\n`).join('\n');

/**
 * Seals a new seed as its owner would, in the machine that is on, and applies a manifest with a secret for each probe.
 * @returns what the probes find then
 */
export async function sealInMachine(machine: MeasuredMachine, options: string): Promise<Probes> {
  await machine.run(`mkdir -p /etc/auxcred/secrets.d; cat > /etc/auxcred/secrets.d/test.toml << 'END'\n${manifest}END`);
  await machine.run(`auxcred seal ${options} --recipient=${machine.recipient}`);
  await machine.run('auxcred apply && systemctl restart early normal late');
  return await served(machine);
}

/**
 * Enrolls the machine that is on into a vault, and pushes seeds and manifest to it. The vault is on the machine itself,
 * which has no network, and a program in the place of ssh runs what ssh would run there.
 * @param host - the lines of its table in vault.toml
 * @returns what the probes find then
 */
export async function pushInMachine(machine: MeasuredMachine, host: readonly string[]): Promise<Probes> {
  const script = `
    umask 077
    mkdir -p /root/vault
    cat > /root/identity << 'END'
${machine.recovery}END
    cat > /root/no-ssh << 'END'
#!/bin/sh
while [ $# -gt 1 ]; do shift; done
exec sh -c "$1"
END
    chmod 700 /root/no-ssh
    auxcred init --vault=/root/vault --recipient=${machine.recipient}
    mkdir -p /root/vault/machine
    cat > /root/vault/machine/test.toml << 'END'
${manifest}END
    cat > /root/vault/vault.toml << 'END'
ssh = ["/root/no-ssh"]
identity = ["/root/identity"]
[host.machine]
manifest = ["machine"]
${host.join('\n')}
END
    auxcred enroll > /root/enrollment
    auxcred enroll machine --vault=/root/vault --from=/root/enrollment
    auxcred push --vault=/root/vault --timeout=900 --manifest machine
    systemctl restart early normal late`;
  // Five starts of the program, each of which is seconds of emulation.
  await machine.run(script, { timeoutMs: 900_000 });
  return await served(machine);
}

/** What the probes found. @throws if one has no secret */
async function served(machine: MeasuredMachine): Promise<Probes> {
  const found = await machine.probes();
  for (const unit of units) assert.match(found[unit]?.credentials[`key-${unit}`] ?? '', /^[0-9a-f]{16}$/);
  return found;
}

/** Every probe got the secret that it had in `first`, and the TPM counts no failure. */
export async function assertServes(machine: MeasuredMachine, first: Probes): Promise<void> {
  const found = await machine.probes();
  const credentials = (probes: Probes): unknown => units.map((unit) => probes[unit]?.credentials);
  assert.deepEqual(credentials(found), credentials(first), await machine.said('auxcred.service'));
  const { stdout } = await machine.run('TPM2TOOLS_TCTI=device:/dev/tpmrm0 tpm2_getcap properties-variable');
  assert.match(stdout, /TPM2_PT_LOCKOUT_COUNTER: 0x0\n/);
}

/** No probe got a secret, none of them started without it, and the broker says why. */
export async function assertRefused(machine: MeasuredMachine, reason: RegExp): Promise<void> {
  assert.deepEqual(await machine.probes(), {});
  assert.match(await machine.said('auxcred.service'), reason);
  const { stdout } = await machine.run('systemctl is-failed early normal late || true');
  assert.equal(stdout, 'failed\nfailed\nfailed\n');
}

const pcrlock = '/usr/lib/systemd/systemd-pcrlock';

/** PCR 4 would fall out: systemd-pcrlock does not recognize the kernel that systemd-stub starts. */
const predictPcrs = `${pcrlock} make-policy --pcr=0,2,7,11`;

/** Shell commands that let systemd-pcrlock predict the boots of what is installed. */
export const predictInstalled = `
  for part in firmware-code firmware-config secureboot-policy gpt machine-id; do ${pcrlock} lock-$part; done
  ${pcrlock} lock-pe --pcrlock=/var/lib/pcrlock.d/630-boot-loader.pcrlock.d/loader.pcrlock /efi/EFI/BOOT/BOOTX64.EFI
  mkdir -p /var/lib/pcrlock.d/650-uki.pcrlock.d
  ${pcrlock} lock-uki --pcrlock=/var/lib/pcrlock.d/650-uki.pcrlock.d/installed.pcrlock /efi/EFI/Linux/system.efi
  ${predictPcrs}`;

/** Shell commands that make it predict those of another boot loader or image, too. */
export const predictAlso = (kind: 'pe' | 'uki', file: string): string => `
  ${pcrlock} lock-${kind} --pcrlock=/var/lib/pcrlock.d/${kind === 'uki' ? '650-uki' : '630-boot-loader'}.pcrlock.d/new.pcrlock ${file}
  ${predictPcrs}`;

/** Leaves the owner's keys on the ESP of the machine that is off, where firmware with Secure Boot takes them. */
export async function enrollSecureBoot(machine: MeasuredMachine): Promise<void> {
  await machine.makeFolder('loader/keys/auto');
  for (const name of ['PK', 'KEK', 'db'])
    await machine.place(join(machine.system.folder, `${name}.auth`), `loader/keys/auto/${name}.auth`);
}

/** One machine through the cases of a file. */
export interface Life {
  readonly machine: MeasuredMachine;
  /** What the probes found when the seed was sealed. */
  first: Probes;
}

/** Declares the cases of one machine: what one of them leaves behind is where the next one starts. */
export function describeMachine(name: string, start: () => Promise<Start>, declare: (life: Life) => void): void {
  describe(name, { skip: cannotBoot }, () => {
    let made: MeasuredMachine | undefined;
    const life: Life = {
      get machine() {
        if (made === undefined) throw new Error('there is no machine yet');
        return made;
      },
      first: {},
    };
    before(async () => {
      const started = await start();
      made = started.machine;
      life.first = started.first;
    });
    after(async () => {
      await made?.[Symbol.asyncDispose]();
    });
    declare(life);
  });
}
