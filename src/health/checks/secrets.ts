/** What the manifest asks for, beside what is active. */
import type { Failure } from '../../failure.ts';
import { anyUnit } from '../../manifest/declaration.ts';
import { rewritten } from '../../provision/plan.ts';
import type { ActiveSecrets } from '../active.ts';
import type { Health } from '../health.ts';
import { type Check, type Fault, listed } from './check.ts';
import { auxcred } from './commands.ts';

/** What only the opened seeds tell, if the manifest can be judged by it. */
const judged = ({ opening, declared }: Health): ActiveSecrets | undefined =>
  opening.state === 'opened' && declared.state !== 'invalid' ? opening.active : undefined;

/** Whether the drop-ins are those of the present manifest. */
const isCurrent = ({ declared: { state } }: Health): boolean => state === 'applied' || state === 'rendered';

/** Why the manifest can't be provisioned, unless the check of fixed files says it. */
function refusal(health: Health): Failure | undefined {
  const active = judged(health);
  const isOfFile = active?.fixed.some(({ failure }) => failure.message === active.refused?.message);
  return isOfFile === true ? undefined : active?.refused;
}

const withoutEnd = (message: string): string => message.replace(/, so nothing was changed$/, '');

export const clock: Check = {
  name: 'clock',
  why: 'the clock is wrong, or was; until that is settled nothing can be activated',
  faults: (health) => {
    const refused = refusal(health);
    if (refused?.code !== 'clock') return [];
    return [
      {
        level: 'problem',
        message: withoutEnd(refused.message),
        mend: ['timedatectl', auxcred(health, 'provision', '--accept-clock')],
      },
    ];
  },
};

export const older: Check = {
  name: 'older',
  why: 'somebody may have brought an old value back',
  faults: (health) => {
    const refused = refusal(health);
    if (refused?.code !== 'older') return [];
    return [
      {
        level: 'problem',
        message: withoutEnd(refused.message),
        mend: [auxcred(health, 'provision', '--accept-older')],
      },
    ];
  },
};

export const wanted: Check = {
  name: 'wanted',
  why: "what the manifest asks for can't be activated",
  faults: (health) => {
    const refused = refusal(health);
    if (!refused || refused.code === 'clock' || refused.code === 'older') return [];
    return [{ level: 'problem', message: refused.message, mend: [commandOf(health, refused)] }];
  },
};

/** The command that a hint names for a fixed secret, quoted as it is there. */
function commandOf(health: Health, { hint }: Failure): string {
  const [, verb, word] = /auxcred ([a-z]+) ('(?:[^']|'\\'')*\/(?:[^']|'\\'')*'|\S+\/\S+)/.exec(hint ?? '') ?? [];
  return verb !== undefined && word !== undefined ? `${auxcred(health, verb)} ${word}` : auxcred(health, 'check');
}

export const stale: Check = {
  name: 'stale',
  why: 'its units keep the old value',
  faults: (health) => {
    const active = judged(health);
    if (!active) return [];
    return [...replaced(health, active), ...addedOrRemoved(health, active), ...astray(health, active)];
  },
  well: (health) =>
    judged(health)?.snapshot === 'sound' && isCurrent(health) && !refusal(health)
      ? 'every secret is up to date'
      : undefined,
};

/** Secrets that have another value by now. What only the manifest's new text changes is said of the manifest. */
const replaced = (health: Health, { stale: secrets }: ActiveSecrets): Fault[] =>
  secrets
    .filter(({ why }) => isCurrent(health) || /^(?:period|value)/.test(why))
    .map(({ secret, why, hook }) => ({
      level: 'warning',
      message: `${secret} is out of date: ${why}`,
      ...(hook ? { why: 'its hook failed, or has not run yet' } : {}),
      mend: [auxcred(health, 'provision')],
    }));

/** Credentials that the applied manifest adds or removes. */
function addedOrRemoved(health: Health, { snapshot, changes }: ActiveSecrets): Fault[] {
  const other = changes.filter(({ why }) => why === 'new' || why === 'removed');
  if (other.length === 0 || snapshot !== 'sound' || !isCurrent(health)) return [];
  return [
    {
      level: 'warning',
      message: listed(other.map(({ unit, credential, why }) => `${credential} of ${unit} (${why})`)),
      why: 'the manifest says so, but it is not active',
      mend: [auxcred(health, health.configuration === undefined ? 'apply' : 'provision')],
    },
  ];
}

/** Values that were written for units and are no longer there. */
function astray(health: Health, { changes }: ActiveSecrets): Fault[] {
  const missing = changes.filter(({ why }) => why === rewritten);
  if (missing.length === 0) return [];
  const names = missing.map(({ unit, credential }) => (unit === anyUnit ? credential : `${credential} of ${unit}`));
  return [
    {
      level: 'warning',
      message: `${listed(names)} ${names.length === 1 ? 'is' : 'are'} missing or altered where it is read`,
      why: 'its units do not start, or have another value',
      mend: [auxcred(health, 'provision')],
    },
  ];
}
