/** Commands to type, in the hints about a host of the vault. */
import { Failure, type FailureCode } from '../failure.ts';
import { tableHeading, type VaultHost } from './vault.ts';

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

/** The TPM or the ssh host key is another one, or the host booted something else than its seeds are sealed to. */
const closed: readonly FailureCode[] = ['no-tpm', 'other-tpm', 'pcr-mismatch', 'no-recipient'];

/** A host's failure. If the host does not open its own seeds, the hint is for the operator, who has them. */
export function withWayOut(failure: Failure, host: Pick<VaultHost, 'name' | 'target' | 'withKey'>): Failure {
  if (!closed.includes(failure.code)) return failure;
  const { name, target, withKey } = host;
  if (failure.code === 'no-tpm')
    return new Failure('no-tpm', failure.message, {
      hint:
        `find out why; if it has none any more: with-key = "host" of ${tableHeading('host', name)} in vault.toml, ` +
        `then auxcred push --reseal ${name}`,
      cause: failure,
    });
  const reseal =
    withKey === 'host'
      ? `auxcred scopes ${name} | ${overSsh(target, 'reseal --scopes=-')}`
      : `${enrollCommand(host, '--replace')}, then auxcred push --reseal ${name}`;
  return new Failure(failure.code, failure.message, { hint: `find out why; then ${reseal}`, cause: failure });
}

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
