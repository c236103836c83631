/** auxcred's own units. */

import type { WaysOut } from '../../system/ways-out.ts';
import { fileWriters, type OwnUnit, sockets as socketNames, unitOf } from '../broker-state.ts';
import type { Health } from '../health.ts';
import { type Check, type Fault, listed } from './check.ts';
import { auxcred } from './commands.ts';

const ownUnit = ({ system }: Health, name: string): OwnUnit | undefined => system && unitOf(system.broker, name);

export const sockets: Check = {
  name: 'sockets',
  why: 'units ask there for their secrets',
  // No socket listens for a masked broker, so only its own finding has a command that works.
  faults: (health) =>
    health.system && ownUnit(health, 'auxcred.service')?.masked !== true
      ? socketNames.flatMap((name) => socketFaults(name, ownUnit(health, name), health))
      : [],
  well: (health) =>
    !health.system || [broker, timer, files].some(({ faults }) => faults(health).length > 0)
      ? undefined
      : 'the sockets listen, and the timer runs',
};

function socketFaults(name: string, unit: OwnUnit | undefined, { configuration, ways }: Health): Fault[] {
  const fault = closedSocket(name, unit, ways);
  if (unit?.installed !== true || unit.enabled || configuration !== undefined) return fault ? [fault] : [];
  const disabled: Fault = {
    level: 'warning',
    message: `${name} is not enabled`,
    why: 'after a boot it listens only when a unit needs it',
    mend: [`systemctl enable ${name}`],
  };
  return fault ? [fault, disabled] : [disabled];
}

/** Of a unit that systemd does not start, whatever asks for it. */
const maskedFault = (level: Fault['level'], name: string, thenStart: string): Fault => ({
  level,
  message: `${name} is masked`,
  mend: [`systemctl unmask ${name} && ${thenStart}`],
});

/** Undefined if it listens. */
function closedSocket(name: string, unit: OwnUnit | undefined, ways: WaysOut): Fault | undefined {
  const level = 'problem';
  if (unit?.masked === true) return maskedFault(level, name, ways.enable(name));
  if (unit?.installed !== true) return { level, message: `${name} is not installed`, mend: [ways.install('auxcred')] };
  if (unit.active === 'failed')
    return {
      level,
      message: `${name} failed (${unit.result})`,
      why: 'units that ask there are refused until it listens again',
      mend: [`systemctl reset-failed auxcred.service ${name} && systemctl start ${name}`],
    };
  if (unit.active !== 'active') return { level, message: `${name} does not listen`, mend: [`systemctl start ${name}`] };
  return undefined;
}

export const broker: Check = {
  name: 'broker',
  why: 'it could not open the seeds or read the active snapshot when a unit last asked',
  faults: (health) => {
    const service = ownUnit(health, 'auxcred.service');
    if (service?.masked === true)
      return [
        {
          ...maskedFault(
            'problem',
            'auxcred.service',
            `systemctl reset-failed ${socketNames.join(' ')} && systemctl start ${socketNames.join(' ')}`,
          ),
          why: 'it answers the units that ask for their secrets',
        },
      ];
    if (service?.active !== 'failed') return [];
    return [
      {
        level: 'problem',
        message: `auxcred.service failed (${service.result})`,
        mend: ['journalctl -b -u auxcred.service -p err', 'systemctl reset-failed auxcred.service'],
      },
    ];
  },
};

export const brokerAccess: Check = {
  name: 'broker-access',
  why: 'units get no secrets, although the seed opens for root',
  faults: (health) =>
    health.brokerLacks.length === 0
      ? []
      : [
          {
            level: 'problem',
            message: `auxcred.service may not open the seed: it lacks ${listed(health.brokerLacks)}`,
            mend: [auxcred(health, 'apply')],
          },
        ],
};

export const timer: Check = {
  name: 'timer',
  why: 'rotating secrets keep their values until auxcred provision runs',
  faults: (health) => {
    const unit = ownUnit(health, 'auxcred-rotate.timer');
    const stands =
      unit?.installed === true && ((!unit.enabled && health.configuration === undefined) || unit.active !== 'active');
    const service = ownUnit(health, 'auxcred-rotate.service');
    const faults: Fault[] = [];
    if (unit?.masked === true)
      faults.push(maskedFault('warning', 'auxcred-rotate.timer', health.ways.enable('auxcred-rotate.timer')));
    if (stands)
      faults.push({
        level: 'warning',
        message: 'auxcred-rotate.timer does not run',
        mend: [health.ways.enable('auxcred-rotate.timer')],
      });
    if (service?.active === 'failed')
      faults.push({
        level: 'warning',
        message: `auxcred-rotate.service failed (${service.result})`,
        why: 'the secrets of a new period are not active',
        mend: ['journalctl -b -u auxcred-rotate.service', 'auxcred provision'],
      });
    return faults;
  },
};

export const files: Check = {
  name: 'files',
  why: 'units whose secrets are files do not start without it',
  faults: (health) =>
    fileWriters.flatMap((name): Fault[] => {
      const unit = ownUnit(health, name);
      if (unit?.masked === true) return [maskedFault('problem', name, `systemctl restart ${name}`)];
      if (unit?.active !== 'failed') return [];
      return [
        {
          level: 'problem',
          message: `${name} failed`,
          mend: [`journalctl -b -u ${name}`, `systemctl restart ${name}`],
        },
      ];
    }),
};
