/**
 * The whole command in one table: what each verb does, its operands and its options. The parser takes the options' names from here, and
 * --help, the manual pages and the shells' completion are made of it, so that none of them can say what another one does not know.
 */
import { characterClasses, kindNames } from '../derive/kind.ts';
import type { FailureCode } from '../failure.ts';

/** What a shell offers where a word is wanted: names that `auxcred names` prints, or paths. */
export type Wanted = 'secrets' | 'fixed' | 'hosts' | 'groups' | 'scopes' | 'vaults' | 'verbs' | 'file' | 'folder';

export interface OptionEntry {
  /** Without the dashes. */
  readonly name: string;
  /** Stands for the value; undefined for a flag. */
  readonly value?: string;
  /** A line without a full stop. */
  readonly help: string;
  /** Whether it may be given several times. */
  readonly repeated?: boolean;
  /** What the value can be: a list of all there is, or what a shell finds. */
  readonly choices?: readonly string[] | Wanted;
}

export interface Example {
  readonly command: string;
  readonly says: string;
}

export interface VerbEntry {
  readonly group: Group;
  /** A line, lower case, without a full stop. */
  readonly summary: string;
  /** Operands as a call has them, one way of calling it each. */
  readonly usage: readonly string[];
  /** What a shell offers for each operand; the last is for all that follow. */
  readonly operands?: readonly (readonly string[] | Wanted)[];
  readonly text: readonly string[];
  readonly options: readonly OptionEntry[];
  readonly examples?: readonly Example[];
  /** Statuses that have a meaning of their own here, by their names. */
  readonly statuses?: Readonly<Partial<Record<FailureCode, string>>>;
  readonly files?: Readonly<Record<string, string>>;
  readonly seeAlso?: readonly string[];
}

/** The parts of the overview, and their headings. */
export const groups = {
  machine: 'This machine',
  operator: "The operator's vault, from which the seeds of all hosts come",
  fixed: 'Secrets that somebody else issued, in the vault (host/web1/wifi, group/db/token) or on this machine (wifi)',
  units: 'Called by units, shells and auxcred push',
} as const;
export type Group = keyof typeof groups;

const json: OptionEntry = { name: 'json', help: 'print JSON for programs' };
const root: OptionEntry = {
  name: 'root',
  value: 'DIR',
  help: 'the system below DIR, such as an installation in progress',
  choices: 'folder',
};
const device: OptionEntry = {
  name: 'tpm2-device',
  value: 'DEVICE',
  help: 'the TPM: device:/dev/tpmrm0 (the default), swtpm:path=SOCKET',
};
const vault: OptionEntry = {
  name: 'vault',
  value: 'DIR',
  help: "the operator's vault; else $AUXCRED_VAULT, else ~/.local/share/auxcred",
  choices: 'folder',
};
const host: OptionEntry = { name: 'host', value: 'HOST', help: 'the secrets of a host of the vault', choices: 'hosts' };
const group: OptionEntry = { name: 'group', value: 'GROUP', help: 'the secrets of a group', choices: 'groups' };
const identity: OptionEntry = {
  name: 'identity',
  value: 'FILE',
  help: 'an age identity or ssh key that opens the fleet seed',
  repeated: true,
  choices: 'file',
};
const manifest: OptionEntry = {
  name: 'manifest',
  value: 'DIR',
  help: 'a folder with the manifest, the strongest first',
  repeated: true,
  choices: 'folder',
};
const force: OptionEntry = { name: 'force', help: 'replace what is there' };
const dryRun: OptionEntry = { name: 'dry-run', help: 'say what would be done, and do nothing' };
const noRestart: OptionEntry = { name: 'no-restart', help: 'leave units that run as they are' };
const noWait: OptionEntry = { name: 'no-wait', help: 'restart units, and leave before it is known whether they run' };
const acceptClock: OptionEntry = {
  name: 'accept-clock',
  help: 'put a period in force that lies before the recorded one',
};
const acceptOlder: OptionEntry = {
  name: 'accept-older',
  help: 'take a fixed file, or a seeds.age, that was replaced before',
};
const withKey: OptionEntry = {
  name: 'with-key',
  value: 'KEY',
  help: 'host (the ssh host key), tpm2, tpm2+host (both needed), systemd-creds (what systemd itself encrypts to) or auto (tpm2 where there is one)',
  choices: ['host', 'tpm2', 'tpm2+host', 'systemd-creds', 'auto'],
};
const credsKey: OptionEntry = {
  name: 'creds-key',
  value: 'KEY',
  help: 'what systemd-creds encrypts to: host, tpm2, host+tpm2 or auto (its own choice)',
  choices: ['auto', 'host', 'tpm2', 'host+tpm2'],
};
const pcrs: OptionEntry = {
  name: 'tpm2-pcrs',
  value: 'PCRS',
  help: 'TPM registers that have to be as they are now, such as 7+14',
  choices: ['7+14', '0+7+14', '7'],
};
const passphrase: OptionEntry = { name: 'passphrase', help: 'ask for a passphrase that opens the fleet seed' };
const passphraseFile: OptionEntry = {
  name: 'passphrase-file',
  value: 'FILE',
  help: 'take that passphrase from a file',
  choices: 'file',
};
const fleetRecipient: OptionEntry = {
  name: 'recipient',
  value: 'AGE',
  help: 'an age, ssh or plugin recipient that opens the fleet seed',
  repeated: true,
};
const at: OptionEntry = {
  name: 'at',
  value: 'PERIOD',
  help: 'that of a period: 2026, 2026-Q4, 2026-11, 2026-W47, 2026-11-23',
};

