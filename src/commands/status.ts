import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { utf8 } from '../bytes.ts';
import { countsOf, examine, finish } from '../cli/chosen-health.ts';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import { activityOn } from '../health/activity.ts';
import { sockets, unitOf } from '../health/broker-state.ts';
import { findingsOf } from '../health/checks.ts';
import { expositionOf } from '../health/exposition.ts';
import { type Finding, isWell } from '../health/finding.ts';
import type { Health } from '../health/health.ts';
import { metricsOf } from '../health/metrics.ts';
import type { UnitState } from '../health/unit-state.ts';
import { branchId } from '../seeds/branch-labels.ts';
import { policiesText } from '../seeds/policies.ts';
import { replaceFile } from '../system/files.ts';
import { printable } from '../system/printable.ts';
import { colored, counted, print, printBytes, printJson } from '../terminal/say.ts';
import { literalPcrs, type TpmPolicy } from '../tpm2/policy.ts';
import { indexText } from '../tpm2/wire.ts';

/** `auxcred status`: shows at a glance whether units get their secrets, and what is active. */
export async function status(argv: readonly string[]): Promise<number> {
  const options = new Options('status', argv);
  options.exactly();
  const output = metricsFile(options);
  const health = await examine(options, !options.flag('no-open'));
  const findings = findingsOf(health);
  if (options.flag('prometheus')) return showMetrics(health, findings, output);
  if (options.flag('json'))
    printJson({ ...jsonOf(health), well: isWell(findings), findings: findings.filter(({ level }) => level !== 'ok') });
  else {
    for (const [topic, lines] of [
      ['seed', seedLines(health)],
      ['active', activeLines(health)],
      ['units', unitLines(health)],
      ['broker', brokerLines(health)],
      ['rotation', rotationLines(health)],
      ['tpm', tpmLines(health)],
    ] as const) {
      lines.forEach((line, i) => {
        print(`${colored((i === 0 ? topic : '').padEnd(10), 'bold')}${line}`);
      });
    }
    print(verdictOf(health, findings));
  }
  return finish(health, findings);
}

/** Where metrics go; undefined for standard output. @throws Failure `usage`, `not-found` */
function metricsFile(options: Options): string | undefined {
  const output = options.value('output');
  if (options.flag('prometheus') && options.flag('json'))
    throw new Failure('usage', '--prometheus and --json exclude each other', { hint: 'leave out one of them' });
  if (output === undefined) return undefined;
  if (!options.flag('prometheus'))
    throw new Failure('usage', '--output needs --prometheus', {
      hint: `auxcred status --prometheus --output=${output}`,
    });
  if (statSync(dirname(output), { throwIfNoEntry: false })?.isDirectory() !== true)
    throw new Failure('not-found', `there is no folder ${dirname(output)}`, {
      hint: "the folder that node_exporter's --collector.textfile.directory names",
    });
  return output;
}

/**
 * Writes the metrics. node_exporter, which is not root, always finds a complete file.
 * @returns 0 whatever they say, so that the unit that calls this fails only if there are none
 */
function showMetrics(health: Health, findings: readonly Finding[], output: string | undefined): number {
  const activity = activityOn(health.paths, health.isRunning && process.geteuid?.() === 0);
  const text = utf8(expositionOf(metricsOf(health, findings, activity)));
  if (output === undefined) printBytes(text);
  else replaceFile(output, text, { mode: 0o644 });
  return finish(health, []);
}

/** The last line. */
function verdictOf({ hidden }: Health, findings: readonly Finding[]): string {
  if (!isWell(findings))
    return (
      `${colored(countsOf(findings), findings.some(({ level }) => level === 'problem') ? 'red' : 'yellow')}: ` +
      'auxcred doctor says what to do'
    );
  return hidden.length > 0
    ? 'nothing is wrong as far as this user can see: sudo auxcred status'
    : colored('all is well', 'green');
}

const minutes = (time: Date): string => `${time.toISOString().slice(0, 16).replace('T', ' ')}Z`;

/** The PCRs that the seed is bound to, read from the file without opening it. */
const boundPcrs = ({ seeds }: Health): number[] => (seeds.object ? literalPcrs(seeds.object.policy) : []);

/** The boot entries that the literal branches were made for, as far as they are known. */
const namedBranches = ({ seeds, labels }: Health): string[] =>
  (seeds.object?.policy.branches ?? []).flatMap((values) => labels.get(branchId(values))?.entry ?? []);

