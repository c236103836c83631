/** What is wrong, why it matters, and what mends it: one function for each thing that is looked at. */
import { join } from 'node:path';
import type { Failure, FailureCode } from '../failure.ts';
import { commandLine } from '../system/shell.ts';
import { fileWriters, sockets, unitOf } from './broker-state.ts';
import { type Finding, fine, found } from './finding.ts';
import { type Health, hadTpm } from './health.ts';
import type { ActiveSecrets } from './in-force.ts';
import type { FileFault } from './store-files.ts';
import type { UnitState } from './unit-state.ts';

type Check = (health: Health) => Finding[];

/** Every finding, in the order in which a secret flows: what nothing can work without comes first. */
export const findingsOf = (health: Health): Finding[] => checks.flatMap((check) => check(health));

/** A call of auxcred for the system that was looked at. */
const call = ({ root }: Health, verb: string, ...more: readonly string[]): string =>
  commandLine('auxcred', verb, ...(root === '/' ? [] : [`--root=${root}`]), ...more);

const list = (items: readonly string[], most = 6): string =>
  items.length <= most
    ? items.join(', ')
    : `${items.slice(0, most).join(', ')} and ${String(items.length - most)} more`;

const runtime: Check = ({ platform }) => {
  if (platform.nodeIsTooOld)
    return [
      found(
        'node',
        'problem',
        `Node ${platform.node} is too old`,
        'auxcred is made for 20.19 and later',
        'apt install nodejs',
      ),
    ];
  if (platform.koffi)
    return [
      found(
        'node',
        'problem',
        platform.koffi.message,
        "locks, sockets and the TPM are reached through it, so the broker can't start",
        'apt install --reinstall auxcred',
      ),
    ];
  return [fine('node', `Node ${platform.node}`)];
};

const library: Check = ({ platform, seeds }) => {
  if (!platform.libtss2) return [fine('libtss2', 'the TPM library is there')];
  const isNeeded = seeds.object !== undefined;
  return [
    found(
      'libtss2',
      isNeeded ? 'problem' : 'note',
      'the TPM library libtss2 is not installed',
      isNeeded
        ? "the seed is sealed to the TPM and can't be opened without it"
        : "without it a seed can't be sealed to a TPM",
      'apt install libtss2-esys-3.0.2-0 libtss2-tctildr0',
    ),
  ];
};

const account: Check = ({ files, root }) => {
  const missing = files.group === undefined ? 'group' : files.hasUser ? undefined : 'user';
  if (missing === undefined) return [fine('account', 'the user and the group auxcred are there')];
  return [
    found(
      'account',
      'problem',
      `there is no ${missing} auxcred`,
      'the broker runs as that user, and reads the store by that group',
      commandLine('systemd-sysusers', ...(root === '/' ? [] : [`--root=${root}`]), 'auxcred.conf'),
    ),
  ];
};

const access: Check = ({ files, seeds }) => {
  const byRule = new Map<string, FileFault[]>();
  for (const fault of files.faults) byRule.set(fault.should, [...(byRule.get(fault.should) ?? []), fault]);
  const findings = [...byRule].map(([should, faults]) => {
    const paths = faults.map(({ path }) => path);
    const [{ is, owner, mode }] = [faults[0] ?? { is: '', owner: '', mode: '' }];
    return found(
      'access',
      'problem',
      `${list(paths)} ${faults.length === 1 ? `is ${is}` : 'are'}, not ${should}`,
      "others could read or replace it, or the broker can't read it",
      `${commandLine('chown', owner, ...paths)} && ${commandLine('chmod', mode, ...paths)}`,
    );
  });
  return findings.length > 0 || seeds.state === 'missing'
    ? findings
    : [fine('access', 'owners and permissions are as they should be')];
};

