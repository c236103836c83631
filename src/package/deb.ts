/** `npm run deb`: a Debian package in dist/, byte for byte the same for the same sources. */
import { spawnSync } from 'node:child_process';
import { chmodSync, lutimesSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { version } from '../version.ts';
import { install } from './layout.ts';

/** Debian's names of the processor architectures that koffi has a native file for. */
const architectures: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };
/** Fixed unless the builder sets it: 2026-11-01. */
const sourceDate = Number(process.env['SOURCE_DATE_EPOCH'] ?? 1793491200);

const control = (architecture: string): string => `Package: auxcred
Version: ${version}
Architecture: ${architecture}
Maintainer: the auxcred authors <auxcred@localhost>
Section: admin
Priority: optional
Depends: nodejs (>= 20.19), systemd (>= 252), libtss2-esys-3.0.2-0 | libtss2-esys-3.0.2-0t64, libtss2-mu0 | libtss2-mu-4.0.1-0 | libtss2-mu-4.0.1-0t64, libtss2-tctildr0 | libtss2-tctildr0t64
Recommends: tpm-udev, libtss2-tcti-device0 | libtss2-tcti-device0t64
Description: every systemd unit gets its own secrets at boot
 auxcred derives each service's secrets from one seed that is sealed to the
 machine's TPM or to its ssh host key, and hands them to systemd when the
 service starts. Nothing has to be stored, synchronised or fetched.
`;

const postinst = `#!/bin/sh
set -e
if [ "$1" = configure ]; then
    systemd-sysusers auxcred.conf
    systemd-tmpfiles --create auxcred.conf || true
    for unit in auxcred.socket auxcred-stage.socket; do
        if command -v deb-systemd-helper > /dev/null; then
            deb-systemd-helper unmask "$unit" > /dev/null || true
            if deb-systemd-helper --quiet was-enabled "$unit"; then
                deb-systemd-helper enable "$unit" > /dev/null || true
            else
                deb-systemd-helper update-state "$unit" > /dev/null || true
            fi
        else
            systemctl enable "$unit" > /dev/null || true
        fi
    done
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload || true
        systemctl stop auxcred.service || true
        systemctl start auxcred.socket auxcred-stage.socket || true
    fi
fi
`;

const prerm = `#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl stop auxcred.socket auxcred-stage.socket auxcred.service || true
fi
`;

const postrm = `#!/bin/sh
set -e
if [ "$1" = remove ] || [ "$1" = purge ]; then
    [ ! -d /run/systemd/system ] || systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
    if command -v deb-systemd-helper > /dev/null; then
        deb-systemd-helper purge auxcred.socket auxcred-stage.socket > /dev/null || true
    fi
    rm -rf /etc/auxcred/rendered /etc/auxcred/.rendered.*
    [ ! -e /var/lib/auxcred/seeds.age ] || echo "auxcred: the sealed seed is kept in /var/lib/auxcred" >&2
fi
`;

function setTimes(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      setTimes(path);
      chmodSync(path, 0o755);
    }
    lutimesSync(path, sourceDate, sourceDate);
  }
}

const architecture = architectures[process.arch];
if (architecture === undefined) throw new Error(`there is no package for ${process.arch}`);
const folder = mkdtempSync(join(tmpdir(), 'auxcred-deb-'));
try {
  install({ destination: folder, prefix: '/usr', node: '/usr/bin/node' });
  mkdirSync(join(folder, 'DEBIAN'));
  writeFileSync(join(folder, 'DEBIAN/control'), control(architecture));
  for (const [name, script] of Object.entries({ postinst, prerm, postrm })) writeFileSync(join(folder, 'DEBIAN', name), script, { mode: 0o755 });
  setTimes(folder);
  chmodSync(folder, 0o755);
  lutimesSync(folder, sourceDate, sourceDate);
  const file = `dist/auxcred_${version}_${architecture}.deb`;
  const { status } = spawnSync('dpkg-deb', ['--root-owner-group', '-Zxz', '--build', folder, file], { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, SOURCE_DATE_EPOCH: String(sourceDate) } });
  if (status !== 0) throw new Error('dpkg-deb failed');
  console.log(file);
} finally {
  rmSync(folder, { recursive: true });
}