function seedLines(health: Health): string[] {
  const { seeds, opening, isUnbound, withKey, recovery } = health;
  if (seeds.state !== 'there')
    return [
      {
        missing: 'not sealed',
        hidden: 'not readable by this user',
        damaged: seeds.isLater ? 'written by a later version of auxcred' : 'damaged',
      }[seeds.state],
    ];
  const isAuthorityLater = opening.state === 'opened' && opening.sealing.authorityAtFirstBoot === true;
  const later = opening.state === 'opened' ? opening.sealing.pcrsAtFirstBoot : [];
  const waiting =
    later.length > 0
      ? `PCRs ${later.join('+')} will be bound`
      : isAuthorityLater
        ? 'its policy will be bound'
        : 'will be sealed natively';
  const bound = policiesText(seeds.policies);
  const policy = isUnbound ? `, ${waiting} at the first boot` : bound === '' ? '' : ` with ${bound}`;
  const opens = { opened: '', failed: '; does not open', untried: '; not opened' }[opening.state];
  const lines = [`sealed to ${withKey ?? ''}${policy}, ${counted(recovery, 'recovery recipient')}${opens}`];
  const entries = namedBranches(health);
  if (entries.length > 0) lines.push(`opens at the boot of ${entries.map((entry) => printable(entry, 80)).join(', ')}`);
  if (opening.state === 'opened') {
    const scopes = opening.scopes.map(({ scope, epoch }) =>
      epoch === 1 ? scope : `${scope} (epoch ${String(epoch)})`,
    );
    lines.push(`opens with ${opening.openedBy} in ${String(opening.milliseconds)} ms: ${scopes.join(', ')}`);
  }
  if (opening.state === 'failed') lines.push(opening.failure.message);
  return lines;
}

function activeLines({ opening, declared, seeds }: Health): string[] {
  const manifest = {
    invalid: 'the manifest has errors: auxcred check',
    never: 'the manifest was never applied',
    changed: 'the manifest was changed since then: auxcred apply',
    upgraded: 'an older version applied the manifest: auxcred apply',
    applied: 'manifest and drop-ins as applied',
    rendered: 'the configuration renders manifest and drop-ins',
  }[declared.state];
  if (opening.state !== 'opened')
    return [`unknown while ${seeds.state === 'missing' ? 'no seed is sealed' : 'the seed is closed'}; ${manifest}`];
  const { snapshot, since, credentials, units } = opening.active;
  if (snapshot !== 'sound') return [`${snapshot === 'none' ? 'nothing' : 'nothing made with this seed'}; ${manifest}`];
  const start = since === undefined ? 'now' : minutes(new Date(since));
  return [`since ${start}: ${counted(credentials, 'credential')} for ${counted(units, 'unit')}; ${manifest}`];
}

const countStates = (units: readonly UnitState[]): string[] =>
  (
    [
      ['runs', 'runs', 'run'],
      ['waits', 'waits', 'wait'],
      ['failed', 'failed', 'failed'],
      ['stopped', 'is stopped', 'are stopped'],
      ['unknown', 'is unknown', 'are unknown'],
    ] as const
  ).flatMap(([state, one, several]) => {
    const { length } = units.filter((unit) => unit.state === state);
    return length === 0 ? [] : [`${String(length)} ${length === 1 ? one : several}`];
  });

function unitLines({ system, declared }: Health): string[] {
  if (!system)
    return [`${counted(new Set(declared.manifest.declarations.flatMap(({ units }) => units)).size, 'unit')} declared`];
  const lacking = system.units.filter(({ lacksSecret }) => lacksSecret).map(({ unit }) => unit);
  const waiting = system.units.filter(({ state }) => state === 'waits').map(({ unit }) => unit);
  return [
    countStates(system.units).join(', ') || 'none',
    ...(waiting.length === 0 ? [] : [`waiting: ${waiting.join(', ')}`]),
    ...system.units.flatMap(({ unit, failure, lacksSecret }) =>
      failure === undefined || lacksSecret ? [] : [colored(`${unit} ${failure}`, 'red')],
    ),
    ...(lacking.length === 0 ? [] : [colored(`failed because a secret was missing: ${lacking.join(', ')}`, 'red')]),
  ];
}