const leftovers: Check = ({ files: { leftovers: paths } }) =>
  paths.length === 0
    ? []
    : [
        found(
          'leftovers',
          'warning',
          `${list(paths)} ${paths.length === 1 ? 'was' : 'were'} being written when auxcred ended`,
          'it is never read, and may hold what was to be replaced',
          commandLine('rm', ...paths),
        ),
      ];

/** Ways to open the seeds again where this machine can't: those that it has, the nearest first. */
function recovered(health: Health): string[] {
  const { recovery: recipients, isFromVault } = health;
  // Sealed to it as before they would not open here.
  const key = isTpmGone(health) ? ['--with-key=host'] : [];
  return [
    ...(recipients > 0 ? [call(health, 'reseal', ...key, '--identity=RECOVERY-KEY')] : []),
    ...(isFromVault ? [] : [call(health, 'reseal', ...key, '--seed-file=FILE-WITH-THE-WORDS')]),
    call(health, 'reseal', ...key, '--scopes=FILE-FROM-THE-VAULT'),
  ];
}

/** Whether the seed is sealed to a TPM, and this machine has none. */
const isTpmGone = ({ seeds, tpm: state, opening: { state: opened, ...rest } }: Health): boolean =>
  seeds.object !== undefined &&
  (state?.present === false ||
    state?.failure?.code === 'no-tpm' ||
    (opened === 'failed' && 'failure' in rest && rest.failure.code === 'no-tpm'));

/** From the operator's side, where the vault is. */
const pushing = ({ host }: Health): string =>
  `${commandLine('auxcred', 'push', host ?? 'HOST')}    # where the vault is`;

/** Where seeds.age is gone: a recovery key opens nothing but a backup of it, and only the snapshot knows how the seeds were sealed. */
function waysBack(health: Health): string[] {
  const { paths, isFromVault, seeds, tpm: state } = health;
  const hasTpm = state?.present === true && state.failure?.code !== 'no-tpm';
  const elsewhere = hadTpm(seeds) && !hasTpm ? ['--with-key=host'] : [];
  const unsaid = seeds.lost?.snapshot === true ? [] : [`--with-key=${hadTpm(seeds) ? 'tpm2' : 'host'}`];
  const key = elsewhere.length > 0 ? elsewhere : unsaid;
  const restored = commandLine('cp', 'BACKUP', paths.seeds);
  return [
    restored,
    ...(isFromVault ? [] : [call(health, 'reseal', '--seed-file=FILE-WITH-THE-WORDS', ...key)]),
    call(health, 'reseal', '--scopes=FILE-FROM-THE-VAULT', ...key),
    `${restored} && ${call(health, 'reseal', '--identity=RECOVERY-KEY', ...elsewhere)}`,
    pushing(health),
  ];
}

/** What a recovery key can't mend. */
const replacing = (health: Health): string[] => [
  commandLine('cp', 'BACKUP', health.paths.seeds),
  ...(health.isFromVault ? [] : [call(health, 'reseal', '--seed-file=FILE-WITH-THE-WORDS')]),
  call(health, 'reseal', '--scopes=FILE-FROM-THE-VAULT'),
];

const seed: Check = (health) => {
  const { seeds } = health;
  switch (seeds.state) {
    case 'missing':
      if (seeds.lost !== undefined)
        return [
          found(
            'seed',
            'problem',
            `this machine's seed is lost: ${health.paths.seeds} is missing`,
            `no unit with secrets starts, and a new seed would cost ${seeds.lost.text}; a recovery key opens a backup of it, and if ${health.paths.store} is not mounted, mount it`,
            ...waysBack(health),
          ),
        ];
      return [
        found(
          'seed',
          'problem',
          'no seed is sealed here',
          'no unit with secrets starts without one',
          call(health, 'seal', '--recipient=age1...'),
        ),
      ];
    case 'damaged':
      return [
        found(
          'seed',
          'problem',
          `${health.paths.seeds} is damaged`,
          'no unit with secrets starts',
          ...replacing(health),
        ),
      ];
    case 'hidden':
      return [];
    case 'there':
      return [fine('seed', `a seed is sealed to ${health.withKey ?? ''}`)];
  }
};

