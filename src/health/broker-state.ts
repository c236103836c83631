/** auxcred's own units, and the broker's last entries in this boot's journal. */
import { brokerMatches, messageIds } from '../broker/journal-record.ts';
import { journalEntries } from '../system/journal-entries.ts';
import { unitProperties } from '../system/systemctl.ts';

/** One of auxcred's own units, according to systemd. */
export interface OwnUnit {
  readonly unit: string;
  readonly installed: boolean;
  readonly masked: boolean;
  readonly enabled: boolean;
  readonly active: string;
  /** `success`, or why it failed: `service-start-limit-hit`. */
  readonly result: string;
}

/** A refusal that the broker recorded. */
export interface Refusal {
  /** UTC. */
  readonly at: Date;
  readonly unit: string;
  readonly credential: string;
  readonly reason: string;
}

/** The broker and the units around it. */
export interface BrokerState {
  readonly units: readonly OwnUnit[];
  readonly lastRefusal: Refusal | undefined;
}

/** The sockets that units connect to: systemd for a credential, `auxcred stage` for staged ones. */
export const sockets = ['auxcred.socket', 'auxcred-stage.socket'] as const;
/** The services that write secrets with `delivery = "file"` at boot. */
export const fileWriters = ['auxcred-user-files.service', 'auxcred-files.service'] as const;
const own = [
  ...sockets,
  'auxcred.service',
  'auxcred-rotate.timer',
  'auxcred-rotate.service',
  'auxcred-bind.service',
  ...fileWriters,
];

/**
 * The state of auxcred's own units, and the last refusal since the boot.
 * @throws Failure `system` if systemctl fails
 */
export function brokerState(): BrokerState {
  const units = unitProperties(own, ['LoadState', 'ActiveState', 'Result', 'UnitFileState']).map(
    ({ unit, values }): OwnUnit => ({
      unit,
      installed: values.get('LoadState') === 'loaded',
      masked: values.get('LoadState') === 'masked',
      enabled: values.get('UnitFileState') === 'enabled',
      active: values.get('ActiveState') ?? '',
      result: values.get('Result') ?? '',
    }),
  );
  const refusals = [`MESSAGE_ID=${messageIds.refused}`, ...brokerMatches('/')];
  const [entry] = journalEntries('--boot', '--lines=1', ...refusals);
  return {
    units,
    lastRefusal: entry && {
      at: entry.at,
      unit: entry.field('AUXCRED_UNIT'),
      credential: entry.field('AUXCRED_CREDENTIAL'),
      reason: entry.field('AUXCRED_REASON'),
    },
  };
}

/** One of auxcred's own units, by its name. */
export const unitOf = ({ units }: BrokerState, name: string): OwnUnit | undefined =>
  units.find(({ unit }) => unit === name);
