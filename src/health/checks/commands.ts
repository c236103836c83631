/** Commands that several checks name. */
import { commandLine } from '../../system/shell.ts';
import { type Health, hadTpm } from '../health.ts';

/** A call of auxcred for the system that was looked at. */
export const auxcred = ({ root }: Health, verb: string, ...more: readonly string[]): string =>
  commandLine('auxcred', verb, ...(root === '/' ? [] : [`--root=${root}`]), ...more);

/** A call on the operator's side, where the vault is. */
export const push = ({ host }: Health): string =>
  `${commandLine('auxcred', 'push', host ?? 'HOST')}    # where the vault is`;

/** Ways to open the seeds again if this machine can't, the nearest first. */
export function reseal(health: Health): string[] {
  const { recovery: recipients, isFromVault } = health;
  // Sealed to the TPM as before they would not open here.
  const key = isTpmGone(health) ? ['--with-key=host'] : [];
  return [
    ...(recipients > 0 ? [auxcred(health, 'reseal', ...key, '--identity=RECOVERY-KEY')] : []),
    ...(isFromVault ? [] : [auxcred(health, 'reseal', ...key, '--seed-file=FILE-WITH-THE-WORDS')]),
    auxcred(health, 'reseal', ...key, '--scopes=FILE-FROM-THE-VAULT'),
  ];
}

/** Whether the seed is sealed to a TPM, and this machine has none. */
const isTpmGone = ({ seeds, tpm, opening }: Health): boolean =>
  seeds.object !== undefined &&
  (tpm?.present === false ||
    tpm?.failure?.code === 'no-tpm' ||
    (opening.state === 'failed' && opening.failure.code === 'no-tpm'));

/** Ways to replace seeds.age if it is damaged. A recovery key can't open it either. */
export const replaceSeeds = (health: Health): string[] => [
  commandLine('cp', 'BACKUP', health.paths.seeds),
  ...(health.isFromVault ? [] : [auxcred(health, 'reseal', '--seed-file=FILE-WITH-THE-WORDS')]),
  auxcred(health, 'reseal', '--scopes=FILE-FROM-THE-VAULT'),
];

/**
 * Ways back if seeds.age is gone. A recovery key opens only a backup of it, and only the snapshot knows how the seeds
 * were sealed.
 */
export function restoreSeeds(health: Health): string[] {
  const { paths, isFromVault, seeds, tpm } = health;
  const hasTpm = tpm?.present === true && tpm.failure?.code !== 'no-tpm';
  const elsewhere = hadTpm(seeds) && !hasTpm ? ['--with-key=host'] : [];
  const unsaid = seeds.lost?.snapshot === true ? [] : [`--with-key=${hadTpm(seeds) ? 'tpm2' : 'host'}`];
  const key = elsewhere.length > 0 ? elsewhere : unsaid;
  const restored = commandLine('cp', 'BACKUP', paths.seeds);
  return [
    restored,
    ...(isFromVault ? [] : [auxcred(health, 'reseal', '--seed-file=FILE-WITH-THE-WORDS', ...key)]),
    auxcred(health, 'reseal', '--scopes=FILE-FROM-THE-VAULT', ...key),
    `${restored} && ${auxcred(health, 'reseal', '--identity=RECOVERY-KEY', ...elsewhere)}`,
    push(health),
  ];
}

/** Ways to write the pins again: each proves its right by opening the seeds without them. */
export const pinAgain = (health: Health): string[] => [
  ...(health.recovery > 0 ? [auxcred(health, 'reseal', '--identity=RECOVERY-KEY')] : []),
  ...(health.withKey === 'host' && health.seeds.hostKey === 'same'
    ? [auxcred(health, 'reseal', `--identity=${health.paths.sshHostKey}`)]
    : []),
  ...(health.isFromVault ? [push(health)] : []),
];