/** Ways to write the pins again: who can open the seeds without them vouches for them. */
const pinnedAgain = (health: Health): string[] => [
  ...(health.recovery > 0 ? [call(health, 'reseal', '--identity=RECOVERY-KEY')] : []),
  ...(health.withKey === 'host' && health.seeds.hostKey === 'same'
    ? [call(health, 'reseal', `--identity=${health.paths.sshHostKey}`)]
    : []),
  ...(health.isFromVault ? [pushing(health)] : []),
];

const pins: Check = (health) => {
  const { seeds, paths, opening } = health;
  if (seeds.state !== 'there' || seeds.pins === 'hidden') return [];
  const restored = commandLine('cp', 'BACKUP', paths.pins);
  if (typeof seeds.pins === 'string')
    return [
      found(
        'pins',
        'problem',
        `${paths.pins} is ${seeds.pins}`,
        'nothing says which seeds this machine expects, so it takes none',
        restored,
        ...pinnedAgain(health),
      ),
    ];
  if (opening.state === 'failed' && opening.failure.code === 'not-pinned')
    return [
      found(
        'pins',
        'problem',
        opening.failure.message,
        'somebody may have put a store of their own in its place',
        commandLine('cp', 'BACKUP', paths.seeds),
        restored,
      ),
    ];
  return [fine('pins', 'the seeds that this machine expects are pinned')];
};

const hostKey: Check = (health) => {
  const { seeds, paths } = health;
  if (seeds.hostKey === 'same') return [fine('host-key', 'the ssh host key is the one that the seed was sealed to')];
  if (seeds.hostKey === undefined) return [];
  return [
    found(
      'host-key',
      'problem',
      seeds.hostKey === 'missing'
        ? `${paths.sshHostKey} is missing`
        : `${paths.sshHostKey} is not the key that the seed was sealed to`,
      'the seed does not open without that key',
      commandLine('cp', 'BACKUP', paths.sshHostKey),
      ...recovered(health),
    ),
  ];
};

const tpm: Check = (health) => {
  const { tpm: state, seeds, isUnbound, platform } = health;
  if (!state || !seeds.object || platform.libtss2) return [];
  if (!state.present)
    return [
      found(
        'tpm',
        'problem',
        `there is no TPM at ${state.device ?? '/dev/tpmrm0'}`,
        'the seed is sealed to one',
        'systemctl reboot --firmware-setup',
        ...recovered(health),
      ),
    ];
  if (state.failure)
    return [
      found(
        'tpm',
        'problem',
        state.failure.message,
        'the seed is sealed to it',
        ...(state.failure.code === 'tpm-lockout' ? ['tpm2_dictionarylockout --clear-lockout'] : recovered(health)),
      ),
    ];
  const findings: Finding[] = [];
  if (state.lockedOut)
    findings.push(
      found(
        'tpm',
        'warning',
        'the TPM is in dictionary attack lockout',
        "somebody guessed too often; auxcred's own objects never count, but its owner can't be asked",
        'tpm2_dictionarylockout --clear-lockout',
      ),
    );
  if (state.srk === 'other')
    findings.push(
      found(
        'tpm',
        'problem',
        'this is another TPM than the seed was sealed to, or it was cleared',
        "it can't open the seed",
        ...recovered(health),
      ),
    );
  for (const { pcr, sealed, now } of state.differences)
    findings.push(
      found(
        'pcrs',
        'problem',
        `PCR ${String(pcr)} is ${now.slice(0, 16)}, and was ${sealed.slice(0, 16)} when the seed was sealed`,
        'the machine did not boot as it did then, so the TPM keeps the seed',
        ...recovered(health),
      ),
    );
  for (const pcr of state.unmeasured)
    findings.push(
      found(
        'pcrs',
        'warning',
        `PCR ${String(pcr)} is bound, and nothing was ever measured into it`,
        'it is the same whatever boots',
        call(health, 'reseal', '--tpm2-pcrs=PCRS'),
      ),
    );
  if (seeds.object.policy.values.size === 0 && !isUnbound)
    findings.push(
      found(
        'pcrs',
        'note',
        'no PCR is bound',
        'whoever boots anything on this machine can open the seed',
        call(health, 'reseal', '--tpm2-pcrs=7+14'),
      ),
    );
  if (typeof seeds.pins !== 'string' && !seeds.pins.counter)
    findings.push(
      found(
        'counter',
        'note',
        'no counter of the TPM remembers what is in force',
        'an older store that is brought back as a whole goes unnoticed',
        call(health, 'reseal'),
      ),
    );
  return findings.length > 0
    ? findings
    : [
        fine(
          'tpm',
          `the TPM (${state.name ?? ''}) is the one that the seed was sealed to, and the machine booted as it did then`,
        ),
      ];
};

