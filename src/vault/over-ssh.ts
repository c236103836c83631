/** Commands to type, in the hints about a host of the vault. */
import type { VaultHost } from './vault.ts';

/** Quotes for a shell: a destination contains no quotes, but may contain brackets. */
export const quotedTarget = (target: string): string => (/[[\]]/.test(target) ? `'${target}'` : target);

/** A command of auxcred on a host, through sudo if the login is not root's. */
function overSsh(target: string, command: string): string {
  const [, user = 'root'] = /^(?:ssh:\/\/)?([^@]+)@/.exec(target) ?? [];
  return `ssh ${quotedTarget(target)} ${user === 'root' ? '' : 'sudo -n '}auxcred ${command}`;
}

/** Enrolls a host. */
export const enrollCommand = ({ name, target }: Pick<VaultHost, 'name' | 'target'>, ...options: string[]): string =>
  `${overSsh(target, 'enroll')} | auxcred enroll ${[name, ...options].join(' ')} --from=-`;

/** Seals a host's seeds again as they were sealed, to what it is now. */
export const resealCommand = ({ name, target }: Pick<VaultHost, 'name' | 'target'>): string =>
  `auxcred scopes ${name} | ${overSsh(target, 'reseal --scopes=-')}`;

/** Sends a host its seeds again. Has the key and the PCRs of vault.toml, and no other option of sealing. */
export function sealCommand(
  { name, target, withKey, pcrs }: Pick<VaultHost, 'name' | 'target' | 'withKey' | 'pcrs'>,
  ...options: string[]
): string {
  const sealing = [
    ...(withKey === 'host' ? [] : [`--with-key=${withKey}`]),
    ...(pcrs.length === 0 ? [] : [`--tpm2-pcrs=${pcrs.join('+')}`]),
  ];
  return `auxcred scopes ${name} | ${overSsh(target, ['seal', ...options, '--scopes=-', ...sealing].join(' '))}`;
}
