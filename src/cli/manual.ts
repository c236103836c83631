/**
 * The whole command in one table: what each verb does, its operands and its options. The parser, --help, the manual
 * pages and shell completion all read it, so they cannot disagree.
 */
import { characterClasses, kindNames } from '../derive/kind.ts';
import type { FailureCode } from '../failure.ts';

/** The lists of names that `auxcred names` prints. */
export const nameLists = ['secrets', 'fixed', 'hosts', 'groups', 'scopes', 'vaults', 'verbs', 'examples'] as const;

/** What a shell offers to complete a word: one of these lists, or paths. */
export type Wanted = (typeof nameLists)[number] | 'file' | 'folder';

export interface OptionEntry {
  /** Without the dashes. */
  readonly name: string;
  /** Placeholder of the value; undefined for a flag. */
  readonly value?: string;
  /** Whether the option may be given without its value. */
  readonly optional?: boolean;
  /** A line without a full stop. */
  readonly help: string;
  /** Whether it may be given several times. */
  readonly repeated?: boolean;
  /** The values it takes: all of them, or where a shell finds them. */
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
  /** Operands, one entry per way of calling it. */
  readonly usage: readonly string[];
  /** What a shell offers for each operand; the last entry also serves all that follow. */
  readonly operands?: readonly (readonly string[] | Wanted)[];
  readonly text: readonly string[];
  readonly options: readonly OptionEntry[];
  readonly examples?: readonly Example[];
  /** Exit statuses with a meaning of their own for this verb. */
  readonly statuses?: Readonly<Partial<Record<FailureCode, string>>>;
  readonly files?: Readonly<Record<string, string>>;
  readonly seeAlso?: readonly string[];
}

/** The sections of `auxcred --help` and their headings. */
export const groups = {
  machine: 'This machine',
  operator: "The operator's vault, from which the seeds of all hosts come",
  fixed: 'Secrets that somebody else issued, in the vault (host/web1/wifi, group/db/token) or on this machine (wifi)',
  units: 'Called by units, shells and auxcred push',
} as const;
export type Group = keyof typeof groups;

/** Seconds that a conversation with one host may take, unless `--timeout=` says otherwise. */
export const usualTimeout = 300;

export const graphFormats = ['text', 'svg', 'dot'] as const;

const json: OptionEntry = { name: 'json', help: 'print JSON for programs' };
const root: OptionEntry = {
  name: 'root',
  value: 'DIR',
  help: 'work on the system below DIR, such as one being installed',
  choices: 'folder',
};
const device: OptionEntry = {
  name: 'tpm2-device',
  value: 'DEVICE',
  help: 'the TPM: device:/dev/tpmrm0 (the default), swtpm:path=SOCKET',
};
const installedDevice: OptionEntry = {
  name: 'installed-tpm2-device',
  value: 'DEVICE',
  help: 'with --root=: the TPM as the installed system finds it; default: the one it has, or device:/dev/tpmrm0',
};
const vault: OptionEntry = {
  name: 'vault',
  value: 'DIR',
  help: "the operator's vault; else $AUXCRED_VAULT, else ~/.local/share/auxcred",
  choices: 'folder',
};
const host: OptionEntry = { name: 'host', value: 'HOST', help: 'the secrets of a host in the vault', choices: 'hosts' };
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
  help: 'a folder with the manifest; the first takes precedence',
  repeated: true,
  choices: 'folder',
};
const inGeneration: OptionEntry = { name: 'generation', value: 'N', help: 'the value in another generation' };
const force: OptionEntry = { name: 'force', help: 'replace what is there' };
const dryRun: OptionEntry = { name: 'dry-run', help: 'say what would be done, and change nothing' };
const noRestart: OptionEntry = { name: 'no-restart', help: 'leave running units alone' };
const noWait: OptionEntry = { name: 'no-wait', help: 'restart units, but do not wait until they run' };
const acceptClock: OptionEntry = {
  name: 'accept-clock',
  help: 'activate a period before the recorded one',
};
const acceptOlder: OptionEntry = {
  name: 'accept-older',
  help: 'accept a fixed file or a seeds.age that was already replaced by a newer one',
};
const cmdline: OptionEntry = {
  name: 'cmdline',
  value: 'TEXT',
  help: "with --predict: a command line that replaces the entry's options, or is added to the UKI's",
};
const withKey: OptionEntry = {
  name: 'with-key',
  value: 'KEY',
  help:
    'host (the ssh host key), tpm2, tpm2+host (both needed), systemd-creds (whatever systemd encrypts to) or auto ' +
    '(tpm2 if there is a TPM)',
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
  help: 'bind to the current values of these TPM registers, such as 4+7',
  choices: ['4+7', '0+4+7', '7'],
};
const authority: readonly OptionEntry[] = [
  {
    name: 'tpm2-public-key',
    value: 'FILE',
    help: "bind to registers whose values the owner of this key signed: the public half of ukify's PCR key, in PEM",
    choices: 'file',
  },
  { name: 'tpm2-public-key-pcrs', value: 'PCRS', help: 'the registers that are signed; default: 11', choices: ['11'] },
  {
    name: 'tpm2-signature',
    value: 'FILE',
    help: "the file with the signatures; default: tpm2-pcr-signature.json in systemd's folders, such as /run/systemd",
    choices: 'file',
  },
  {
    name: 'tpm2-pcrlock',
    value: 'FILE',
    help: 'bind to what systemd-pcrlock predicts; FILE is its /var/lib/systemd/pcrlock.json',
    choices: 'file',
  },
];
const lockAfterUnseal: OptionEntry = {
  name: 'lock-after-unseal',
  help: 'once the broker has the seed, nobody can open it until the next boot',
};
const acceptWeak: OptionEntry = {
  name: 'accept-weak',
  help: 'bind PCRs even if they have the same value whatever boots',
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
  help: 'the value in a period: 2026, 2026-Q4, 2026-11, 2026-W47, 2026-11-23',
};

/** Options that say whose declared secrets are meant. */
const view = [host, vault, root, device, identity, manifest];
/** Options that say which fixed folder is meant. */
const place = [host, group, vault, root, device, identity];