/** What other checks say already, each with its own way out. */
const explained: readonly FailureCode[] = ['not-pinned', 'pcr-mismatch', 'other-tpm', 'no-tpm', 'tpm-lockout'];

const opening: Check = (health) => {
  const { opening: state, seeds } = health;
  if (state.state === 'opened')
    return [fine('opening', `the seed opens with ${state.openedBy} in ${String(state.milliseconds)} ms`)];
  if (
    state.state === 'untried' ||
    seeds.state === 'damaged' ||
    typeof seeds.pins === 'string' ||
    explained.includes(state.failure.code) ||
    (seeds.hostKey !== undefined && seeds.hostKey !== 'same')
  )
    return [];
  return [
    found(
      'opening',
      'problem',
      `the seed does not open: ${state.failure.message}`,
      'no unit with secrets starts',
      ...(state.failure.code === 'timeout'
        ? ['systemctl reboot']
        : state.failure.code === 'malformed'
          ? replacing(health)
          : recovered(health)),
    ),
  ];
};

const recovery: Check = (health) => {
  const { seeds, recovery: count } = health;
  if (seeds.state !== 'there') return [];
  if (count === 0 && health.isFromVault) return [fine('recovery', "the operator's vault has the seed")];
  if (count > 0)
    return [
      fine(
        'recovery',
        `${String(count)} recovery ${count === 1 ? 'recipient opens' : 'recipients open'} the seed without this machine`,
      ),
    ];
  return [
    found(
      'recovery',
      'note',
      'no recovery recipient',
      'if the seed is neither on paper nor in a vault, it dies with this machine',
      call(health, 'reseal', '--add-recipient=age1...'),
    ),
  ];
};

const unbound: Check = (health) => {
  const { isUnbound, isRunning, opening: state } = health;
  if (!isUnbound) return [];
  const mend = isRunning ? 'systemctl start auxcred-bind.service' : 'systemctl reboot';
  const later = isRunning ? '' : '; the installed system does it at its first boot';
  if (state.state === 'opened' && state.sealing.pcrsAtFirstBoot.length === 0)
    return [
      found(
        'unbound',
        'warning',
        'the seed was sealed on another machine, and is not sealed natively yet',
        `the machine that sealed it could have kept what opens it${later}`,
        mend,
      ),
    ];
  return [
    found(
      'unbound',
      'warning',
      'the PCRs that were asked for are not bound yet',
      `until then whoever boots anything on this machine can open the seed${later}`,
      mend,
    ),
  ];
};

const disk: Check = (health) =>
  health.system?.onEncryptedDisk === false && health.withKey === 'host'
    ? [
        found(
          'disk',
          'note',
          'the seed is sealed to the host key, and both are on a disk that is not encrypted',
          'whoever takes the disk has the secrets',
          call(health, 'reseal', '--with-key=tpm2', '--tpm2-pcrs=7+14'),
        ),
      ]
    : [];

