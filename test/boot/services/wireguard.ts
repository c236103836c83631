import type { Machine } from '../../machine/machine.ts';
import type { Service } from './service.ts';

const unit = 'systemd-networkd.service';

/**
 * Whether this kernel has WireGuard. Without it, systemd-networkd gets as far as asking the kernel for the interface.
 */
export async function kernelHasWireguard(machine: Machine): Promise<boolean> {
  const { status } = await machine.shell('ip link add probe type wireguard && ip link delete probe', { check: false });
  return status === 0;
}

export const wireguard: Service = {
  name: 'wireguard',
  // Not enabled by the package: the page does.
  units: [],
  secret: 'wg0',
  async accepts(machine, value) {
    if (await kernelHasWireguard(machine)) {
      const own = (await machine.run(['wg', 'pubkey'], { input: value })).stdout;
      return (await machine.run(['wg', 'show', 'wg0', 'public-key'], { check: false })).stdout === own;
    }
    const credential = await machine.run(['cat', `/run/credentials/${unit}/wg0`], { check: false });
    if (credential.status !== 0 || credential.stdout !== value) return false;
    const { InvocationID = '' } = await machine.properties(unit, 'InvocationID');
    const said = (await machine.journal(`_SYSTEMD_INVOCATION_ID=${InvocationID}`)).map((entry) =>
      String(entry['MESSAGE']),
    );
    if (said.some((line) => /wireguard key/.test(line))) throw new Error(said.join('\n'));
    return said.some((line) => /wg0: Failed to create netdev: Operation not supported/.test(line));
  },
};
