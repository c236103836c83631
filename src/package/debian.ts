/** What Debian's tools read of the package. Source: the Debian Policy Manual, chapters 4.4, 5 and 7. */

/** Debian's names for the processor architectures that koffi supports, by Node's. */
export const architectures: Readonly<Record<string, string>> = {
  x64: 'amd64',
  arm64: 'arm64',
  riscv64: 'riscv64',
  loong64: 'loong64',
};

const maintainer = 'the auxcred authors <auxcred@localhost>';

/**
 * Debian 12 has Node 18, and its backports have none. The second name of the first line is no package anywhere: apt and
 * dpkg print it when they say that Node is too old, so that their error names the way out.
 * The libraries have other names from Debian 13 on; koffi's native file needs the last three.
 */
const depends = [
  'nodejs (>= 20.19) | nodejs-20-or-later-from-deb.nodesource.com',
  'systemd (>= 252)',
  'libtss2-esys-3.0.2-0 | libtss2-esys-3.0.2-0t64',
  'libtss2-mu0 | libtss2-mu-4.0.1-0 | libtss2-mu-4.0.1-0t64',
  'libtss2-tctildr0 | libtss2-tctildr0t64',
  'init-system-helpers (>= 1.54)',
  'libc6 (>= 2.28)',
  'libstdc++6',
  'libgcc-s1',
];

interface Binary {
  readonly version: string;
  /** In Debian's words, such as `amd64`. */
  readonly architecture: string;
  /** Of the installed files. */
  readonly kibibytes: number;
}

export const control = ({ version, architecture, kibibytes }: Binary): string => `Package: auxcred
Version: ${version}
Architecture: ${architecture}
Maintainer: ${maintainer}
Installed-Size: ${String(kibibytes)}
Depends: ${depends.join(', ')}
Recommends: tpm-udev, libtss2-tcti-device0 | libtss2-tcti-device0t64, libtss2-rc0 | libtss2-rc0t64
Section: admin
Priority: optional
Description: every systemd unit gets its own secrets at boot
 auxcred derives each service's secrets from one seed that is sealed to the
 machine's TPM or to its ssh host key, and hands them to systemd when the
 service starts. Nothing has to be stored, synchronised or fetched.
`;

/** @param date - seconds since 1970 */
export const changelog = (version: string, date: number): string => `auxcred (${version}) stable; urgency=medium

  * What changed for users: /usr/share/doc/auxcred/CHANGELOG.md.

 -- ${maintainer}  ${new Date(date * 1000).toUTCString().replace('GMT', '+0000')}
`;

/** Each tag of lintian that the package can't avoid, with the reason. */
export const lintianOverrides = `# The project has no mail address. Whoever publishes packages puts in theirs.
auxcred: bogus-mail-host *
auxcred: bogus-mail-host-in-debian-changelog *
# nodejs (>= 20.19) is there. Its alternative is no package, but what apt prints on Debian 12, where Node is too old.
auxcred: missing-dep-for-interpreter /usr/bin/node *
`;