const swap: Check = ({ system }) =>
  (system?.swaps ?? []).map((device) =>
    found(
      'swap',
      'note',
      `${device} is swap on a disk that is not encrypted`,
      'the broker is kept out of it, but units with secrets in their memory are not',
      commandLine('swapoff', device),
    ),
  );

const manifest: Check = (health) => {
  const { errors, state, dropIns } = health.declared;
  switch (state) {
    case 'invalid':
      return [
        found(
          'manifest',
          'problem',
          `the manifest has ${String(errors)} ${errors === 1 ? 'error' : 'errors'}`,
          'the files that they are in are not applied, and their units will not start after the next boot',
          call(health, 'check'),
        ),
      ];
    case 'never':
      return [
        found(
          'manifest',
          'warning',
          'the manifest was never applied',
          'no unit gets what it declares before that, or the next boot',
          call(health, 'apply'),
        ),
      ];
    case 'changed':
      return [
        found(
          'manifest',
          'warning',
          `the manifest was changed since it was applied${dropIns.length === 0 ? '' : `: ${list(dropIns.map(({ unit, change }) => `${unit} ${change}`))}`}`,
          'units see the change only then',
          call(health, 'apply'),
        ),
      ];
    case 'applied':
      return [fine('manifest', 'the manifest is the one that was applied')];
  }
};

const snapshot: Check = (health) => {
  const { opening: state, declared } = health;
  if (state.state !== 'opened') return [];
  const { active } = state;
  if (active.snapshot === 'foreign')
    return [
      found(
        'snapshot',
        'problem',
        "what is in force was not made with this machine's seed",
        'the broker refuses it: the seed is another one now, or somebody wrote into the store',
        call(health, 'provision'),
      ),
    ];
  if (active.older)
    return [
      found(
        'snapshot',
        'problem',
        active.older.message,
        'somebody may have brought an old store back',
        commandLine('cp', 'NEWER', health.paths.seeds),
        call(health, 'provision', '--accept-older'),
      ),
    ];
  if (active.snapshot === 'none' && declared.manifest.declarations.length > 0)
    return [
      found(
        'snapshot',
        'problem',
        'nothing is in force yet',
        'units that are declared get no secret',
        call(health, 'apply'),
      ),
    ];
  return [fine('snapshot', `${String(active.credentials)} credentials for ${String(active.units)} units are in force`)];
};

const secrets: Check = (health) => {
  const { opening: state, declared } = health;
  if (state.state !== 'opened' || declared.state === 'invalid') return [];
  const { active } = state;
  const findings: Finding[] = [];
  if (active.refused && active.fixed.every(({ failure }) => failure.message !== active.refused?.message))
    findings.push(refusedFinding(health, active.refused));
  // What only the manifest's new text changes is said of the manifest.
  const isApplied = declared.state === 'applied';
  for (const { secret, why, hook } of active.stale.filter((one) => isApplied || /^(?:period|value)/.test(one.why)))
    findings.push(
      found(
        'stale',
        'warning',
        `${secret} is not what it should be by now: ${why}`,
        hook ? 'its hook failed, or has not run yet' : 'its units go on with the old one',
        call(health, 'provision'),
      ),
    );
  const other = active.changes.filter(({ why }) => why === 'new' || why === 'removed');
  if (other.length > 0 && active.snapshot === 'sound' && isApplied)
    findings.push(
      found(
        'stale',
        'warning',
        list(other.map(({ unit, credential, why }) => `${credential} of ${unit} (${why})`)),
        'the manifest says so, and it is not in force',
        call(health, 'apply'),
      ),
    );
  const astray = active.changes.filter(({ why }) => why.startsWith('written again'));
  if (astray.length > 0)
    findings.push(
      found(
        'stale',
        'warning',
        `${list(astray.map(({ unit, credential }) => (unit === '' ? credential : `${credential} of ${unit}`)))} ${astray.length === 1 ? 'is' : 'are'} missing or altered where it is read`,
        'what reads it does not start, or has another value',
        call(health, 'provision'),
      ),
    );
  return findings.length > 0 || active.snapshot !== 'sound' || !isApplied
    ? findings
    : [fine('stale', 'every secret is what it should be by now')];
};

