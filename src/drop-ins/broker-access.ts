/** Judges whether the unit files of auxcred.service give the broker what a sealing needs. */
import { existsSync } from 'node:fs';
import type { Sealing } from '../seeds/payload.ts';
import { groupId, textIfPresent } from '../system/files.ts';
import type { Paths } from '../system/paths.ts';
import { loadedFiles, systemIsRunning } from '../system/systemctl.ts';
import { type Assignment, assignmentsOf, credentialIdOf, lineOf, UnitFiles } from '../system/unit-files.ts';
import { brokerDropIn, stubSignatures } from './broker-drop-in.ts';

const service = 'auxcred.service';

/**
 * The drop-in that auxcred.service needs on this machine for a sealing.
 * @param sshHostKey - whether the machine's own key is the ssh host key, not an age identity
 */
export const dropInFor = (root: string, sealing: Sealing, sshHostKey: boolean): string =>
  brokerDropIn(sealing, { sshHostKey, tssGroup: groupId(root, 'tss') !== undefined });

/** The lines of that drop-in that no unit file has, and without which these seeds stay closed. */
export const lackingFor = (paths: Pick<Paths, 'root'>, sealing: Sealing, dropIn: string): string[] =>
  lackingAccess(paths, dropIn).filter(
    (line) => sealing.signed !== undefined || line !== `BindReadOnlyPaths=-${stubSignatures}`,
  );

/** The files of auxcred.service: those that systemd has loaded, else those that it would load. */
function filesOfBroker({ root }: Pick<Paths, 'root'>): readonly string[] {
  if (!systemIsRunning(root)) return new UnitFiles(root).of(service);
  return loadedFiles([service]).get(service) ?? [];
}

/**
 * The lines of a broker's drop-in that no unit file has; none if there is no auxcred.service to judge. A credential may
 * come from another path, and the TPM be allowed under any of its names.
 */
export function lackingAccess(paths: Pick<Paths, 'root'>, dropIn: string): string[] {
  const files = filesOfBroker(paths).filter((file) => existsSync(file));
  if (files.length === 0) return [];
  const given = files.flatMap((file) => assignmentsOf(textIfPresent(file) ?? ''));
  return assignmentsOf(dropIn)
    .filter((wanted) => isNeeded(wanted) && !given.some((one) => gives(one, wanted)))
    .map(lineOf);
}

/** Leaves out what differs from system to system: the group of a TPM's device node, and the names of that node. */
const isNeeded = ({ key, value }: Assignment): boolean =>
  key !== 'SupplementaryGroups' && key !== 'SetCredential' && !(key === 'DeviceAllow' && value.startsWith('/'));

function gives(given: Assignment, wanted: Assignment): boolean {
  if (given.section !== wanted.section || given.key !== wanted.key) return false;
  if (wanted.key.startsWith('LoadCredential')) return credentialIdOf(given) === credentialIdOf(wanted);
  if (wanted.key === 'DeviceAllow') return given.value.includes('tpm');
  if (wanted.key === 'BindReadOnlyPaths' || wanted.key === 'After')
    return given.value.split(/\s+/).includes(wanted.value);
  return given.value === wanted.value || (wanted.value === 'no' && given.value === 'false');
}