/** By which a command finds out whose declared secrets are meant. */
const view = [host, vault, root, device, identity, manifest];
/** By which a command finds out which fixed folder is meant. */
const place = [host, group, vault, root, device, identity];

const storeFiles = {
  '/var/lib/auxcred/seeds.age': 'the sealed seeds',
  '/etc/auxcred/scopes.json': 'the key ids that this machine expects',
};
const manifestFiles = { '/etc/auxcred/secrets.d/*.toml': 'the manifest; auxcred-secrets(5)' };
const vaultFiles = { '~/.local/share/auxcred/vault.toml': 'hosts, groups and other vaults' };

const unitFailed = { 'unit-failed': 'all is in force, and a unit that was restarted does not run' };
const heldBack = {
  ...unitFailed,
  clock: 'the clock ran backwards past a recorded period',
  hook: 'a hook failed: its secret stays what it is',
  older: 'a fixed file is older than the one in force',
};
const reencrypted = 'The file is encrypted anew, since its name is part of its key.';

const page = (entry: VerbEntry): VerbEntry => entry;

/** Every verb. */
export const manual = {
  seal: page({
    group: 'machine',
    summary: "make this machine's seed, or take one, and lock it to the machine",
    usage: [
      '[--with-key=KEY] [--tpm2-pcrs=PCRS] (--recipient=AGE... | --print-words | --no-recovery)',
      '--scopes=FILE [--with-key=KEY] [--tpm2-pcrs=PCRS]',
    ],
    text: [
      'Every secret of this machine is derived from its seed. It is kept in one age file that only this machine opens, and whoever has one of the recovery recipients. A new seed needs a way to recover it: recipients, 24 words on paper, or --no-recovery.',
      'With --root= the PCRs are those of the installer, so the seed is sealed without them, and auxcred-bind.service binds them at the first boot.',
    ],
    options: [
      withKey,
      credsKey,
      pcrs,
      {
        name: 'recipient',
        value: 'AGE',
        help: 'an age recipient that can open the seed without this machine',
        repeated: true,
      },
      { name: 'print-words', help: 'show the seed once as 24 words for paper' },
      { name: 'no-recovery', help: 'no way to recover the seed: it dies with the machine' },
      {
        name: 'scopes',
        value: 'FILE',
        help: 'take the seeds that auxcred scopes printed; - is standard input',
        choices: 'file',
      },
      {
        name: 'seed-file',
        value: 'FILE',
        help: 'take a seed of 32 bytes, or its 24 words; - is standard input',
        choices: 'file',
      },
      { name: 'name', value: 'NAME', help: "the host's name among the scopes; else that of /etc/hostname" },
      { name: 'replace', help: 'in place of the seed that is sealed' },
      acceptOlder,
      root,
      device,
    ],
    examples: [
      {
        command: 'auxcred seal --with-key=tpm2 --tpm2-pcrs=7+14 --recipient=age1...',
        says: 'a new seed, in the TPM, with a recovery key',
      },
      {
        command: 'auxcred scopes web1 | ssh root@web1 auxcred seal --scopes=-',
        says: 'the seeds of a host of the vault',
      },
      { command: 'auxcred seal --replace --seed-file=-', says: 'the same seed again, from the words on paper' },
    ],
    statuses: { refused: 'a seed is sealed already; --replace' },
    files: storeFiles,
    seeAlso: ['auxcred-reseal(1)', 'auxcred-unseal(1)'],
  }),
  reseal: page({
    group: 'machine',
    summary: 'lock the same seed again: to the PCRs as they are now, another key, other recovery keys',
    usage: [
      '[--tpm2-pcrs=PCRS | --no-tpm2-pcrs] [--with-key=KEY] [--add-recipient=AGE...] [--remove-recipient=AGE...]',
      '--identity=FILE... | --seed-file=FILE | --scopes=FILE',
    ],
    text: [
      "Without options the key, the PCRs and the recovery recipients stay what they are, and the PCRs' values of now are bound: what to do before or after an update of the boot chain. Every secret stays what it is. The new file is opened before it takes the place of the old one.",
    ],
    options: [
      withKey,
      credsKey,
      pcrs,
      { name: 'no-tpm2-pcrs', help: 'bind no PCR any more' },
      { name: 'add-recipient', value: 'AGE', help: 'one more age recipient for recovery', repeated: true },
      { name: 'remove-recipient', value: 'AGE', help: 'one of the recovery recipients less', repeated: true },
      {
        name: 'identity',
        value: 'FILE',
        help: "open the seed with this recovery identity, where the machine itself can't",
        repeated: true,
        choices: 'file',
      },
      {
        name: 'seed-file',
        value: 'FILE',
        help: 'the seed again, 32 bytes or its 24 words, where nothing opens it; - is standard input',
        choices: 'file',
      },
      {
        name: 'scopes',
        value: 'FILE',
        help: 'the seeds again, as auxcred scopes prints them; - is standard input',
        choices: 'file',
      },
      {
        name: 'first-boot',
        help: 'only where the seeds of an installation or of auxcred copy wait for the first boot',
      },
      acceptOlder,
      root,
      device,
    ],
    examples: [
      { command: 'auxcred reseal', says: 'after a firmware update, while the seed still opens' },
      { command: 'auxcred reseal --identity=/media/usb/recovery.txt', says: 'after one that locked the machine out' },
      { command: 'auxcred reseal --seed-file=-', says: 'the same, with the 24 words' },
    ],
    files: storeFiles,
  }),
  unseal: page({
    group: 'machine',
    summary: 'prove that the seed opens here, and show its key id',
    usage: ['[--json | --reveal]'],
    text: [],
    options: [{ name: 'reveal', help: 'print each seed as 24 words' }, json, root, device],
    statuses: {
      'pcr-mismatch': 'the machine did not boot as it did when it was sealed',
      'other-tpm': 'sealed to another TPM',
    },
    files: storeFiles,
  }),
  check: page({
    group: 'machine',
    summary: 'say what is wrong with the manifest',
    usage: ['[--json]', '--host=HOST [--json]'],
    text: [
      'Every problem with its file and line, and the way out. With --host= those of the manifest that the vault has for a host; what only the host knows, such as its users, auxcred push --dry-run judges there.',
    ],
    options: [json, root, host, vault, manifest],
    statuses: { 'invalid-manifest': 'the manifest has errors' },
    files: { ...manifestFiles, ...vaultFiles },
  }),
  plan: page({
    group: 'machine',
    summary: 'show what apply would change, and which units it would touch',
    usage: ['[--at=PERIOD] [--json]', '--host=HOST [--at=PERIOD] [--json]'],
    text: [
      'With --host= what the units of a host would get from the vault, without asking that host. auxcred push --dry-run asks it.',
    ],
    options: [
      { ...at, help: 'what will change by the start of a period: 2027-01' },
      json,
      acceptClock,
      acceptOlder,
      ...view,
    ],
    examples: [
      { command: 'auxcred plan --at=2027-01', says: 'what the new year will bring' },
      { command: 'auxcred plan --host=web1', says: "on the operator's side, before the host is there" },
    ],
  }),
  apply: page({
    group: 'machine',
    summary: 'put the manifest in force: drop-ins for the units, secrets for the broker',
    usage: ['[--dry-run] [--no-restart] [--no-wait]'],
    text: [
      'All of it, or nothing. Units that run are restarted or reloaded where one of their secrets changed, and apply waits until they run again, as long as systemd gives them. It says which do not, and why.',
    ],
    options: [dryRun, noRestart, noWait, acceptClock, acceptOlder, root, device],
    statuses: heldBack,
    files: manifestFiles,
    seeAlso: ['auxcred-plan(1)', 'auxcred-secrets(5)'],
  }),
  provision: page({
    group: 'machine',
    summary: "put the manifest's secrets in force, without touching the drop-ins",
    usage: ['[--dry-run] [--no-restart] [--no-wait]'],
    text: [
      'What a timer, a deploy tool or a configuration that renders the drop-ins itself runs. Running it twice changes nothing.',
    ],
    options: [
      dryRun,
      noRestart,
      noWait,
      { name: 'due', help: 'stop at once where no secret rotates' },
      { name: 'early', help: 'in early boot: no hooks, no restarts' },
      acceptClock,
      acceptOlder,
      root,
      device,
    ],
    statuses: heldBack,
    files: manifestFiles,
  }),
  ls: page({
    group: 'machine',
    summary: 'list the secrets that are declared, or those in the fixed folder',
    usage: ['[--json]', '--host=HOST', '[--fixed] [FOLDER]'],
    operands: ['fixed'],
    text: [
      "On a machine the secrets of its manifest, with --host= those of a host's, and in the vault or below a folder the tree of the fixed folder. Opens no seed.",
    ],
    options: [
      json,
      { name: 'fixed', help: 'the fixed folder, also where there is a manifest' },
      { name: 'flat', help: 'the fixed folder, one name a line' },
      group,
      ...view,
    ],
  }),
  graph: page({
    group: 'machine',
    summary: 'show which unit gets what, and what it is made of',
    usage: ['[--dot]'],
    text: [],
    options: [{ name: 'dot', help: 'for Graphviz' }, ...view],
    examples: [{ command: 'auxcred graph --dot | dot -Tsvg > secrets.svg', says: 'as a picture' }],
  }),
  get: page({
    group: 'machine',
    summary: 'print a secret',
    usage: ['NAME', '--at=PERIOD NAME', '--host=HOST NAME'],
    operands: ['secrets'],
    text: [
      "On a machine as it is in force, on the operator's side as it is now. The bytes alone, without a newline behind them.",
    ],
    options: [at, { name: 'generation', value: 'N', help: 'that of another generation' }, group, ...view],
    examples: [
      { command: 'auxcred get db-password --at=2026-07', says: 'for the backup of July' },
      { command: 'auxcred get admin --host=web1', says: "on the operator's side" },
    ],
    statuses: { 'not-found': 'no such secret' },
  }),
  public: page({
    group: 'machine',
    summary: 'print the public half of a key pair',
    usage: ['NAME', '--all [--json]'],
    operands: ['secrets'],
    text: [
      "On the operator's side without touching the host, before it is even there. --all without a host has every host of the vault.",
    ],
    options: [{ name: 'all', help: 'of every key pair' }, json, at, ...view],
    examples: [{ command: 'auxcred public --all --json --vault=DIR', says: 'for configuration to read' }],
  }),
  history: page({
    group: 'machine',
    summary: 'show what of a secret was in force when',
    usage: ['[--json] NAME'],
    operands: ['secrets'],
    text: [],
    options: [json, root, device],
  }),
  status: page({
    group: 'machine',
    summary: 'show at a glance whether units get their secrets, and what is in force',
    usage: ['[--no-open] [--json]'],
    text: [
      'Opens the seed to see that it opens, and asks the TPM and systemd. With --root= what needs a running system is left out.',
    ],
    options: [{ name: 'no-open', help: 'neither open the seed nor ask the TPM' }, json, root, device],
    statuses: { unwell: 'something has to be done: auxcred doctor says what' },
    seeAlso: ['auxcred-doctor(1)'],
  }),
  doctor: page({
    group: 'machine',
    summary: 'say what is wrong, why it matters, and the command that mends it',
    usage: ['[--all] [--json]'],
    text: ['Runs every check that it can. Notes are what somebody may have meant to be so, and make nothing unwell.'],
    options: [{ name: 'all', help: 'also what is well' }, json, root, device],
    statuses: { unwell: 'there is a problem or a warning' },
    seeAlso: ['auxcred-status(1)'],
  }),
  init: page({
    group: 'operator',
    summary: 'make the vault, with a new fleet seed or one from paper',
    usage: ['(--recipient=AGE... | --passphrase) [--print-words | --from-words]'],
    text: [
      "A host gets the seeds of its own scope and its groups', and nothing else follows from them; the fleet seed stays here.",
    ],
    options: [
      fleetRecipient,
      passphrase,
      passphraseFile,
      { name: 'print-words', help: 'show the fleet seed once as 24 words for paper' },
      { name: 'from-words', help: 'take the 24 words from standard input' },
      { name: 'git', help: "keep the vault's history in git, without the fleet seed" },
      vault,
    ],
    files: vaultFiles,
    statuses: { refused: 'there is a vault already' },
  }),
  rewrap: page({
    group: 'operator',
    summary: 'lock the fleet seed to other recipients or another passphrase',
    usage: ['(--recipient=AGE... | --passphrase)'],
    text: ['The seed, and so every secret, stays the same. Copies of the old file still open as they did.'],
    options: [
      fleetRecipient,
      passphrase,
      passphraseFile,
      { name: 'force', help: 'also where none of the keys at hand opens the new file' },
      identity,
      vault,
    ],
  }),
  enroll: page({
    group: 'operator',
    summary: 'say on a machine what it takes to seal to it, and keep that in the vault',
    usage: ['[--name=NAME] [--tpm2-device=DEVICE]', 'HOST --from=FILE [--replace]', 'HOST [--json]'],
    operands: ['hosts'],
    text: [
      "Without a host, on the machine itself: prints its ssh host key, the public half of its TPM's storage root key and its PCRs, none of which is a secret. With --from= the vault keeps that, and seals the host's seeds to it without the machine and without a TPM here. With a host alone: shows what is enrolled.",
      'In vault.toml with-key, tpm2-pcrs and recipients of [host.NAME] say what its seeds are sealed to.',
    ],
    options: [
      {
        name: 'from',
        value: 'FILE',
        help: 'what auxcred enroll printed on the machine; - is standard input',
        choices: 'file',
      },
      { name: 'replace', help: 'another machine than the one that is enrolled' },
      { name: 'name', value: 'NAME', help: 'on the machine: its name in the vault; else that of /etc/hostname' },
      { name: 'json', help: 'show what is enrolled as JSON for programs' },
      vault,
      root,
      device,
    ],
    examples: [
      {
        command: 'ssh root@web1 auxcred enroll | auxcred enroll web1 --from=-',
        says: 'once, while you know that it is web1 that answers',
      },
    ],
    statuses: { refused: 'another machine is enrolled under that name; --replace' },
    files: { ...vaultFiles, '~/.local/share/auxcred/enrolled/*.json': 'what the machines said of themselves' },
  }),
  push: page({
    group: 'operator',
    summary: 'bring hosts what they lack over ssh, and have them put it in force',
    usage: ['[--manifest] [--dry-run] HOST... | USER@HOST... | --all'],
    operands: ['hosts'],
    text: [
      "Sends the seeds where the host has none, or those of another epoch, the fixed files that changed and, with --manifest, the host's manifest. The host judges all of it before it writes anything, seals the seeds to its own TPM or ssh host key, and does what auxcred apply does. With --dry-run it judges the same and says which units it would restart. Many hosts at once; one that fails does not stop the others, and the next push finishes it.",
      'The seeds are sealed before they leave: to the TPM and PCRs that the host was enrolled with, else to its ssh host key. In vault.toml target of [host.NAME] says how ssh reaches it, and ssh which program that is.',
    ],
    options: [
      { name: 'all', help: 'every host of the vault' },
      { name: 'manifest', help: "also the manifest's files, into /etc/auxcred/secrets.d" },
      dryRun,
      json,
      { name: 'jobs', value: 'N', help: 'how many hosts at once; 16' },
      { name: 'timeout', value: 'SECONDS', help: 'how long one host may take; 300' },
      { name: 'reseal', help: 'send the seeds again, to be sealed as vault.toml says now' },
      { name: 'replace', help: 'overwrite a seed, fixed secrets and manifest files that no push brought' },
      noWait,
      acceptOlder,
      identity,
      vault,
    ],
    examples: [
      { command: 'auxcred push --manifest root@web1', says: 'the first time, and each time something changed' },
      { command: 'auxcred push --all --dry-run', says: 'what is not on the hosts yet' },
    ],
    statuses: unitFailed,
    files: vaultFiles,
    seeAlso: ['auxcred-copy(1)', 'auxcred-enroll(1)'],
  }),
  copy: page({
    group: 'operator',
    summary: 'say what a deploy tool has to bring to a host, or bring it into a folder',
    usage: ['[--json] HOST', '--to=DIR HOST'],
    operands: ['hosts'],
    text: [
      "The sealed seeds, what expects and opens them, fixed files and manifest, as pairs of source and destination. With --to= they are brought into DIR, which becomes the host's root, such as that of an installation. The host has to be enrolled, and seals natively at its first boot.",
    ],
    options: [
      { name: 'to', value: 'DIR', help: 'bring it into the system below DIR', choices: 'folder' },
      { name: 'no-seeds', help: 'fixed files and manifest alone' },
      { name: 'replace', help: 'also over seeds that are there' },
      json,
      identity,
      vault,
    ],
    examples: [
      { command: 'mkdir extra && auxcred copy --to=extra web1', says: 'for nixos-anywhere --extra-files extra' },
    ],
    files: vaultFiles,
    seeAlso: ['auxcred-push(1)', 'auxcred-enroll(1)'],
  }),
  scopes: page({
    group: 'operator',
    summary: 'print the seeds of a host, for auxcred seal --scopes=-',
    usage: ['HOST'],
    operands: ['hosts'],
    text: [],
    options: [{ name: 'reveal', help: 'also to a terminal' }, identity, vault],
    examples: [
      {
        command: 'auxcred scopes web1 | ssh root@web1 auxcred seal --scopes=-',
        says: 'from here to the host, by no disk',
      },
    ],
    files: vaultFiles,
  }),
  rekey: page({
    group: 'operator',
    summary: 'encrypt fixed secrets of earlier epochs anew',
    usage: ['[--next] [SCOPE...]'],
    operands: ['scopes'],
    text: [
      'After a theft: --next raises the epoch of the scopes in vault.toml, which gives every derived secret of theirs another value, and the files of the fixed folder are encrypted under it.',
      'Their values stay the same, and a thief of the old seed knows them: each is named, to be changed at its issuer.',
    ],
    options: [{ name: 'next', help: 'raise the epoch first' }, identity, vault],
    examples: [{ command: 'auxcred rekey --next host/web1', says: 'web1 was stolen' }],
    files: vaultFiles,
  }),
  put: page({
    group: 'fixed',
    summary: 'keep a secret that somebody chose',
    usage: ['NAME', '--file=FILE NAME'],
    operands: ['fixed'],
    text: ['Asks for it without an echo, or takes standard input or a file byte for byte.'],
    options: [
      { name: 'file', value: 'FILE', help: 'the bytes of a file; - is standard input', choices: 'file' },
      { name: 'line', help: 'the first line alone, without its end' },
      { name: 'multiline', help: 'several lines from the terminal, to ^D' },
      force,
      ...place,
    ],
    statuses: { refused: 'it exists; --force' },
  }),
  edit: page({
    group: 'fixed',
    summary: 'change a fixed secret in $VISUAL or $EDITOR, in memory',
    usage: ['NAME'],
    operands: ['fixed'],
    text: [],
    options: place,
  }),
  find: page({
    group: 'fixed',
    summary: 'list the fixed secrets that have a text in their names',
    usage: ['[--json] TEXT...'],
    text: ['Opens no seed.'],
    options: [json, ...place],
    statuses: { 'not-found': 'there is none' },
  }),
  rm: page({
    group: 'fixed',
    summary: 'delete a fixed secret',
    usage: ['NAME', '--recursive FOLDER'],
    operands: ['fixed'],
    text: [],
    options: [{ name: 'recursive', help: 'all that is below a name' }, { name: 'force', help: 'do not ask' }, ...place],
  }),
  mv: page({
    group: 'fixed',
    summary: 'give a fixed secret, or a folder of them, another name',
    usage: ['FROM TO'],
    operands: ['fixed'],
    text: [reencrypted],
    options: [force, ...place],
  }),
  cp: page({
    group: 'fixed',
    summary: 'copy a fixed secret, or a folder of them',
    usage: ['FROM TO'],
    operands: ['fixed'],
    text: [reencrypted],
    options: [force, ...place],
  }),
  generate: page({
    group: 'fixed',
    summary: 'keep a random secret that does not hang on the seed',
    usage: ['[--kind=KIND] NAME'],
    operands: ['fixed'],
    text: [
      "Never shows it; of a key pair it prints the public half. The options are those of the manifest's kinds, auxcred-secrets(5).",
    ],
    options: [
      { name: 'kind', value: 'KIND', help: 'password without it', choices: kindNames },
      { name: 'length', value: 'N', help: 'characters of a password' },
      {
        name: 'alphabet',
        value: 'ALPHABET',
        help: 'a name, or the characters themselves',
        choices: ['alnum', 'digits', 'upper', 'lower', 'hex', 'printable', 'readable', 'url'],
      },
      {
        name: 'require',
        value: 'CLASS',
        help: 'a class of characters that it must have',
        repeated: true,
        choices: characterClasses,
      },
      { name: 'words', value: 'N', help: 'words of a passphrase' },
      { name: 'separator', value: 'TEXT', help: 'between the words' },
      { name: 'capitalize', help: 'each word begins with a capital' },
      { name: 'bytes', value: 'N', help: 'random bytes of hex, base64 and bytes' },
      { name: 'comment', value: 'TEXT', help: 'whose ssh key it is' },
      { name: 'weak', help: 'allow fewer than 64 bits of strength' },
      force,
      ...place,
    ],
  }),
  import: page({
    group: 'fixed',
    summary: "take secrets over from another vault, or a folder's files",
    usage: ['VAULT TO [NAME...]', './FOLDER TO [NAME...]'],
    operands: ['vaults', 'scopes', 'file'],
    text: ['One that fails does not stop the others.'],
    options: [{ name: 'line', help: 'the first line of each alone, without its end' }, dryRun, force, ...place],
    examples: [{ command: 'auxcred import pass host/web1', says: 'all that pass has' }],
    statuses: { vault: 'some of them failed' },
  }),
  verify: page({
    group: 'fixed',
    summary: 'open every fixed secret, and say which is not what its name says',
    usage: ['[--json] [FOLDER]'],
    operands: ['fixed'],
    text: [],
    options: [json, ...place],
    statuses: { malformed: 'one of them does not open, or a file does not belong' },
  }),
  fetch: page({
    group: 'fixed',
    summary: 'get the secrets of kind "vault" from pass, age, sops, gokey or any command',
    usage: ['[--dry-run] [NAME...]'],
    operands: ['secrets'],
    text: ['Writes only values that changed. A vault that fails keeps what was fetched before, and the others go on.'],
    options: [dryRun, { name: 'all', help: 'also those that a vault says have not changed' }, ...view],
    statuses: { locked: 'another vault is locked', vault: 'another vault failed' },
  }),
  vault: page({
    group: 'fixed',
    summary: 'ask another vault by hand, to see what it answers',
    usage: ['list VAULT', 'get VAULT SECRET', 'fingerprint VAULT SECRET', 'copy VAULT --host=HOST'],
    operands: [['list', 'get', 'fingerprint', 'copy'], 'vaults'],
    text: [],
    options: [
      host,
      { name: 'option', value: 'KEY=VALUE', help: 'an option for the vault', repeated: true },
      { name: 'target', value: 'USER@HOST', help: 'where copy is to; root@HOST without it' },
      vault,
      root,
    ],
  }),
  gokey: page({
    group: 'fixed',
    summary: "gokey's own flags and bytes",
    usage: ['[-P FILE] -r REALM [-t TYPE] [-s FILE]'],
    text: [
      "The master password comes from a file, from GOKEY_ROOT_PASS or from the terminal; -p is refused, since every process can read the arguments of all others. The exit statuses are gokey's: 1 for whatever went wrong, 2 for flags that it does not understand.",
    ],
    options: [
      {
        name: 'P',
        value: 'FILE',
        help: 'the master password is in FILE (else in GOKEY_ROOT_PASS, else asked for)',
        choices: 'file',
      },
      { name: 'r', value: 'REALM', help: 'what the secret is for' },
      {
        name: 't',
        value: 'TYPE',
        help: 'pass, raw, ed25519, x25519, ec256, ec384, ec521 or seed; pass without it',
        choices: ['pass', 'raw', 'ed25519', 'x25519', 'ec256', 'ec384', 'ec521', 'seed'],
      },
      { name: 'l', value: 'LENGTH', help: 'characters of pass (10), bytes of raw (32)' },
      { name: 's', value: 'FILE', help: 'seed file, made by -t seed', choices: 'file' },
      { name: 'skip', value: 'N', help: "leave N bytes out at the seed file's beginning" },
      { name: 'u', help: 'allow keys and raw bytes without a seed file' },
      { name: 'o', value: 'FILE', help: 'write to FILE, for its owner only', choices: 'file' },
    ],
  }),
  receive: page({
    group: 'units',
    summary: 'take what auxcred push sends',
    usage: [''],
    text: [
      'Run by auxcred push, over ssh, as root. Says on standard output what is here, and takes what is missing from standard input.',
    ],
    options: [root, device],
    seeAlso: ['auxcred-push(1)'],
  }),
  files: page({
    group: 'units',
    summary: 'write the secrets that are delivered as files',
    usage: ['[--needed-for=users]'],
    text: [
      'Run at boot by auxcred-files.service and auxcred-user-files.service. Opens the seeds itself, since the broker may not be there yet.',
    ],
    options: [
      {
        name: 'needed-for',
        value: 'WHAT',
        help: 'only those that are needed before users are made: users',
        choices: ['users'],
      },
    ],
  }),
  stage: page({
    group: 'units',
    summary: "write a unit's staged secrets to /run/credstore",
    usage: ['UNIT [CREDENTIAL...]'],
    text: [
      'Drop-ins have it in ExecStartPre= where unit and credential have too long a name for the socket. Fails unless every CREDENTIAL is among them.',
    ],
    options: [],
    statuses: { refused: 'the broker refused' },
  }),
  names: page({
    group: 'units',
    summary: 'print names for a shell to complete, one a line',
    usage: ['(secrets | fixed | hosts | groups | scopes | vaults | verbs)'],
    operands: [['secrets', 'fixed', 'hosts', 'groups', 'scopes', 'vaults', 'verbs']],
    text: ['Opens no seed, and prints nothing where there is nothing to read.'],
    options: [host, group, vault, root],
  }),
} satisfies Readonly<Record<string, VerbEntry>>;

export type Verb = keyof typeof manual;

export const verbNames = Object.keys(manual).filter(isVerb);

/** Whether a word of the command line is a verb. */
export function isVerb(text: string): text is Verb {
  return Object.hasOwn(manual, text);
}

/** gokey's flags are gokey's own. */
export const hasOwnFlags = (verb: Verb): boolean => verb === 'gokey';

/** An option as it is written: `--root=DIR`, and gokey's `-P FILE`. */
export function written(verb: Verb, { name, value }: OptionEntry): string {
  if (hasOwnFlags(verb)) return `-${name}${value === undefined ? '' : ` ${value}`}`;
  return `--${name}${value === undefined ? '' : `=${value}`}`;
}