function refusedFinding(health: Health, { code, message, hint }: Failure): Finding {
  if (code === 'clock')
    return found(
      'clock',
      'problem',
      message.replace(/, so nothing was changed$/, ''),
      'the clock is wrong, or was: until it is settled nothing can be put in force',
      'timedatectl',
      call(health, 'provision', '--accept-clock'),
    );
  if (code === 'older')
    return found(
      'older',
      'problem',
      message.replace(/, so nothing was changed$/, ''),
      'somebody may have brought an old value back',
      call(health, 'provision', '--accept-older'),
    );
  const [, verb, word] = /auxcred ([a-z]+) ('(?:[^']|'\\'')*\/(?:[^']|'\\'')*'|\S+\/\S+)/.exec(hint ?? '') ?? [];
  return found(
    'wanted',
    'problem',
    message,
    "what the manifest asks for can't be put in force",
    verb !== undefined && word !== undefined ? `${call(health, verb)} ${word}` : call(health, 'check'),
  );
}

const fixed: Check = (health) => {
  const { opening: state, paths } = health;
  if (state.state !== 'opened') return [];
  const { fixed: files, strangers, refused } = state.active;
  return [
    ...damagedFiles(health, files, refused),
    ...(strangers.length === 0
      ? []
      : [
          found(
            'fixed',
            'warning',
            strangers.length === 1
              ? `${join(paths.fixed, strangers[0] ?? '')} is no fixed secret`
              : `${String(strangers.length)} files in ${paths.fixed} are no fixed secrets: ${list(strangers)}`,
            'it is never read; a plain secret in it would be one for everybody who finds it',
            commandLine('rm', ...strangers.map((stranger) => join(paths.fixed, stranger))),
          ),
        ]),
  ];
};

function damagedFiles(health: Health, files: ActiveSecrets['fixed'], refused: Failure | undefined): Finding[] {
  const [first] = files;
  if (!first) return [];
  const { paths } = health;
  const put = files.map(({ name }) => call(health, 'put', '--force', name));
  const push = health.isFromVault && health.host !== undefined ? [pushing(health)] : [];
  if (files.length === 1)
    return [found('fixed', 'problem', first.failure.message, "it can't be put in force", ...push, ...put)];
  const stops = files.some(({ failure }) => failure.message === refused?.message);
  const many = `they can't be put in force${stops ? ', and nothing else until they open' : ''}; a backup of the whole folder takes back what was put since`;
  return [
    found(
      'fixed',
      'problem',
      `${String(files.length)} fixed secrets do not open: ${list(files.map(({ name }) => name))}`,
      many,
      ...push,
      commandLine('cp', '-aT', 'BACKUP', paths.fixed),
      commandLine('auxcred', 'verify', ...(health.root === '/' ? [] : [`--root=${health.root}`])),
    ),
  ];
}

