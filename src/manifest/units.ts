/** Which units can have secrets. */
import type { SecretDeclaration } from './declaration.ts';

/** A service or a service template: the characters of systemd.unit(5), at most 255 bytes. */
const servicePattern = /^[A-Za-z0-9:_.\\@-]{1,247}\.service$/;

/** Units that the broker itself waits for, and why they can't wait for it. */
const beforeTheBroker: Readonly<Record<string, string>> = {
  'systemd-sysusers.service': 'it makes the broker\'s user',
  'systemd-journald.service': 'the broker logs to it',
  'systemd-udevd.service': 'it makes the TPM\'s device node',
  'systemd-udev-trigger.service': 'it makes the TPM\'s device node',
  'systemd-remount-fs.service': 'it makes the broker\'s files readable',
  'systemd-fsck-root.service': 'it checks the broker\'s file system',
  'systemd-fsck@.service': 'it checks the broker\'s file system',
};

/** What makes users. */
const usersUnit = 'systemd-sysusers.service';

/** Those of auxcred itself, which nothing can serve. */
const ownUnits: Readonly<Record<string, string>> = {
  'auxcred.service': 'it is the broker',
  'auxcred-provision.service': 'it provisions the broker',
  'auxcred-files.service': 'it writes the files',
  'auxcred-user-files.service': 'it writes the files',
};

/** Whether a unit starts before anything that auxcred runs could serve it. */
export const isBeforeTheBroker = (unit: string): boolean => Object.hasOwn(beforeTheBroker, unit);

/** Whether a unit is one of auxcred's own, without which no unit gets a secret. */
export const isOwnUnit = (unit: string): boolean => Object.hasOwn(ownUnits, unit);

/** Why a unit can't have secrets that are delivered like this, or undefined. */
export function unitProblem(unit: string, { delivery, placement }: Pick<SecretDeclaration, 'delivery' | 'placement'>): { message: string; hint: string | undefined } | undefined {
  if (!servicePattern.test(unit) || unit.startsWith('@')) {
    const hint = /\.(?:socket|mount|swap|target|timer|path|slice|scope|device|automount)$/.test(unit) ? 'only services have credentials on every systemd' : 'the full name, such as web.service or web@.service';
    return { message: `${JSON.stringify(unit)} is not the name of a service`, hint };
  }
  const own = ownUnits[unit];
  if (own !== undefined) return { message: `${unit} would wait for itself: ${own}`, hint: 'leave it out' };
  const reason = beforeTheBroker[unit];
  if (reason === undefined || delivery === 'credstore' || (placement?.neededFor === 'users' && unit === usersUnit)) return undefined;
  return { message: `${unit} starts before the broker and would wait for ever: ${reason}`, hint: unit === usersUnit && placement ? 'needed-for = "users"' : 'delivery = "credstore"' };
}

/**
 * The room that systemd leaves for a unit's name and a credential's id together: sun_path has 108 bytes, of which a NUL at both
 * ends, 16 hexadecimal digits and `/unit//` are taken (unix(7); systemd src/core/exec-credential.c).
 */
export const socketNameRoom = 83;
