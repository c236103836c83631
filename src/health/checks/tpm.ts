/** The TPM that the seed is sealed to, its PCRs and its counter. */

import type { TpmPolicy } from '../../tpm2/policy.ts';
import { changesIn } from '../boot-changes.ts';
import type { Health } from '../health.ts';
import type { PcrDifference, TpmState } from '../tpm-state.ts';
import { type Check, type Fault, listed } from './check.ts';
import { auxcred, reseal } from './commands.ts';

/** The TPM, if the seed is sealed to one and it can be asked at all. */
const sealedTo = ({ tpm: state, seeds, platform }: Health): TpmState | undefined =>
  seeds.object && !platform.libtss2 ? state : undefined;

/** The same, if it is there and answers. */
function answering(health: Health): TpmState | undefined {
  const state = sealedTo(health);
  return state?.present === true && !state.failure ? state : undefined;
}

const clearLockout = 'tpm2_dictionarylockout --clear-lockout';

export const tpm: Check = {
  name: 'tpm',
  why: 'the seed is sealed to it',
  faults: (health) => {
    const state = sealedTo(health);
    if (!state) return [];
    if (!state.present)
      return [
        {
          level: 'problem',
          message: `there is no TPM at ${state.device ?? '/dev/tpmrm0'}`,
          why: 'the seed is sealed to one',
          mend: ['systemctl reboot --firmware-setup', ...reseal(health)],
        },
      ];
    if (state.failure)
      return [
        {
          level: 'problem',
          message: state.failure.message,
          mend: state.failure.code === 'tpm-lockout' ? [clearLockout] : reseal(health),
        },
      ];
    return [...lockoutFault(state), ...otherTpmFault(health, state)];
  },
  well: (health) => {
    const state = answering(health);
    if (!state || [pcrs, counter].some(({ faults }) => faults(health).length > 0)) return undefined;
    return `the TPM (${state.name ?? ''}) is the one that the seed was sealed to, and the machine booted as it did then`;
  },
};

const lockoutFault = ({ lockedOut }: TpmState): Fault[] =>
  lockedOut
    ? [
        {
          level: 'warning',
          message: 'the TPM is in dictionary attack lockout',
          why: "wrong guesses locked it; auxcred's own objects do not count, but the TPM owner's password is not accepted",
          mend: [clearLockout],
        },
      ]
    : [];

const otherTpmFault = (health: Health, { srk }: TpmState): Fault[] =>
  srk === 'other'
    ? [
        {
          level: 'problem',
          message: 'this TPM is not the one that the seed was sealed to, or it was cleared',
          why: "it can't open the seed",
          mend: reseal(health),
        },
      ]
    : [];

export const pcrs: Check = {
  name: 'pcrs',
  why: 'the machine booted differently, so the TPM does not open the seed',
  faults: (health) => {
    const state = answering(health);
    if (!state) return [];
    const isBound = health.isUnbound || bindsAnything(health.seeds.object?.policy);
    return [
      ...state.differences.map(
        (difference): Fault => ({
          level: 'problem',
          message: differenceText(health, difference),
          mend: reseal(health),
        }),
      ),
      ...state.unmeasured.map(
        (pcr): Fault => ({
          level: 'warning',
          message: `PCR ${String(pcr)} is bound, but nothing was ever measured into it`,
          why: 'it has the same value whatever boots',
          mend: [auxcred(health, 'reseal', '--tpm2-pcrs=PCRS')],
        }),
      ),
      ...(isBound ? [] : [unboundFault(health)]),
    ];
  },
};

/** Names the component that changed, or at least the values. */
function differenceText({ boots }: Health, difference: PcrDifference): string {
  const { pcr, sealed, now } = difference;
  const changes = changesIn(boots, difference);
  return changes.length === 0
    ? `PCR ${String(pcr)} is ${now.slice(0, 16)}, and was ${sealed.slice(0, 16)} when the seed was sealed`
    : `PCR ${String(pcr)}: ${listed(changes)}`;
}

const bindsAnything = (policy: TpmPolicy | undefined): boolean =>
  policy === undefined || policy.authority !== undefined || policy.branches.length > 0;

const unboundFault = (health: Health): Fault => ({
  level: 'note',
  message: 'no PCR is bound',
  why: 'anything that boots on this machine can open the seed',
  mend: [auxcred(health, 'reseal', '--tpm2-pcrs=4+7')],
});

export const nextBoot: Check = {
  name: 'next-boot',
  why: 'units that need secrets would not start then',
  faults: (health) => {
    const { entry, unknown, pcrs: then } = health.nextBoot;
    if (unknown !== undefined)
      return [
        {
          level: 'note',
          message: `whether the seed opens at the next boot is not known: ${unknown}`,
          why: 'the seed is sealed to PCRs that another kernel changes',
          mend: [auxcred(health, 'measured', '--predict=ENTRY')],
        },
      ];
    return then.flatMap(({ pcr, sure, why, matches }): Fault[] => {
      if (matches === true && sure) return [];
      if (matches === true)
        return [
          {
            level: 'note',
            message: `PCR ${String(pcr)} of the next boot can't be known: ${why}`,
            why: 'the seed opens only if it stays as it is',
            mend: [auxcred(health, 'measured', '--predict')],
          },
        ];
      const boot = entry === undefined ? 'the next boot' : `the next boot (${entry})`;
      return [
        {
          level: 'warning',
          message:
            `the seed ${sure ? 'will' : 'would'} not open at ${boot}: ` +
            `PCR ${String(pcr)} changes (${sure ? 'sure' : 'not sure'}: ${why})`,
          mend: [auxcred(health, 'reseal', '--predict'), auxcred(health, 'reseal', '--no-tpm2-pcrs')],
        },
      ];
    });
  },
  well: ({ nextBoot: { entry, pcrs: then } }) =>
    then.length > 0
      ? `the next boot${entry === undefined ? '' : ` (${entry})`} has the PCRs that the seed is sealed to`
      : undefined,
};

export const kernels: Check = {
  name: 'kernels',
  why: 'a kernel that was installed since may not open the seed',
  faults: (health) => {
    const { unprepared } = health;
    if (!unprepared) return [];
    const { message, time } = unprepared;
    const when = time === '' ? '' : ` (${time})`;
    return [
      {
        level: 'warning',
        message: `the seed was not prepared for the kernels that are installed${when}: ${message}`,
        mend: [auxcred(health, 'reseal', '--installed')],
      },
    ];
  },
};

export const counter: Check = {
  name: 'counter',
  why: 'if somebody brings back an older store as a whole, nothing notices',
  faults: (health) => {
    const { pins } = health.seeds;
    if (!answering(health) || typeof pins === 'string' || pins.counter) return [];
    return [
      {
        level: 'note',
        message: 'no TPM counter remembers what is active',
        mend: [auxcred(health, 'reseal')],
      },
    ];
  },
};