const ownUnits: Check = ({ system }) => {
  if (!system) return [];
  const { broker } = system;
  const findings: Finding[] = [];
  for (const name of sockets) {
    const unit = unitOf(broker, name);
    if (unit?.masked === true)
      findings.push(
        found(
          'sockets',
          'problem',
          `${name} is masked`,
          'units ask there for their secrets',
          `systemctl unmask ${name} && systemctl enable --now ${name}`,
        ),
      );
    else if (unit?.installed !== true)
      findings.push(
        found(
          'sockets',
          'problem',
          `${name} is not installed`,
          'units ask there for their secrets',
          'apt install --reinstall auxcred',
        ),
      );
    else if (unit.active === 'failed')
      findings.push(
        found(
          'sockets',
          'problem',
          `${name} failed (${unit.result})`,
          'units that ask there are refused until it listens again',
          `systemctl reset-failed auxcred.service ${name} && systemctl start ${name}`,
        ),
      );
    else if (unit.active !== 'active')
      findings.push(
        found(
          'sockets',
          'problem',
          `${name} does not listen`,
          'units ask there for their secrets',
          `systemctl start ${name}`,
        ),
      );
    if (unit?.installed === true && !unit.enabled)
      findings.push(
        found(
          'sockets',
          'warning',
          `${name} is not enabled`,
          'after a boot it listens only once a unit wants it',
          `systemctl enable ${name}`,
        ),
      );
  }
  const service = unitOf(broker, 'auxcred.service');
  if (service?.active === 'failed')
    findings.push(
      found(
        'broker',
        'problem',
        `auxcred.service failed (${service.result})`,
        'it could not open the seeds or read what is in force when a unit last asked',
        'journalctl -b -u auxcred.service -p err',
        'systemctl reset-failed auxcred.service',
      ),
    );
  const timer = unitOf(broker, 'auxcred-rotate.timer');
  if (timer?.installed === true && (!timer.enabled || timer.active !== 'active'))
    findings.push(
      found(
        'timer',
        'warning',
        'auxcred-rotate.timer does not run',
        'secrets that rotate stay what they are until auxcred provision',
        'systemctl enable --now auxcred-rotate.timer',
      ),
    );
  const rotation = unitOf(broker, 'auxcred-rotate.service');
  if (rotation?.active === 'failed')
    findings.push(
      found(
        'timer',
        'warning',
        `auxcred-rotate.service failed (${rotation.result})`,
        'secrets of a new period are not in force',
        'journalctl -b -u auxcred-rotate.service',
        'auxcred provision',
      ),
    );
  for (const name of fileWriters) {
    if (unitOf(broker, name)?.active === 'failed')
      findings.push(
        found(
          'files',
          'problem',
          `${name} failed`,
          'units whose secrets are files do not start without them',
          `journalctl -b -u ${name}`,
          `systemctl restart ${name}`,
        ),
      );
  }
  return findings.length > 0 ? findings : [fine('sockets', 'the sockets listen, and the timer runs')];
};

const generator: Check = ({ system }) => {
  if (!system) return [];
  const { hasGenerator, outdated } = system.rendered;
  if (!hasGenerator)
    return [
      found(
        'generator',
        'problem',
        'auxcred-generator is not installed',
        'systemd does not learn which unit gets which secret',
        'apt install --reinstall auxcred',
      ),
    ];
  if (outdated.length > 0)
    return [
      found(
        'generator',
        'warning',
        `systemd has not the drop-ins of ${list(outdated)} as they were applied`,
        'these units start without their secrets, or with those of before',
        'systemctl daemon-reload',
      ),
    ];
  return [fine('generator', 'systemd has the drop-ins as they were applied')];
};

const units: Check = ({ system }) => {
  if (!system || system.units.length === 0) return [];
  const namesOf = (states: readonly UnitState[]): string[] => states.map(({ unit }) => unit);
  const lacking = namesOf(system.units.filter(({ lacksSecret }) => lacksSecret));
  const failed = system.units.filter(({ failure, lacksSecret }) => failure !== undefined && !lacksSecret);
  const unknown = [...new Set(system.units.filter(({ state }) => state === 'unknown').map(({ declared }) => declared))];
  const journal = (names: readonly string[]): string =>
    commandLine('journalctl', '-b', ...names.flatMap((name) => ['-u', name]));
  const findings = [
    ...(lacking.length === 0
      ? []
      : [
          found(
            'units',
            'problem',
            `${list(lacking)} did not start for lack of a secret`,
            'the broker refused it, or was not there',
            'journalctl -b -u auxcred.service AUXCRED_OUTCOME=refused',
            commandLine('systemctl', 'restart', ...lacking),
          ),
        ]),
    ...(failed.length === 0
      ? []
      : [
          found(
            'units',
            'warning',
            list(failed.map(({ unit, failure }) => `${unit} ${failure ?? ''}`)),
            'it has its secrets, and does not run',
            journal(namesOf(failed)),
            commandLine('systemctl', 'restart', ...namesOf(failed)),
          ),
        ]),
    ...(unknown.length === 0
      ? []
      : [
          found(
            'units',
            'warning',
            `${list(unknown)} ${unknown.length === 1 ? 'is declared, and does' : 'are declared, and do'} not exist on this machine`,
            'the name may be mistaken: nothing gets the secret',
            commandLine('systemctl', 'cat', ...unknown),
          ),
        ]),
  ];
  return findings.length > 0 ? findings : [fine('units', 'no unit lacks a secret')];
};