function brokerLines({ system }: Health): string[] {
  if (!system) return [];
  const { broker } = system;
  const listening = sockets.map(
    (name) =>
      `${name} ` +
      `${unitOf(broker, name)?.active === 'active' ? 'listens' : `is ${unitOf(broker, name)?.active ?? 'missing'}`}`,
  );
  const { lastRefusal } = broker;
  const state = unitOf(broker, 'auxcred.service')?.active;
  const doing = state === 'active' ? 'runs' : state === 'failed' ? 'failed' : 'is idle';
  return [
    `${listening.join(', ')}; the broker ${doing}`,
    ...(lastRefusal
      ? [
          `last refused ${minutes(lastRefusal.at)}: ` +
            `${lastRefusal.credential || 'a connection'}${lastRefusal.unit === '' ? '' : ` for ${lastRefusal.unit}`}: ` +
            `${lastRefusal.reason}`,
        ]
      : []),
  ];
}

function rotationLines({ declared, opening }: Health): string[] {
  const { next } = declared;
  const stale = opening.state === 'opened' ? opening.active.stale : [];
  const few = next?.secrets.slice(0, 5) ?? [];
  const more = (next?.secrets.length ?? 0) - few.length;
  return [
    next
      ? `next ${minutes(next.at)}: ${few.join(', ')}${more > 0 ? ` and ${String(more)} more` : ''}`
      : 'no secret rotates',
    ...stale.map(({ secret, why, hook }) => `stale: ${secret} (${why})${hook ? ', its hook has yet to succeed' : ''}`),
  ];
}

function tpmLines({ tpm, seeds }: Health): string[] {
  if (!tpm || (!tpm.present && !seeds.object)) return [];
  if (!tpm.present) return ['none'];
  if (tpm.failure) return [tpm.failure.message];
  return [
    [
      tpm.name ?? '',
      ...(tpm.device === undefined || !seeds.object ? [] : [`at ${tpm.device}`]),
      ...(tpm.lockedOut ? ['locked out'] : []),
      ...(tpm.srk === undefined
        ? []
        : [tpm.srk === 'same' ? 'the one that the seed is sealed to' : 'not the one that the seed is sealed to']),
    ].join(', '),
  ];
}

/** A policy as `status --json` shows it. */
const policyJson = (policy: TpmPolicy): unknown => ({
  kind: policy.authority?.kind ?? 'literal',
  pcrs: policy.authority?.pcrs ?? literalPcrs(policy),
  key: policy.authority?.kind === 'signed' ? policy.authority.key.fingerprint : undefined,
  nvIndex: policy.authority?.kind === 'pcrlock' ? indexText(policy.authority.index) : undefined,
  lock: policy.lock,
  branches: policy.branches.map((values) =>
    Object.fromEntries([...values].map(([pcr, value]) => [String(pcr), Buffer.from(value).toString('hex')])),
  ),
});

/** docs/formats.md lists every key. */
function jsonOf(health: Health): Record<string, unknown> {
  const { seeds, opening, declared, system, tpm, isUnbound, hidden } = health;
  const open = opening.state === 'opened' ? opening : undefined;
  return {
    seed: {
      state: seeds.state,
      withKey: health.withKey,
      pcrs: boundPcrs(health),
      policies: seeds.policies.map(policyJson),
      entries: namedBranches(health),
      unbound: isUnbound,
      device: typeof seeds.pins === 'string' ? undefined : seeds.pins.device,
      recovery: health.recovery,
      opens: opening.state === 'untried' ? undefined : opening.state === 'opened',
      openedBy: open?.openedBy,
      milliseconds: opening.state === 'untried' ? undefined : opening.milliseconds,
      failure:
        opening.state === 'failed' ? { code: opening.failure.code, message: opening.failure.message } : undefined,
      scopes: open?.scopes ?? [],
    },
    active: open && {
      snapshot: open.active.snapshot,
      since: open.active.since,
      credentials: open.active.credentials,
      units: open.active.units,
      changes: open.active.changes,
    },
    manifest: { state: declared.state, secrets: declared.manifest.declarations.length, dropIns: declared.dropIns },
    units: system?.units,
    broker: system?.broker,
    rotation: {
      next: declared.next?.at.toISOString(),
      secrets: declared.next?.secrets ?? [],
      stale: open?.active.stale,
    },
    tpm: tpm && {
      device: tpm.device,
      present: tpm.present,
      name: tpm.name,
      lockedOut: tpm.lockedOut,
      srk: tpm.srk,
      pcrs: tpm.differences,
    },
    hidden,
  };
}
