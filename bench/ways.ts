/**
 * The ways in which a machine's services get their secrets, side by side. Each stores the values of /run/peers/values at
 * rest, and has a unit that gets them from there when nothing of it runs yet.
 */

/** In the machine, all of them. */
export const folders = { values: '/run/peers/values', sums: '/run/peers/sums', rest: '/etc/peers' } as const;

export interface Way {
  readonly id: string;
  readonly label: string;
  /** The settings of the unit's [Service] for these secrets. */
  readonly lines: (names: readonly string[]) => readonly string[];
  /** Shell: brings what was stored into the present folder, if systemd has not done so. */
  readonly fetch?: string;
  /** Shell: encrypts all values at rest, of whatever number they are. */
  readonly store: string;
  /** Whether its units start one after the other: swtpm has no resource manager, so several at once fill its memory. */
  readonly serial?: true;
  /** Shell: replaces the first secret with a new random one, at rest. */
  readonly rotate: string;
}

const each = (command: string): string => `while read -r _ name; do ${command} < /dev/null; done < ${folders.sums}`;
const random = 'head -c 32 /dev/urandom | od -An -v -tx1 | tr -d " \\n"';
const inMemory = (id: string): string[] => [`RuntimeDirectory=peers-${id}`, 'RuntimeDirectoryMode=0700'];
const credential = (setting: string, folder: string) => (names: readonly string[]) =>
  names.map((name) => `${setting}=${name}:${folder}/${name}`);

export const plain: Way = {
  id: 'plain',
  label: 'plain files',
  lines: credential('LoadCredential', `${folders.rest}/plain`),
  store: `cp -r ${folders.values} ${folders.rest}/plain`,
  rotate: `${random} > ${folders.rest}/plain/key-1`,
};

function auxcredWay(id: string, label: string): Way {
  const provision = 'auxcred provision';
  // The manifest and its drop-ins are those of PeerMachine.
  return { id, label, lines: () => [], store: provision, rotate: provision };
}

export const auxcredHost = auxcredWay('auxcred-host', 'auxcred, host key');
export const auxcredTpm: Way = { ...auxcredWay('auxcred-tpm', 'auxcred, TPM'), serial: true };

function credsWay(id: string, label: string, options: string): Way {
  const folder = `${folders.rest}/${id}`;
  const encrypt = `systemd-creds ${options} encrypt`;
  return {
    id,
    label,
    lines: credential('LoadCredentialEncrypted', folder),
    // The TPM serves one at a time, and whoever comes second waits.
    store: `mkdir ${folder}; ls ${folders.values} | xargs -I @ ${encrypt} --name=@ ${folders.values}/@ ${folder}/@`,
    rotate: `${random} | ${encrypt} --name=key-1 - ${folder}/key-1`,
  };
}

export const credsHost = credsWay('creds-host', 'systemd-creds, host key', '--with-key=host');
export const credsTpm: Way = {
  ...credsWay('creds-tpm', 'systemd-creds, TPM', '--with-key=tpm2 --tpm2-pcrs=7'),
  serial: true,
};

/** What agenix does at activation, without the owner and mode that it also sets. */
export const age: Way = {
  id: 'age',
  label: 'age, file by file',
  lines: () => inMemory('age'),
  fetch: each(`age -d -i ${folders.rest}/identity -o "$name" "${folders.rest}/age/$name"`),
  store:
    `test -e ${folders.rest}/identity || age-keygen -o ${folders.rest}/identity; mkdir ${folders.rest}/age; ` +
    `age-keygen -y ${folders.rest}/identity > ${folders.rest}/recipient; ls ${folders.values} | ` +
    `xargs -P 2 -I @ age -R ${folders.rest}/recipient -o ${folders.rest}/age/@ ${folders.values}/@`,
  rotate: `${random} | age -R ${folders.rest}/recipient -o ${folders.rest}/age/key-1`,
};

const gnupg = `GNUPGHOME=${folders.rest}/gnupg`;
const store = `PASSWORD_STORE_DIR=${folders.rest}/pass`;

/** A key without a passphrase, and an agent that ends with the unit. */
export const pass: Way = {
  id: 'pass',
  label: 'pass, one by one',
  lines: () => [...inMemory('pass'), `Environment=HOME=/root ${gnupg} ${store}`],
  fetch: each('pass show "$name" > "$name"'),
  store: [
    `export ${gnupg} ${store}`,
    'test -e "$GNUPGHOME" || { mkdir -m 700 "$GNUPGHOME"; ' +
      "gpg --batch --quiet --passphrase '' --quick-gen-key peers@example.org; }",
    'pass init peers@example.org',
    `cp ${folders.values}/* "$PASSWORD_STORE_DIR"`,
    'cd "$PASSWORD_STORE_DIR"',
    // Files of the same form as those of `pass insert`, by one gpg.
    'gpg --batch --quiet --trust-model always --recipient peers@example.org --encrypt-files key-*[0-9]',
    'rm key-*[0-9]',
    'gpgconf --kill all',
  ].join('\n'),
  rotate: `export ${gnupg} ${store}; pass generate --no-symbols --force key-1 64`,
};

/** What removes everything that the ways stored but their own keys. */
export const forget = `cd ${folders.rest}; rm -rf plain creds-host creds-tpm age pass`;