const overrides: Check = (health) => {
  const reloaded = (...command: string[]): string =>
    `${commandLine(...command)}${health.isRunning ? ' && systemctl daemon-reload' : ''}`;
  const findings = health.overrides.map(({ unit, file, how, lines }) => {
    const mend = `"\${EDITOR:-vi}" ${reloaded(file)}`;
    switch (how) {
      case 'hides':
        return found(
          'overrides',
          'problem',
          `${file} takes the place of auxcred's drop-in of ${unit}`,
          'the unit does not get its secrets',
          reloaded('mv', file, file.replace(/\.conf$/, '-local.conf')),
        );
      case 'undoes':
        return found(
          'overrides',
          'problem',
          `${file} takes ${list(lines)} of ${unit} away`,
          'the unit does not start, or starts without that secret or with another value',
          mend,
        );
      case 'sets':
        return found(
          'own-credential',
          'warning',
          `${file} has a value of its own for a credential of ${unit}: ${list(lines)}`,
          "where the secret's own source is not there, systemd starts the unit with that value",
          mend,
        );
    }
  });
  const aliased = [...health.aliases].map(([alias, unit]) =>
    found(
      'aliases',
      'problem',
      `${alias} is declared, and is an alias of ${unit}`,
      'systemd asks for secrets under that name alone',
      call(health, 'check'),
    ),
  );
  return [
    ...findings,
    ...aliased,
    ...(findings.length > 0 || health.declared.dropIns.length > 0
      ? []
      : [fine('overrides', 'no file takes away what auxcred gives a unit')]),
  ];
};

const links: Check = (health) =>
  health.strayLinks.map(({ path, objection }) =>
    objection === undefined
      ? found(
          'links',
          'warning',
          `${path} leads to a secret's file, and nothing declares it`,
          "somebody may have led auxcred there, and whoever owns the secret's file decides what is read",
          commandLine('rm', path),
        )
      : found(
          'links',
          'problem',
          `${path} was made where others could lead it: ${objection}`,
          "who can write that folder, or owns the secret's file, decides what is read there",
          commandLine('rm', path),
          call(health, 'check'),
        ),
  );

const hooks: Check = (health) => {
  const { missingHooks } = health.declared;
  if (missingHooks.length === 0) return [];
  return [
    found(
      'hooks',
      'warning',
      list(missingHooks.map(({ secret, problem }) => `the hook of ${secret} can't run: ${problem}`)),
      "the secret stays what it is, since its service can't be told another value",
      call(health, 'check'),
    ),
  ];
};

const sight: Check = ({ hidden }) =>
  hidden.length === 0
    ? []
    : [
        found(
          'sight',
          'note',
          `this user may not see ${list(hidden)}`,
          'what is in there could not be judged',
          'sudo auxcred doctor',
        ),
      ];

const checks: readonly Check[] = [
  runtime,
  library,
  account,
  seed,
  pins,
  hostKey,
  tpm,
  opening,
  recovery,
  unbound,
  access,
  leftovers,
  disk,
  swap,
  manifest,
  snapshot,
  secrets,
  fixed,
  hooks,
  generator,
  ownUnits,
  units,
  overrides,
  links,
  sight,
];
