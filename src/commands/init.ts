import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { encryptTo } from '../age/identities.ts';
import { utf8 } from '../bytes.ts';
import { chosenRecipients } from '../cli/chosen-recipients.ts';
import { wordsIn } from '../cli/given-seeds.ts';
import { Options } from '../cli/options.ts';
import { keyId, seedLength } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { seedOfWords, wordsOf } from '../seeds/words.ts';
import { ensureFolder, replaceFile } from '../system/files.ts';
import { handOut, say, warn } from '../terminal/say.ts';
import { refuseNewSeed, refuseOtherSeed } from '../vault/fleet-seed.ts';
import { refuseMissingGit, startRepository, sweepVault } from '../vault/git.ts';
import { vaultFiles, vaultFolder } from '../vault/vault.ts';

const settingsTemplate = `# Hosts and groups of this vault. A new epoch gives a host or a group new secrets.
#
# [host.web1]
# groups   = ["db"]
# epoch    = 1
# manifest = ["hosts/web1", "all"]     # folders with its secrets.d files; the first takes precedence
# target   = "root@web1"               # ssh destination; default: root@NAME
# with-key = "tpm2"                    # or "tpm2+host"; default: the ssh host key
# tpm2-pcrs  = "4+7"
# recipients = ["age1..."]             # can open this host's seeds when it is gone; at the top: all hosts' seeds
#
# [group.db]
# epoch = 1
#
# [vault.bao]                          # other vaults; pass, gopass and passage need no settings
# get = ["bao", "kv", "get", "-field=value", "secret/{name}"]
`;

/** `auxcred init`: creates the operator's vault, with a new fleet seed or one from paper. */
export async function init(argv: readonly string[]): Promise<number> {
  const options = new Options('init', argv);
  options.exactly();
  const folder = vaultFolder(options.value('vault'), process.env);
  const files = vaultFiles(folder);
  if (existsSync(files.seed))
    throw new Failure('refused', `${files.seed} exists, and a new fleet seed changes every secret of every host`, {
      hint: '--vault=DIR for another vault',
    });
  if (!options.flag('from-words')) refuseNewSeed(folder);
  if (options.flag('git')) refuseMissingGit();
  const recipients = chosenRecipients(options);
  const seed = options.flag('from-words') ? seedOfWords(givenWords()) : new Uint8Array(randomBytes(seedLength));
  try {
    refuseOtherSeed(folder, seed);
    const sealed = await encryptTo(recipients, seed);
    if (options.flag('print-words')) showWords(seed);
    ensureFolder(folder, { mode: 0o700 });
    sweepVault(folder);
    replaceFile(files.seed, sealed, { mode: 0o600 });
    if (!existsSync(files.settings)) replaceFile(files.settings, utf8(settingsTemplate), { mode: 0o600 });
    const problem = options.flag('git') ? startRepository(folder) : undefined;
    if (problem) warn(`the vault was created, but ${problem.text}`, problem.hint);
    say(`the vault is at ${folder}; key id of the fleet seed ${Buffer.from(keyId(seed)).toString('hex')}`);
    if (!options.flag('print-words') && !options.flag('from-words'))
      say(
        'this file is the only copy of the fleet seed: back it up, together with a key that opens it ' +
          '(--print-words would have shown it for paper)',
      );
  } finally {
    seed.fill(0);
  }
  return 0;
}

/** @throws Failure `system` if they can't be shown: no vault must be created then */
function showWords(seed: Uint8Array): void {
  say('write down these 24 words: they are the fleet seed, and are shown only once');
  handOut('the 24 words', `${wordsOf(seed)}\n`);
}

function givenWords(): string {
  const bytes = wordsIn('-', 'auxcred init --from-words < FILE');
  const words = new TextDecoder().decode(bytes);
  bytes.fill(0);
  return words;
}
