/** Which units can have secrets. */
import { isOtherUnit, isService } from '../system/unit-name.ts';
import type { SecretDeclaration } from './declaration.ts';

/** Units that the broker itself waits for, and why they can't wait for it. */
const beforeTheBroker: Readonly<Record<string, string>> = {
  'systemd-sysusers.service': "it makes the broker's user",
  'systemd-journald.service': 'the broker logs to it',
  'systemd-udevd.service': "it makes the TPM's device node",
  'systemd-udev-trigger.service': "it makes the TPM's device node",
  'systemd-remount-fs.service': "it makes the broker's files readable",
  'systemd-fsck-root.service': "it checks the broker's file system",
  'systemd-fsck@.service': "it checks the broker's file system",
};

/** What makes users. */
const usersUnit = 'systemd-sysusers.service';

/** Those of auxcred itself, which nothing can serve. */
const ownUnits: Readonly<Record<string, string>> = {
  'auxcred.service': 'it is the broker',
  'auxcred-host-secret.service': 'it makes the key that the broker answers with',
  'auxcred-provision.service': 'it provisions the broker',
  'auxcred-files.service': 'it writes the files',
  'auxcred-user-files.service': 'it writes the files',
};

/** Whether a unit starts before anything that auxcred runs could serve it. */
export const isBeforeTheBroker = (unit: string): boolean => Object.hasOwn(beforeTheBroker, unit);

/** Whether a unit is one of auxcred's own, without which no unit gets a secret. */
export const isOwnUnit = (unit: string): boolean => Object.hasOwn(ownUnits, unit);

/** Why a unit can't have secrets that are delivered like this, or undefined. */
export function unitProblem(
  unit: string,
  { delivery, placement }: Pick<SecretDeclaration, 'delivery' | 'placement'>,
): { message: string; hint: string | undefined } | undefined {
  if (!isService(unit)) {
    const hint = isOtherUnit(unit)
      ? 'only services have credentials on every systemd'
      : 'the full name, such as web.service or web@.service';
    return { message: `${JSON.stringify(unit)} is not the name of a service`, hint };
  }
  const own = ownUnits[unit];
  if (own !== undefined) return { message: `${unit} would wait for itself: ${own}`, hint: 'leave it out' };
  const reason = beforeTheBroker[unit];
  if (reason === undefined || delivery === 'credstore' || (placement?.neededFor === 'users' && unit === usersUnit))
    return undefined;
  return {
    message: `${unit} starts before the broker and would wait for ever: ${reason}`,
    hint: unit === usersUnit && placement ? 'needed-for = "users"' : 'delivery = "credstore"',
  };
}
