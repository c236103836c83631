/** A machine's health as metrics: `status --prometheus`. docs/formats.md lists them. */
import { version } from '../version.ts';
import type { Activity } from './activity.ts';
import type { Metric, Sample } from './exposition.ts';
import type { Finding } from './finding.ts';
import type { Health } from './health.ts';

/** What is unknown has no sample. */
export const metricsOf = (health: Health, findings: readonly Finding[], activity: Activity): Metric[] => [
  gauge('auxcred_build_info', 'The version of auxcred, as a label.', [{ labels: { version }, value: 1 }]),
  ...seedMetrics(health),
  ...secretMetrics(health),
  ...unitMetrics(health),
  ...activityMetrics(activity),
  gauge(
    'auxcred_findings',
    'What auxcred doctor finds, by level.',
    (['problem', 'warning', 'note'] as const).map((level) => ({
      labels: { level },
      value: findings.filter((finding) => finding.level === level).length,
    })),
  ),
];

const gauge = (name: string, help: string, samples: readonly Sample[]): Metric => ({
  name,
  help,
  type: 'gauge',
  samples,
});

/** One sample, or none if the value is unknown. */
const sample = (value: number | boolean | undefined): Sample[] =>
  value === undefined ? [] : [{ value: Number(value) }];

const seconds = (time: Date | undefined): Sample[] => sample(time && time.getTime() / 1000);

function seedMetrics(health: Health): Metric[] {
  const { seeds, opening } = health;
  return [
    gauge(
      'auxcred_seed_sealed',
      'Whether a seed is sealed on this machine.',
      sample(seeds.state === 'hidden' ? undefined : seeds.state === 'there'),
    ),
    gauge(
      'auxcred_seed_opens',
      'Whether the seed opened just now.',
      sample(opening.state === 'untried' ? undefined : opening.state === 'opened'),
    ),
    gauge(
      'auxcred_seed_open_seconds',
      'How long opening the seed took.',
      sample(opening.state === 'untried' ? undefined : opening.milliseconds / 1000),
    ),
    gauge('auxcred_tpm_reachable', 'Whether the TPM answers.', sample(reachesTpm(health))),
    gauge(
      'auxcred_tpm_locked_out',
      'Whether the TPM refuses for a while, after too many wrong authorizations.',
      sample(health.tpm?.present === true && !health.tpm.failure ? health.tpm.lockedOut : undefined),
    ),
  ];
}

/** Undefined if it was not asked, or if there is none and none is needed. */
function reachesTpm({ tpm, seeds, hangs }: Health): boolean | undefined {
  if (hangs) return false;
  if (!tpm || (!tpm.present && !seeds.object)) return undefined;
  return tpm.present && !tpm.failure;
}

function secretMetrics({ declared, opening, now }: Health): Metric[] {
  const next = declared.next?.at;
  const active = opening.state === 'opened' ? opening.active : undefined;
  return [
    gauge('auxcred_secrets', 'Secrets that the manifest declares.', sample(declared.manifest.declarations.length)),
    gauge('auxcred_manifest_errors', 'Errors in the manifest.', sample(declared.errors + declared.refusals.length)),
    gauge('auxcred_credentials', 'Credentials in the active snapshot.', sample(active?.credentials)),
    gauge(
      'auxcred_next_rotation_seconds',
      'Seconds until a secret rotates next, when this was written.',
      sample(next && Math.max(0, (next.getTime() - now.getTime()) / 1000)),
    ),
    gauge('auxcred_next_rotation_timestamp_seconds', 'When a secret rotates next.', seconds(next)),
    gauge(
      'auxcred_stale_secrets',
      'Secrets whose active value is not the one that they should have by now.',
      sample(active?.stale.length),
    ),
  ];
}

function unitMetrics({ declared, opening, system }: Health): Metric[] {
  const active = opening.state === 'opened' ? opening.active : undefined;
  const old = new Set(active?.stale.map(({ secret }) => secret));
  const stale =
    active &&
    new Set([
      ...active.pending,
      ...declared.manifest.declarations.filter(({ name }) => old.has(name)).flatMap(({ units }) => units),
    ]);
  const states = ['runs', 'waits', 'failed', 'stopped', 'unknown'] as const;
  return [
    gauge('auxcred_stale_units', 'Units with a stale secret, or not yet restarted for a new one.', sample(stale?.size)),
    gauge(
      'auxcred_units',
      'Units that get secrets, by state.',
      system === undefined
        ? []
        : states.map((state) => ({
            labels: { state },
            value: system.units.filter((unit) => unit.state === state).length,
          })),
    ),
    gauge(
      'auxcred_units_lacking_secret',
      'Units that failed because a secret was missing.',
      sample(system?.units.filter(({ lacksSecret }) => lacksSecret).length),
    ),
    gauge(
      'auxcred_own_unit_failed',
      "Whether one of auxcred's own units failed.",
      system === undefined
        ? []
        : system.broker.units
            .filter(({ installed }) => installed)
            .map(({ unit, active: state }) => ({ labels: { unit }, value: Number(state === 'failed') })),
    ),
  ];
}

const activityMetrics = ({ outcomes, lastPush, lastProvision }: Activity): Metric[] => [
  {
    name: 'auxcred_releases_total',
    help: 'Credentials released since the boot.',
    type: 'counter',
    samples: sample(outcomes?.released),
  },
  {
    name: 'auxcred_refusals_total',
    help: 'Requests refused since the boot.',
    type: 'counter',
    samples: sample(outcomes?.refused),
  },
  gauge('auxcred_last_provision_timestamp_seconds', 'When the active snapshot was made.', seconds(lastProvision)),
  gauge('auxcred_last_push_timestamp_seconds', 'When a push last changed something here.', seconds(lastPush)),
];
