/** The sealing that the options of `seal`, `reseal` and `enroll` ask for. */
import { scopeNamePattern } from '../derive/realm.ts';
import { Failure } from '../failure.ts';
import type { SealWishes } from '../machine/sealing.ts';
import { type KeySource, keySources, recipientPattern } from '../seeds/payload.ts';
import { usablePins } from '../seeds/pins.ts';
import { type CredsKey, credsKeys } from '../system/creds-lock.ts';
import { readIfPresent } from '../system/files.ts';
import { type Paths, pathsUnder } from '../system/paths.ts';
import { systemIsRunning } from '../system/systemctl.ts';
import { say } from '../terminal/say.ts';
import { parseDevice, tpmPresent } from '../tpm2/tpm.ts';
import type { Options } from './options.ts';

/** The key that `--with-key=` names. @throws Failure `usage` */
export function chosenKey(text: string, device: string | undefined): KeySource {
  if (text === 'auto') {
    const withKey = tpmPresent(device) ? 'tpm2' : 'host';
    say(`--with-key=auto chose ${withKey}`);
    return withKey;
  }
  const withKey = keySources.find((known) => known === text);
  if (!withKey)
    throw new Failure('usage', `--with-key=${text} is not known`, { hint: `one of ${keySources.join(', ')}, auto` });
  return withKey;
}

/**
 * The key that `--creds-key=` names: systemd-creds encrypts to it.
 * @throws Failure `usage`
 */
export function chosenCredsKey(text: string | undefined, withKey: KeySource): CredsKey | undefined {
  if (text === undefined) return undefined;
  if (withKey !== 'systemd-creds')
    throw new Failure('usage', '--creds-key needs systemd-creds', { hint: '--with-key=systemd-creds' });
  const key = credsKeys.find((known) => known === text);
  if (!key) throw new Failure('usage', `--creds-key=${text} is not known`, { hint: `one of ${credsKeys.join(', ')}` });
  return key;
}

/**
 * The name in this host's scope. It is stored, so a machine that gets another hostname keeps its secrets.
 * @throws Failure `usage`
 */
export function hostName(given: string | undefined, paths: Paths): string {
  const name =
    given ??
    new TextDecoder()
      .decode(readIfPresent(paths.hostname) ?? new Uint8Array(0))
      .trim()
      .toLowerCase();
  if (name === '')
    throw new Failure('usage', `${paths.hostname} is missing or empty, so this machine has no name`, {
      hint: '--name=web1',
    });
  if (!scopeNamePattern.test(name))
    throw new Failure('usage', `${name} can't be used as a scope name`, {
      hint: 'lower-case letters, digits and . _ @ + -, as in --name=web1',
    });
  return name;
}

/** @throws Failure `usage` */
export function checkedRecipient(text: string): string {
  if (!recipientPattern.test(text))
    throw new Failure('usage', `${text.slice(0, 12)} is not an age recipient`, {
      hint: 'age1..., as printed by age-keygen',
    });
  return text;
}

/**
 * How the system below another root finds its TPM once it runs, which is not how the installer reaches it.
 * @returns undefined for the running system
 * @throws Failure `usage`
 */
export function installedTpm(root: string, options: Options): SealWishes['installed'] {
  const device = options.value('installed-tpm2-device');
  if (device !== undefined) parseDevice(device);
  if (!systemIsRunning(root)) return { device: device ?? usablePins(pathsUnder(root))?.device };
  if (device === undefined) return undefined;
  throw new Failure('usage', '--installed-tpm2-device is for a system that does not run yet', {
    hint: '--tpm2-device names the TPM of this one; --root=DIR seals for another',
  });
}
