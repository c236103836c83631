/** What `seal`, `reseal` and `receive` say of seeds that they have sealed. */

import { existsSync } from 'node:fs';
import { hex } from '../bytes.ts';
import { keyId } from '../derive/tree.ts';
import { isBoundLater, type Payload, type Sealing } from '../seeds/payload.ts';
import { type Pins, pinsForConfiguration, pinsPlace, usablePins } from '../seeds/pins.ts';
import { scopeName } from '../seeds/scope.ts';
import { configurationOf, moduleOptions } from '../system/configuration.ts';
import type { Paths } from '../system/paths.ts';
import { print, say, warn } from '../terminal/say.ts';
import { parseSigningKey } from '../tpm2/signing-key.ts';

/** Prints what the configuration is to pin, unless it does. */
export function sayUnconfigured(paths: Paths, pins: Pins): void {
  if (configurationOf(paths) === undefined) return;
  const { file, writer } = pinsPlace(paths);
  const configured = writer === 'configuration' ? usablePins(paths) : undefined;
  if (configured && configured.counter?.index === pins.counter?.index && configured.device === pins.device) return;
  say(
    writer === 'auxcred'
      ? `the pins are in ${file} until the configuration has them, and anyone who can write there can replace them; ` +
          `set ${moduleOptions.pins} to:`
      : `the configuration has to pin the TPM that was chosen now; set ${moduleOptions.pins} to:`,
  );
  print(pinsForConfiguration(pins));
}

/** Says what no longer works on a running system. */
export function sayLocking({ recovery }: Sealing): void {
  say(
    'once the broker starts again, nobody can open the seed until the next boot: a changed manifest, a new period ' +
      'and pushed files become active only at a boot, and hooks do not run',
  );
  say('while it is locked, auxcred audit --verify needs the keys that auxcred audit --key prints now');
  if (recovery.length === 0)
    warn(
      'there is no recovery recipient, so what needs the seed on a running system needs the 24 words or the vault',
      'auxcred reseal --add-recipient=age1...',
    );
}

/** Says what was sealed, to which key, and what it requires of a boot. */
export function saySealed(paths: Paths, { scopes, sealing }: Payload): void {
  const policy = sealedPolicyText(sealing);
  for (const scope of scopes)
    say(
      `sealed the seed of ${scopeName(scope)}${scope.epoch === 1 ? '' : ` (epoch ${String(scope.epoch)})`} to ` +
        `${keyText(paths, sealing)}${policy}; key id ${hex(keyId(scope.seed))}`,
    );
}

function sealedPolicyText(sealing: Sealing): string {
  const { pcrs, pcrsAtFirstBoot, signed, pcrlock, lock } = sealing;
  const signer = signed && parseSigningKey(signed.publicKey, 'the public key of the sealing');
  const authorities = [
    ...(signed && signer ? [`PCR ${signed.pcrs.join('+')} as signed by ${signer.fingerprint.slice(0, 16)}`] : []),
    ...(pcrlock === undefined ? [] : ['what systemd-pcrlock predicted']),
  ];
  const text = (literal: readonly number[]): string =>
    [authorities.join(' or '), ...(literal.length > 0 ? [`PCR ${literal.join('+')}`] : [])]
      .filter((part) => part !== '')
      .join(' and ');
  const locking = lock === undefined ? '' : `; PCR ${String(lock)} locks it until the next boot once the broker has it`;
  if (isBoundLater(sealing))
    return `, without PCRs until the first boot binds ${
      authorities.length > 0 || pcrsAtFirstBoot.length === 0
        ? text(pcrsAtFirstBoot) || 'its lock'
        : pcrsAtFirstBoot.join('+')
    }${locking}`;
  return `${text(pcrs) === '' ? '' : ` with ${text(pcrs)}`}${locking}`;
}

/** The key that a machine is sealed to, in words. */
function keyText({ sshHostKey }: Paths, { withKey, credsKey }: Payload['sealing']): string {
  if (withKey === 'systemd-creds') return `systemd-creds (${credsKey ?? 'auto'})`;
  if (withKey === 'host') return existsSync(sshHostKey) ? 'its ssh host key' : 'a host key of its own';
  return withKey === 'tpm2' ? 'its TPM' : 'its TPM and ssh host key';
}
