import type { Machine } from './machine.ts';

const probePath = '/usr/local/lib/auxcred-probe';

/** Steps of a unit's start that get its credentials. */
export type ProbeStep = 'ExecStartPre' | 'ExecStart' | 'ExecStartPost';

/** Credential id to value. */
export type Credentials = Readonly<Record<string, Buffer>>;

export interface ProbeUnit {
  /** More lines for [Unit], [Service] and [Install], such as `LoadCredential=a:/b`. */
  readonly unit?: readonly string[];
  readonly service?: readonly string[];
  readonly install?: readonly string[];
  /** `ExecStart` alone if not given. */
  readonly steps?: readonly ProbeStep[];
}

/** A probe records what its `$CREDENTIALS_DIRECTORY` holds; whole files only, and no file if it had no such folder. */
const probeScript = `#!/bin/sh
set -eu
record="/run/probe/$1/$2"
mkdir -p "\${record%/*}"
[ -n "\${CREDENTIALS_DIRECTORY-}" ] || exit 0
for file in "$CREDENTIALS_DIRECTORY"/*; do
    [ ! -e "$file" ] || printf '%s %s\\n' "\${file##*/}" "$(od -An -v -tx1 "$file" | tr -d ' \\n')"
done >"$record.new"
mv "$record.new" "$record"
`;

/**
 * Writes a service that stays active after it has recorded the credentials it got at each step of its start.
 * systemd has to reload before it sees the unit, if the machine is on.
 */
export async function writeProbeUnit(machine: Machine, name: string, probe: ProbeUnit = {}): Promise<void> {
  await machine.write(probePath, probeScript, 0o755);
  // A unit of another user records there too.
  await machine.write('/etc/tmpfiles.d/auxcred-probe.conf', 'd /run/probe 1777 root root\n');
  if (machine.leader !== undefined) await machine.shell('mkdir -p -m 1777 /run/probe');
  await machine.write(
    `/etc/systemd/system/${name}`,
    [
      '[Unit]',
      ...(probe.unit ?? []),
      '[Service]',
      'Type=oneshot',
      'RemainAfterExit=yes',
      ...(probe.steps ?? ['ExecStart']).map((step) => `${step}=${probePath} %n ${step}`),
      ...(probe.service ?? []),
      '[Install]',
      ...(probe.install ?? ['WantedBy=multi-user.target']),
      '',
    ].join('\n'),
  );
}

/** What a probe got at a step of its last start; undefined if it never came there, or had no credentials folder. */
export async function probed(
  machine: Machine,
  unit: string,
  step: ProbeStep = 'ExecStart',
): Promise<Credentials | undefined> {
  const { status, stdout } = await machine.run(['cat', `/run/probe/${unit}/${step}`], { check: false });
  if (status !== 0) return undefined;
  return Object.fromEntries(
    stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [id = '', hex = ''] = line.split(' ');
        return [id, Buffer.from(hex, 'hex')];
      }),
  );
}

/** Forgets what the probes recorded, so that the next look can't see an earlier start. */
export async function forgetProbes(machine: Machine): Promise<void> {
  await machine.shell('rm -rf /run/probe/*');
}