const storeFiles = {
  '/var/lib/auxcred/seeds.age': 'the sealed seeds',
  '/etc/auxcred/scopes.json': 'the key ids that this machine expects',
};
const manifestFiles = { '/etc/auxcred/secrets.d/*.toml': 'the manifest; auxcred-secrets(5)' };
const vaultFiles = { '~/.local/share/auxcred/vault.toml': 'hosts, groups and other vaults' };

const unitFailed = { 'unit-failed': 'everything is active, but a unit that was restarted does not run' };
const heldBack = {
  ...unitFailed,
  clock: 'the clock is before a recorded period',
  hook: 'a hook failed, so its secret is unchanged',
  older: 'a fixed file is older than the active one',
};
const reencrypted = 'The file is re-encrypted, since its name is part of its key.';

const page = (entry: VerbEntry): VerbEntry => entry;

/** Every verb. */
export const manual = {
  seal: page({
    group: 'machine',
    summary: "create or import this machine's seed, and seal it to the machine",
    usage: [
      '[--with-key=KEY] [--tpm2-pcrs=PCRS] (--recipient=AGE... | --print-words | --no-recovery)',
      '--scopes=FILE [--with-key=KEY] [--tpm2-pcrs=PCRS]',
    ],
    text: [
      'Every secret of this machine is derived from its seed, which is kept in one age file. Only this machine and ' +
        'the recovery recipients can open it. A new seed needs a way to recover it: recipients, 24 words on paper, ' +
        'or --no-recovery.',
      "With --root= the PCRs have the installer's values, so the seed is sealed without them, and " +
        'auxcred-bind.service binds them at the first boot. --tpm2-device= is then how the installer reaches the TPM, ' +
        'and is not recorded.',
      'A machine that boots signed unified kernel images is best sealed with --tpm2-public-key=: the seed then opens ' +
        'with every image that the owner of the key signs. If --tpm2-pcrs= is given too, both have to hold. With both ' +
        '--tpm2-public-key= and --tpm2-pcrlock=, either opens the seed, so the weaker decides.',
      'With --lock-after-unseal the broker extends a PCR as soon as it has the seed, and then runs until the ' +
        'machine reboots. Commands that need the seed fail with status 24 until then: apply, provision, get, and so ' +
        'on. A changed manifest and a new period become active at the next boot. Hooks do not run.',
    ],
    options: [
      withKey,
      credsKey,
      pcrs,
      ...authority,
      lockAfterUnseal,
      acceptWeak,
      {
        name: 'recipient',
        value: 'AGE',
        help: 'an age recipient that can open the seed without this machine',
        repeated: true,
      },
      { name: 'print-words', help: 'show the seed once as 24 words for paper' },
      { name: 'no-recovery', help: 'have no way to recover the seed: it dies with the machine' },
      {
        name: 'scopes',
        value: 'FILE',
        help: 'seal the seeds that auxcred scopes printed; - is standard input',
        choices: 'file',
      },
      {
        name: 'seed-file',
        value: 'FILE',
        help: 'seal a seed of 32 bytes, or its 24 words; - is standard input',
        choices: 'file',
      },
      { name: 'name', value: 'NAME', help: "the host's name in its scope; default: the one in /etc/hostname" },
      { name: 'replace', help: 'replace the sealed seed' },
      acceptOlder,
      root,
      device,
      installedDevice,
    ],
    examples: [
      {
        command: 'auxcred seal --with-key=tpm2 --tpm2-pcrs=4+7 --recipient=age1...',
        says: 'a new seed, sealed to the TPM, with a recovery key',
      },
      {
        command: 'auxcred seal --with-key=tpm2 --tpm2-public-key=/run/systemd/tpm2-pcr-public-key.pem --print-words',
        says: 'opens with every kernel image that is signed with the same key as the running one',
      },
      {
        command: 'auxcred scopes web1 | ssh root@web1 auxcred seal --scopes=-',
        says: 'seal a host to the seeds that the vault derives for it',
      },
      { command: 'auxcred seal --replace --seed-file=-', says: 'the same seed again, from the words on paper' },
    ],
    statuses: { refused: 'a seed is already sealed; --replace' },
    files: storeFiles,
    seeAlso: ['auxcred-reseal(1)', 'auxcred-unseal(1)'],
  }),
  reseal: page({
    group: 'machine',
    summary: 'seal the same seed again: to the current PCRs, another key, other recovery keys',
    usage: [
      '[--tpm2-pcrs=PCRS | --no-tpm2-pcrs] [--add-branch]',
      '[--tpm2-public-key=FILE | --no-tpm2-public-key] [--tpm2-pcrlock=FILE | --no-tpm2-pcrlock]',
      '--predict[=UKI|=ENTRY] [--cmdline=TEXT] | --installed',
      '[--with-key=KEY] [--add-recipient=AGE...] [--remove-recipient=AGE...]',
      '--identity=FILE... | --seed-file=FILE | --scopes=FILE',
    ],
    text: [
      "Without options the key, the set of PCRs and the recovery recipients stay the same, and the PCRs' current " +
        'values are bound: run it after an update of the boot chain. No secret changes. The new file is test-opened ' +
        'before it replaces the old one.',
      'A seed can have up to eight branches: sets of literal values, any of which opens it. --add-branch adds one for ' +
        "this boot; without it, only this boot's stays. --predict=ENTRY adds one for a boot to come, and --predict " +
        'alone for the entry that boots by default. --installed adds one for each installed UKI and boot entry, and ' +
        'removes those of what is gone; it does nothing if no bound PCR changes with the kernel. The hooks of ' +
        'kernel-install, Debian and NixOS run it. If eight are not enough, the branches of what is not installed go ' +
        'first, oldest first.',
      'A predicted value that is not sure is named, with the reason. If it turns out to be different, its branch ' +
        'opens nothing, and the others still do.',
    ],
    options: [
      withKey,
      credsKey,
      pcrs,
      { name: 'no-tpm2-pcrs', help: 'stop binding literal values of PCRs' },
      {
        name: 'predict',
        value: 'ENTRY',
        optional: true,
        help: 'add the values of a boot before it happens: the path of a UKI or boot entry, or its id; default: what boots next',
        choices: 'file',
      },
      cmdline,
      {
        name: 'installed',
        help: 'add a branch for every installed UKI and boot entry, and remove those of what is gone',
      },
      { name: 'add-branch', help: "keep the literal values that open the seed now, and add this boot's" },
      ...authority,
      { name: 'no-tpm2-public-key', help: 'stop binding to signed values' },
      { name: 'no-tpm2-pcrlock', help: 'stop binding to predicted values' },
      lockAfterUnseal,
      { name: 'no-lock-after-unseal', help: 'let the seed open on a running system again' },
      acceptWeak,
      { name: 'add-recipient', value: 'AGE', help: 'add an age recipient for recovery', repeated: true },
      { name: 'remove-recipient', value: 'AGE', help: 'remove a recovery recipient', repeated: true },
      {
        name: 'identity',
        value: 'FILE',
        help: "open the seed with this recovery identity if the machine itself can't",
        repeated: true,
        choices: 'file',
      },
      {
        name: 'seed-file',
        value: 'FILE',
        help: 'bring the seed, 32 bytes or its 24 words, if nothing opens it; - is standard input',
        choices: 'file',
      },
      {
        name: 'scopes',
        value: 'FILE',
        help: 'bring the seeds, as auxcred scopes prints them; - is standard input',
        choices: 'file',
      },
      {
        name: 'first-boot',
        help: 'do nothing unless an installation or auxcred copy left seeds for the first boot to seal',
      },
      acceptOlder,
      root,
      device,
      installedDevice,
    ],
    examples: [
      { command: 'auxcred reseal', says: 'after a firmware update, while the seed still opens' },
      {
        command: 'auxcred reseal --identity=/media/usb/recovery.txt',
        says: 'after an update that locked the machine out',
      },
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
    summary: 'report what is wrong with the manifest',
    usage: ['[--servable] [--json]', '--manifest=DIR [--servable] [--json]', '--host=HOST [--json]'],
    text: [
      'Prints every problem with its file, its line and a fix. With --host= it checks the manifest that the vault ' +
        'has for a host; what only the host knows, such as its users, is checked by auxcred push --dry-run.',
      'With --servable it also opens the seed of this machine, finds the fixed files and computes every value. It ' +
        'changes nothing, and exits with 0 only if every secret could be delivered now: a deployment calls it before ' +
        'it stops anything. With --manifest= it judges another manifest, such as that of the next configuration.',
    ],
    options: [
      json,
      { name: 'servable', help: 'also name the secrets that this machine could not deliver now' },
      {
        name: 'with-key',
        value: 'KEY',
        help: 'with --servable: a key that the broker would have; a seed that is sealed to another key is refused',
        choices: ['host', 'tpm2', 'tpm2+host', 'systemd-creds'],
        repeated: true,
      },
      root,
      host,
      vault,
      manifest,
      device,
    ],
    statuses: {
      'invalid-manifest': 'the manifest has errors',
      refused: 'with --with-key: the seed is sealed to another key',
      'not-found': 'with --servable: no seed is sealed, or a seed or a fixed secret is missing',
    },
    files: { ...manifestFiles, ...vaultFiles },
  }),
  plan: page({
    group: 'machine',
    summary: 'show what apply would change, and which units it would touch',
    usage: ['[--at=PERIOD] [--json]', '--host=HOST [--at=PERIOD] [--json]'],
    text: [
      'With --host= it shows what the units of a host would get from the vault, without asking that host. auxcred ' +
        'push --dry-run asks it.',
    ],
    options: [
      { ...at, help: 'show what will have changed at the start of a period: 2027-01' },
      json,
      acceptClock,
      acceptOlder,
      ...view,
    ],
    examples: [
      { command: 'auxcred plan --at=2027-01', says: 'what the new year will bring' },
      { command: 'auxcred plan --host=web1', says: "on the operator's side, before the host exists" },
    ],
  }),
  apply: page({
    group: 'machine',
    summary: 'activate the manifest: drop-ins for the units, secrets for the broker',
    usage: ['[--dry-run] [--no-restart] [--no-wait]'],
    text: [
      'All of it, or nothing. Running units are restarted or reloaded if one of their secrets changed, and apply ' +
        'waits until they run again, for as long as systemd allows. It says which do not, and why.',
    ],
    options: [dryRun, noRestart, noWait, acceptClock, acceptOlder, root, device],
    statuses: { ...heldBack, usage: 'a wrong call, or the configuration renders the drop-ins' },
    files: manifestFiles,
    seeAlso: ['auxcred-plan(1)', 'auxcred-secrets(5)'],
  }),
  provision: page({
    group: 'machine',
    summary: "activate the manifest's secrets, without touching the drop-ins",
    usage: ['[--dry-run] [--no-restart] [--no-wait]'],
    text: [
      'For timers, deploy tools, and configurations that render the drop-ins themselves. It is idempotent.',
      'With --by-configuration it is part of the switch of such a configuration: the switch restarts the units whose ' +
        'secrets it declares differently, and provision those whose fixed value or period changed, without waiting ' +
        'for them. If it fails, what is declared differently is withheld until it succeeds.',
    ],
    options: [
      dryRun,
      noRestart,
      noWait,
      { name: 'due', help: 'exit at once if no secret rotates' },
      { name: 'early', help: 'run in early boot: no hooks, no restarts' },
      {
        name: 'by-configuration',
        help: 'act as --early at boot; in a switch, leave units that the configuration changed to the switch',
      },
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
    summary: 'list the declared secrets, or those in the fixed folder',
    usage: ['[--json]', '--host=HOST', '[--fixed] [FOLDER]'],
    operands: ['fixed'],
    text: [
      "Lists the secrets of this machine's manifest, or with --host= those of a host's; in the vault, or for a " +
        'FOLDER, the tree of the fixed folder. Opens no seed.',
    ],
    options: [
      json,
      { name: 'fixed', help: 'list the fixed folder even if there is a manifest' },
      { name: 'flat', help: 'list the fixed folder, one name per line' },
      group,
      ...view,
    ],
  }),
  example: page({
    group: 'machine',
    summary: 'print a tested example: the manifest and configuration of a service, as a shell script',
    usage: ['[NAME]'],
    operands: ['examples'],
    text: [
      'Without a name it lists the examples. With one it prints a shell script that writes the files of that example, ' +
        'each to its own path. Nothing changes until a shell runs the script. The page of the service, in ' +
        '/usr/share/doc/auxcred/docs/services, says what comes before and after.',
    ],
    options: [],
    examples: [
      { command: 'auxcred example postgresql', says: 'read it' },
      { command: 'auxcred example postgresql | sh', says: 'write its files' },
    ],
    statuses: { 'not-found': 'there is no such example' },
    files: { '/usr/share/doc/auxcred/examples': 'the files' },
  }),
  graph: page({
    group: 'machine',
    summary: 'show which unit gets what, and what it is made of',
    usage: ['[--format=FORMAT]'],
    text: [],
    options: [
      {
        name: 'format',
        value: 'FORMAT',
        help: 'text (default), svg for a picture, or dot for Graphviz',
        choices: graphFormats,
      },
      ...view,
    ],
    examples: [{ command: 'auxcred graph --format=svg > secrets.svg', says: 'as a picture' }],
  }),
  get: page({
    group: 'machine',
    summary: 'print a secret',
    usage: ['NAME', '--at=PERIOD NAME', '--host=HOST NAME'],
    operands: ['secrets'],
    text: [
      "On a machine, the active value; on the operator's side, today's value. Prints the bytes alone, without a " +
        'trailing newline, and to a terminal only text.',
    ],
    options: [at, inGeneration, group, ...view],
    examples: [
      { command: 'auxcred get db-password --at=2026-07', says: 'for the backup of July' },
      { command: 'auxcred get admin --host=web1', says: "on the operator's side" },
    ],
    statuses: { 'not-found': 'no such secret' },
  }),
  run: page({
    group: 'machine',
    summary: 'run a command with secrets, as files or in its environment',
    usage: ['[--file=NAME[=SECRET]...] [--env=NAME=SECRET...] -- COMMAND [ARGUMENT...]'],
    text: [
      'For development shells and scripts. A file is $CREDENTIALS_DIRECTORY/NAME, where a unit finds its credential, so ' +
        'that a program needs nothing else here. It is a link to a descriptor of memory that no disk holds, which is ' +
        'overwritten when COMMAND ends. Programs that COMMAND starts inherit it unless, as sudo does, they close ' +
        'descriptors; another user opens none.',
      '--env is for programs that read nothing but variables. Every program that they start inherits those: prefer files.',
      'SECRET is a name that auxcred get takes. Signals go to COMMAND, and auxcred ends as it does.',
    ],
    options: [
      { name: 'file', value: 'NAME[=SECRET]', help: 'a file in $CREDENTIALS_DIRECTORY', repeated: true },
      { name: 'env', value: 'NAME=SECRET', help: 'an environment variable', repeated: true },
      group,
      ...view,
    ],
    examples: [
      { command: 'auxcred run --file=db-password -- ./web', says: 'as web.service gets it' },
      {
        command: "auxcred run --file=key=deploy-key -- sh -c 'ssh -i $CREDENTIALS_DIRECTORY/key web1'",
        says: 'a key for one call',
      },
      { command: 'auxcred run --env=GH_TOKEN=group/dev/github -- gh repo list', says: 'a fixed secret of the vault' },
    ],
    statuses: { 'not-found': 'no such secret; 127: no such COMMAND; 126: COMMAND can not be run' },
  }),
  public: page({
    group: 'machine',
    summary: 'print the public half of a key pair',
    usage: ['NAME', '--all [--json] [--check=FILE]'],
    operands: ['secrets'],
    text: [
      "On the operator's side it does not contact the host, which need not exist yet. --all without a host covers " +
        'every host of the vault.',
      'A configuration reads the file that --all --json writes, and --check says whether that file is current.',
    ],
    options: [
      { name: 'all', help: 'print the public halves of all key pairs' },
      { name: 'check', value: 'FILE', help: 'compare with what --all --json wrote to FILE', choices: 'file' },
      json,
      at,
      inGeneration,
      ...view,
    ],
    examples: [
      { command: 'auxcred public --all --json > public.json', says: 'for configuration to read' },
      { command: 'auxcred public --all --check=public.json', says: 'in a test, before a commit' },
      { command: 'auxcred public deploy-key --generation=2', says: 'for a server that learns the next key first' },
    ],
    statuses: { refused: 'FILE is not current' },
  }),
  history: page({
    group: 'machine',
    summary: 'show when which value of a secret was active',
    usage: ['[--json] NAME'],
    operands: ['secrets'],
    text: [],
    options: [json, root, device],
  }),
  status: page({
    group: 'machine',
    summary: 'show at a glance whether units get their secrets, and what is active',
    usage: ['[--no-open] [--json]', '[--no-open] --prometheus [--output=FILE]'],
    text: [
      'Tests that the seed opens, and asks the TPM and systemd. With --root= it leaves out what needs a running ' +
        'system.',
      "--prometheus prints metrics for node_exporter's textfile collector, and exits with 0 whatever they say.",
    ],
    options: [
      { name: 'no-open', help: 'neither open the seed nor ask the TPM' },
      json,
      { name: 'prometheus', help: 'print metrics for Prometheus' },
      { name: 'output', value: 'FILE', help: 'write the metrics to FILE, replacing it atomically', choices: 'file' },
      root,
      device,
    ],
    examples: [
      {
        command: 'auxcred status --prometheus --output=/var/lib/prometheus/node-exporter/auxcred.prom',
        says: 'for node_exporter',
      },
    ],
    statuses: { unwell: 'something needs attention: auxcred doctor says what' },
    seeAlso: ['auxcred-doctor(1)'],
  }),
  doctor: page({
    group: 'machine',
    summary: 'say what is wrong, why it matters, and the command that fixes it',
    usage: ['[--all] [--json]'],
    text: ['Runs every check that it can. Notes are about what may be intended, and do not change the exit status.'],
    options: [{ name: 'all', help: 'also print the checks that passed' }, json, root, device],
    statuses: { unwell: 'there is a problem or a warning' },
    seeAlso: ['auxcred-status(1)'],
  }),
  measured: page({
    group: 'machine',
    summary: 'show what this boot measured, PCR by PCR, beside what the seed is sealed to',
    usage: ['[--json] [--log=FILE [--userspace-log=FILE]]', '--predict[=UKI|=ENTRY] [--cmdline=TEXT]'],
    text: [
      "Reads the firmware's log and systemd's, computes the PCR values that they lead to, and compares these with the " +
        "TPM's and with those that the seed is sealed to. It does not open the seed.",
      'If a PCR changed since the seal, it names the component that changed, from what seal kept in ' +
        '/var/lib/auxcred/measured.json.',
      'With --predict it computes the PCR values of a boot to come, says which of them are sure, and whether the seed ' +
        'will open. It assumes that everything else stays as it is.',
    ],
    options: [
      {
        name: 'predict',
        value: 'ENTRY',
        optional: true,
        help: 'predict a boot: the path of a UKI or boot entry, or its id; default: what boots next',
        choices: 'file',
      },
      cmdline,
      {
        name: 'log',
        value: 'FILE',
        help: "a copy of the firmware's log, in place of /sys/kernel/security/tpm0/binary_bios_measurements",
        choices: 'file',
      },
      {
        name: 'userspace-log',
        value: 'FILE',
        help: "the copy of systemd's log that belongs to it, in place of /run/log/systemd/tpm2-measure.log",
        choices: 'file',
      },
      json,
      root,
      device,
    ],
    statuses: { 'not-found': 'no boot was measured', malformed: 'a log is damaged' },
    seeAlso: ['auxcred-doctor(1)'],
  }),
  audit: page({
    group: 'machine',
    summary: 'show which unit got which secret, and when; check that the records are intact',
    usage: [
      '[--since=TIME] [--until=TIME] [--boot=ID] [--unit=UNIT] [--secret=NAME] [--refused] [-n N] [--json]',
      '--verify [--public-key=FILE] [--file=FILE... | --directory=DIR] [--json]',
      '--key',
    ],
    text: [
      'Shows what the broker released and refused, from the journal, selected by fields that only journald sets. Times are ' +
        "in the system's time zone, as in --since. It never shows a value.",
      'The records are a chain: each holds the hash of those before it. In quiet moments the broker signs it with a key ' +
        'that is derived from the seed. If the seed is sealed to a TPM, the TPM signs it too, with a counter and its ' +
        "clock. --verify finds a record that was removed, altered, copied or moved, and says what it can't know.",
      "It can't find: records that are missing at the beginning, since journald drops old ones; a few seconds of " +
        'records at the end, which no signature vouches for yet; a longer end, signatures included, in an ' +
        'exported journal, or if the seed is not sealed to a TPM and the state in /var/lib/auxcred-audit was put back ' +
        'too; and what root does without the broker. Without a TPM, root has the seed and can sign other records. With ' +
        "one, that shows in the TPM's statements, since none can be made for the past. A power cut may take the last " +
        'records, which looks the same as if somebody had.',
      'Files that root writes for delivery = "file" are shown, but are not part of the chain.',
      'An auditor elsewhere needs the journal, and what --key printed while the machine was trusted.',
    ],
    options: [
      { name: 'since', value: 'TIME', help: 'only from then on; as journalctl takes it: yesterday, "2 hours ago"' },
      { name: 'until', value: 'TIME', help: 'only up to then' },
      { name: 'boot', value: 'ID', help: 'only one boot: 0 for this one, -1 for the one before' },
      { name: 'unit', value: 'UNIT', help: 'only one unit, or all instances of a template' },
      { name: 'secret', value: 'NAME', help: 'only one secret', choices: 'secrets' },
      { name: 'refused', help: 'only what was refused, and why' },
      { name: 'n', value: 'N', help: 'only the last N records' },
      { name: 'verify', help: 'check the chain' },
      {
        name: 'public-key',
        value: 'FILE',
        help: "check with these keys instead of the machine's own, which only root can derive",
        choices: 'file',
      },
      { name: 'key', help: 'print the public keys, for an auditor' },
      {
        name: 'file',
        value: 'FILE',
        help: 'a journal file, or a pattern that matches several',
        repeated: true,
        choices: 'file',
      },
      { name: 'directory', value: 'DIR', help: 'the folder of an exported journal', choices: 'folder' },
      json,
      root,
      device,
    ],
    examples: [
      { command: 'auxcred audit --refused --since=yesterday', says: 'what was refused, and why' },
      { command: 'auxcred audit --key > web1.keys', says: 'the public keys, to keep elsewhere' },
      {
        command: 'auxcred audit --verify --public-key=web1.keys --directory=web1/journal',
        says: 'checks a copy of the journal',
      },
    ],
    files: { '/var/lib/auxcred-audit/chain': 'the last record that the broker wrote' },
    statuses: {
      unwell: 'a record was removed, altered, copied or moved',
      'not-found': 'there is no chain in this journal',
      malformed: 'a file of public keys is damaged',
    },
    seeAlso: ['journalctl(1)'],
  }),
  init: page({
    group: 'operator',
    summary: 'create the vault, with a new fleet seed or one from paper',
    usage: ['(--recipient=AGE... | --passphrase) [--print-words | --from-words]'],
    text: [
      'A host gets the seeds of its own scope and of its groups, from which nothing else can be derived. The fleet ' +
        'seed stays here.',
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
    statuses: { refused: 'the vault has a fleet seed, or what one left: fixed secrets, enrolled hosts' },
  }),
  rewrap: page({
    group: 'operator',
    summary: 're-encrypt the fleet seed to other recipients or another passphrase',
    usage: ['(--recipient=AGE... | --passphrase)'],
    text: ['The seed, and so every secret, stays the same. Copies of the old file can still be opened as before.'],
    options: [
      fleetRecipient,
      passphrase,
      passphraseFile,
      { name: 'force', help: 'write the new file even if none of the available keys opens it' },
      identity,
      vault,
    ],
  }),
  enroll: page({
    group: 'operator',
    summary: "print a machine's public keys, and keep them in the vault to seal to",
    usage: ['[--name=NAME] [--tpm2-device=DEVICE]', 'HOST --from=FILE [--replace]', 'HOST [--json]'],
    operands: ['hosts'],
    text: [
      "Without a host, on the machine itself: prints its ssh host key, the public half of its TPM's storage root " +
        "key and its PCRs, none of which is secret. With --from= the vault stores them, and can then seal the host's " +
        'seeds without the machine and without a TPM here. With a host alone: shows what is enrolled.',
      'The keys with-key, tpm2-pcrs and recipients of [host.NAME] in vault.toml say what its seeds are sealed to.',
    ],
    options: [
      {
        name: 'from',
        value: 'FILE',
        help: 'what auxcred enroll printed on the machine; - is standard input',
        choices: 'file',
      },
      { name: 'replace', help: 'enroll another machine in place of the enrolled one' },
      { name: 'name', value: 'NAME', help: 'on the machine: its name in the vault; default: the one in /etc/hostname' },
      { name: 'json', help: 'show what is enrolled as JSON for programs' },
      vault,
      root,
      device,
    ],
    examples: [
      {
        command: 'ssh root@web1 auxcred enroll | auxcred enroll web1 --from=-',
        says: 'once, while you are sure that it is web1 that answers',
      },
    ],
    statuses: { refused: 'another machine is enrolled under that name; --replace' },
    files: { ...vaultFiles, '~/.local/share/auxcred/enrolled/*.json': "the enrolled machines' public keys and PCRs" },
  }),
  push: page({
    group: 'operator',
    summary: 'send hosts what they lack over ssh, and activate it there',
    usage: ['[--manifest] [--dry-run] HOST... | USER@HOST... | --all'],
    operands: ['hosts'],
    text: [
      'Sends the seeds if the host has none or those of another epoch, the fixed files that changed and, with ' +
        "--manifest, the host's manifest. The host checks all of it before it writes anything, seals the seeds to " +
        'its own TPM or ssh host key, and does what auxcred apply does. With --dry-run it makes the same checks and ' +
        'says which units it would restart. Hosts are served in parallel; one that fails does not stop the others, ' +
        'and the next push finishes it.',
      'The seeds are sealed before they leave: to the TPM and PCRs that the host was enrolled with, else to its ' +
        'ssh host key. In vault.toml, target of [host.NAME] is the ssh destination, and ssh is the ssh program.',
    ],
    options: [
      { name: 'all', help: 'push to every host of the vault' },
      { name: 'manifest', help: "also send the manifest's files to /etc/auxcred/secrets.d" },
      dryRun,
      json,
      { name: 'jobs', value: 'N', help: 'hosts in parallel; default: 16' },
      { name: 'timeout', value: 'SECONDS', help: `how long one host may take; default: ${String(usualTimeout)}` },
      { name: 'reseal', help: 'send the seeds again, to be sealed as vault.toml now says' },
      { name: 'replace', help: 'overwrite a seed, fixed secrets and manifest files that did not come from a push' },
      {
        name: 'require-attestation',
        help: 'send nothing to a host that auxcred attest refuses, like require-attestation = true in vault.toml',
      },
      noWait,
      acceptOlder,
      identity,
      vault,
    ],
    examples: [
      { command: 'auxcred push --manifest root@web1', says: 'the first time, and whenever something changed' },
      { command: 'auxcred push --all --dry-run', says: 'what the hosts do not have yet' },
    ],
    statuses: unitFailed,
    files: vaultFiles,
    seeAlso: ['auxcred-attest(1)', 'auxcred-copy(1)', 'auxcred-enroll(1)'],
  }),
  attest: page({
    group: 'operator',
    summary: 'prove which TPM a host has and what it booted, before a seed leaves',
    usage: [
      '[--policy=FILE] [--json] HOST | USER@HOST',
      'HOST --from=STATEMENT',
      'HOST --verify=ANSWER [--policy=FILE] [--json]',
      '[--challenge=FILE] [--tpm2-device=DEVICE]',
    ],
    operands: ['hosts'],
    text: [
      'Challenges a host over ssh, and judges its answer: the TPM with the enrolled endorsement key has to hold the SRK ' +
        'that seeds are sealed to, quote PCR 0 to 15 for this challenge alone, and both logs of the boot have to lead ' +
        'to those values. attestation.toml in the vault says what may have booted, or another file that the key ' +
        'attestation in [host.NAME] of vault.toml names. Certificates in ek-ca in the vault say whose TPMs are genuine.',
      'Without ssh, the same works step by step: auxcred attest on the machine prints a statement; --from= turns it ' +
        'into a challenge here, good for one answer within ten minutes; --challenge= answers it there; --verify= judges ' +
        'the answer here. The files are not secret.',
      'With require-attestation = true in vault.toml, or push --require-attestation, a host that fails is sent nothing.',
    ],
    options: [
      { name: 'from', value: 'FILE', help: 'make a challenge from the statement of a machine', choices: 'file' },
      { name: 'challenge', value: 'FILE', help: 'on the machine: answer this challenge', choices: 'file' },
      { name: 'verify', value: 'FILE', help: 'judge the answer of a machine', choices: 'file' },
      { name: 'policy', value: 'FILE', help: 'what may have booted, in TOML', choices: 'file' },
      json,
      vault,
      root,
      device,
    ],
    examples: [
      { command: 'auxcred attest web1', says: 'which TPM web1 has and what it booted, in words' },
      {
        command: 'auxcred attest web1 --from=statement > challenge',
        says: 'the first of two steps here, if there is no ssh',
      },
    ],
    statuses: { refused: 'it is not attested, and the reasons are printed' },
    files: {
      ...vaultFiles,
      '~/.local/share/auxcred/attestation.toml': 'what an attested host may have booted',
      '~/.local/share/auxcred/ek-ca/*': 'certificates of the issuers of endorsement keys, in PEM or DER',
      '~/.local/share/auxcred/challenges/*.json': 'challenges that are not answered yet',
    },
    seeAlso: ['auxcred-enroll(1)', 'auxcred-push(1)', 'auxcred-measured(1)'],
  }),
  copy: page({
    group: 'operator',
    summary: 'list the files that a deploy tool has to copy to a host, or copy them into a folder',
    usage: ['[--json] HOST', '--to=DIR HOST'],
    operands: ['hosts'],
    text: [
      'Prints pairs of source and destination: the sealed seeds and the files that go with them, the fixed files ' +
        "and the manifest. With --to= it copies them into DIR, the host's future root, such as one being installed. " +
        'The host has to be enrolled; at its first boot it seals the seeds again, natively.',
      'A manifest with errors is refused, as by a push. A fixed secret that the vault lacks is a warning: the host may ' +
        'have it.',
    ],
    options: [
      { name: 'to', value: 'DIR', help: 'copy the files into the system below DIR', choices: 'folder' },
      { name: 'no-seeds', help: 'only fixed files and manifest' },
      {
        name: 'by-configuration',
        help: "leave out what the host's configuration renders, as NixOS does: the manifest and the broker's drop-in",
      },
      { name: 'replace', help: 'overwrite seeds that are already there' },
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
    options: [{ name: 'reveal', help: 'print the seeds even to a terminal' }, identity, vault],
    examples: [
      {
        command: 'auxcred scopes web1 | ssh root@web1 auxcred seal --scopes=-',
        says: 'from here to the host, without touching a disk',
      },
    ],
    files: vaultFiles,
  }),
  rekey: page({
    group: 'operator',
    summary: 're-encrypt the fixed secrets of earlier epochs',
    usage: ['[--next] [SCOPE...]'],
    operands: ['scopes'],
    text: [
      'After a theft: --next raises the epoch of the scopes in vault.toml. That gives all their derived secrets ' +
        'new values, and the files of the fixed folder are re-encrypted under the new epoch.',
      'The values of fixed secrets stay the same, and anyone who stole the old seed knows them. Each is named, to be ' +
        'replaced at its issuer.',
    ],
    options: [{ name: 'next', help: 'raise the epoch first' }, identity, vault],
    examples: [{ command: 'auxcred rekey --next host/web1', says: 'web1 was stolen' }],
    files: vaultFiles,
  }),
  put: page({
    group: 'fixed',
    summary: 'store a secret that somebody chose',
    usage: ['NAME', '--file=FILE NAME'],
    operands: ['fixed'],
    text: ['Asks for it without echoing, or takes standard input or a file byte for byte.'],
    options: [
      { name: 'file', value: 'FILE', help: 'take the bytes of a file; - is standard input', choices: 'file' },
      { name: 'line', help: 'take only the first line, without its newline' },
      { name: 'multiline', help: 'read several lines from the terminal, until ^D' },
      force,
      ...place,
    ],
    statuses: { refused: 'it already exists; --force' },
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
    summary: 'list the fixed secrets whose names contain a text',
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
    options: [
      { name: 'recursive', help: 'delete everything below a name' },
      { name: 'force', help: 'do not ask' },
      ...place,
    ],
  }),
  mv: page({
    group: 'fixed',
    summary: 'rename a fixed secret, or a folder of them',
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
    summary: 'store a random secret that does not depend on the seed',
    usage: ['[--kind=KIND] NAME'],
    operands: ['fixed'],
    text: [
      'The secret is never shown; of a key pair the public half is printed. The options are those of the ' +
        "manifest's kinds, auxcred-secrets(5).",
    ],
    options: [
      { name: 'kind', value: 'KIND', help: 'default: password', choices: kindNames },
      { name: 'length', value: 'N', help: 'characters of a password' },
      {
        name: 'alphabet',
        value: 'ALPHABET',
        help: 'the name of an alphabet, or its characters',
        choices: ['alnum', 'digits', 'upper', 'lower', 'hex', 'printable', 'readable', 'url'],
      },
      {
        name: 'require',
        value: 'CLASS',
        help: 'require a character of this class',
        repeated: true,
        choices: characterClasses,
      },
      { name: 'words', value: 'N', help: 'words of a passphrase' },
      { name: 'separator', value: 'TEXT', help: 'between the words' },
      { name: 'capitalize', help: 'capitalize each word' },
      { name: 'bytes', value: 'N', help: 'random bytes of hex, base64 and bytes' },
      { name: 'comment', value: 'TEXT', help: 'the comment of an ssh key' },
      { name: 'weak', help: 'allow fewer than 64 bits of strength' },
      force,
      ...place,
    ],
  }),
  import: page({
    group: 'fixed',
    summary: 'import secrets from another vault, or the files of a folder',
    usage: ['VAULT TO [NAME...]', './FOLDER TO [NAME...]'],
    operands: ['vaults', 'scopes', 'file'],
    text: ['One that fails does not stop the others.'],
    options: [{ name: 'line', help: 'take only the first line of each, without its newline' }, dryRun, force, ...place],
    examples: [{ command: 'auxcred import pass host/web1', says: 'everything in pass' }],
    statuses: { vault: 'some of them failed' },
  }),
  migrate: page({
    group: 'fixed',
    summary: 'move in from sops-nix, agenix, systemd-creds, ansible-vault, env files or pass',
    usage: [
      '(sops-nix | agenix | ansible-vault | env-file) [--dry-run] PATH...',
      'systemd-creds [--dry-run] [PATH...]',
      '(pass | gopass | passage) [--dry-run] [NAME...]',
    ],
    operands: [
      ['sops-nix', 'agenix', 'systemd-creds', 'ansible-vault', 'env-file', 'pass', 'gopass', 'passage'],
      'file',
    ],
    text: [
      'Reads the secrets with the other program, puts each into the fixed folder byte for byte, and prints the manifest ' +
        "or NixOS options that take the place of the old configuration. Nothing of the other program's is changed. " +
        'All is read before anything is written; a secret that is already there with another value stops it.',
    ],
    options: [
      dryRun,
      {
        name: 'key',
        value: 'FILE',
        help: "an age identity or ssh key for sops and agenix, a file with ansible-vault's password",
        repeated: true,
        choices: 'file',
      },
      {
        name: 'declared',
        value: 'FILE',
        help: "what nix eval --json prints of the configuration's sops.secrets or age.secrets; - for standard input",
        choices: 'file',
      },
      { name: 'below', value: 'PATH', help: 'begin every name with this' },
      {
        name: 'format',
        value: 'FORM',
        help: 'toml for a manifest, nix for NixOS options (the default for sops-nix and agenix)',
        choices: ['toml', 'nix'],
      },
      ...place,
    ],
    examples: [
      { command: 'auxcred migrate systemd-creds --dry-run', says: 'see what this machine has' },
      { command: 'auxcred migrate sops-nix secrets/web1.yaml --host=web1', says: 'one file of sops' },
    ],
    statuses: { vault: 'some secrets could not be read', refused: 'a secret of that name is there already' },
  }),
  verify: page({
    group: 'fixed',
    summary: 'check that every fixed secret opens under its name',
    usage: ['[--json] [FOLDER]'],
    operands: ['fixed'],
    text: [],
    options: [json, ...place],
    statuses: { malformed: 'a secret does not open, or a file does not belong there' },
  }),
  fetch: page({
    group: 'fixed',
    summary: 'get the secrets of kind "vault" from pass, age, sops, gokey or any command',
    usage: ['[--dry-run] [NAME...]'],
    operands: ['secrets'],
    text: [
      'Writes only values that changed. If a vault fails, what was fetched from it before stays, and the others go on.',
    ],
    options: [dryRun, { name: 'all', help: 'also fetch secrets that a vault reports as unchanged' }, ...view],
    statuses: { locked: 'another vault is locked', vault: 'another vault failed' },
  }),
  vault: page({
    group: 'fixed',
    summary: 'query another vault by hand, to see what it answers',
    usage: ['list VAULT', 'get VAULT SECRET', 'fingerprint VAULT SECRET', 'copy VAULT --host=HOST'],
    operands: [['list', 'get', 'fingerprint', 'copy'], 'vaults'],
    text: [],
    options: [
      host,
      { name: 'option', value: 'KEY=VALUE', help: 'pass an option to the vault', repeated: true },
      { name: 'target', value: 'USER@HOST', help: 'the destination of copy; default: root@HOST' },
      vault,
      root,
    ],
  }),
  gokey: page({
    group: 'fixed',
    summary: "gokey's command line, with the same output",
    usage: ['[-P FILE] -r REALM [-t TYPE] [-s FILE]'],
    text: [
      'The master password comes from a file, from GOKEY_ROOT_PASS or from the terminal; -p is refused, since ' +
        "every process can read the arguments of all others. The exit statuses are gokey's: 1 for any failure, 2 for " +
        'unknown flags.',
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
        help: 'pass, raw, ed25519, x25519, ec256, ec384, ec521 or seed; default: pass',
        choices: ['pass', 'raw', 'ed25519', 'x25519', 'ec256', 'ec384', 'ec521', 'seed'],
      },
      { name: 'l', value: 'LENGTH', help: 'characters of pass (10), bytes of raw (32)' },
      { name: 's', value: 'FILE', help: 'seed file, made by -t seed', choices: 'file' },
      { name: 'skip', value: 'N', help: 'skip the first N bytes of the seed file' },
      { name: 'u', help: 'allow keys and raw bytes without a seed file' },
      { name: 'o', value: 'FILE', help: 'write to FILE, readable by its owner only', choices: 'file' },
    ],
  }),
  'nixos-rebuild': page({
    group: 'operator',
    summary: 'deploy a NixOS configuration to a host, with the secrets that it needs',
    usage: ['[--host=HOST] [--dry-run] ACTION [ARGUMENT...]'],
    operands: [['switch', 'boot', 'test', 'build', 'dry-build', 'dry-activate']],
    text: [
      "For switch, boot and test: builds the configuration, pushes the host's seeds and fixed secrets as auxcred push " +
        'does, then calls nixos-rebuild as it was called here. So the check before the switch finds what it looks for, ' +
        'and a host gets nothing if the configuration does not build. All other actions, and those without ' +
        '--target-host, are left to nixos-rebuild.',
      'Options before ACTION are those below, and all after it go to nixos-rebuild as they are. Output and exit status ' +
        'are those of nixos-rebuild, or of auxcred push if that failed.',
      'With --dry-run, before or after ACTION, the host says what a push would change, and nixos-rebuild is called ' +
        'with dry-activate in place of switch and test, and with dry-build in place of boot.',
    ],
    options: [
      { name: 'host', value: 'HOST', help: 'the host in the vault, if --target-host does not tell', choices: 'hosts' },
      dryRun,
      {
        name: 'timeout',
        value: 'SECONDS',
        help: `how long the push may take; default: ${String(usualTimeout)}`,
      },
      vault,
      identity,
    ],
    examples: [
      { command: 'auxcred nixos-rebuild switch --flake .#web1 --target-host root@web1', says: 'secrets first' },
      {
        command: 'auxcred nixos-rebuild --dry-run switch --flake .#web1 --target-host root@web1',
        says: 'say what would change',
      },
    ],
    seeAlso: ['auxcred-push(1)', 'nixos-rebuild(8)'],
  }),
  receive: page({
    group: 'units',
    summary: 'receive what auxcred push sends',
    usage: [''],
    text: [
      'Run by auxcred push, over ssh, as root. Reports on standard output what this machine has, and reads what it ' +
        'lacks from standard input.',
    ],
    options: [root, device],
    seeAlso: ['auxcred-push(1)'],
  }),
  files: page({
    group: 'units',
    summary: 'write the secrets that are delivered as files',
    usage: ['[--needed-for=users]'],
    text: [
      'Run at boot by auxcred-files.service and auxcred-user-files.service. Opens the seeds itself, since the ' +
        'broker may not run yet.',
    ],
    options: [
      {
        name: 'needed-for',
        value: 'WHAT',
        help: 'only files that are needed before users are created: users',
        choices: ['users'],
      },
    ],
  }),
  stage: page({
    group: 'units',
    summary: "write a unit's staged secrets to /run/credstore",
    usage: ['UNIT [CREDENTIAL...]'],
    text: [
      'Run by ExecStartPre= of drop-ins for secrets with delivery = "stage", and for those whose unit and ' +
        'credential names are too long for the socket. Fails unless every CREDENTIAL was granted.',
    ],
    options: [],
    statuses: { refused: 'the broker refused' },
  }),
  names: page({
    group: 'units',
    summary: 'print names for shell completion, one per line',
    usage: [`(${nameLists.join(' | ')})`],
    operands: [nameLists],
    text: ['Opens no seed, and prints nothing if there is nothing to read.'],
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
