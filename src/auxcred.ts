/** The program `auxcred`: finds the verb and leaves the rest to its module in `commands/`. */
import { Failure } from './failure.ts';
import { print, sayFailure } from './commands/say.ts';
import { version } from './version.ts';

const usage = `Usage:
    auxcred seal [--with-key=KEY] [--tpm2-pcrs=PCRS] (--recipient=AGE... | --print-words | --no-recovery)
    auxcred reseal [--tpm2-pcrs=PCRS] [--with-key=KEY] [--add-recipient=AGE...] [--remove-recipient=AGE...] [--identity=FILE]
    auxcred unseal [--reveal]
    auxcred check | plan | apply | provision
    auxcred ls | graph | get NAME | public NAME | history NAME

    seal       make this machine's seed, or take one, and lock it to the machine
    reseal     lock the same seed again: to the PCRs as they are now, another key, other recovery keys
    unseal     prove that the seed opens here, and show its key id
    check      say what is wrong with the manifest
    apply      put the manifest in force: drop-ins for the units, secrets for the broker
    plan       show what apply would change, and which units it would touch
    provision  put the manifest's secrets in force, without touching the drop-ins

    ls         list the secrets that are declared
    graph      show which unit gets what, and what it is made of (--dot for Graphviz)
    get        print a secret (--at=2026-07 that of a period)
    public     print the public half of a key pair (--all --json for configuration)
    history    show what of a secret was in force when

On the operator's side, with a vault that derives the seeds of all hosts:
    auxcred init | rewrap [--vault=DIR] (--recipient=AGE... | --passphrase)
    auxcred scopes HOST | ssh root@HOST auxcred seal --scopes=-
    auxcred ls | graph | get NAME | public NAME  --host=HOST [--vault=DIR]

Secrets that somebody else issued, in the vault (host/web1/wifi, group/db/token) or on this machine (wifi):
    auxcred put | get | edit | rm NAME | mv | cp FROM TO | generate NAME [--kind=KIND]
    auxcred ls [FOLDER] | find TEXT | verify
    auxcred import pass | ./FOLDER TO      take secrets over from another vault
    auxcred fetch                          get those of kind "vault" from pass, age, sops, gokey or any command
    auxcred vault list | get | fingerprint | copy VAULT [NAME]
    auxcred rekey [--next] host/web1       after a new epoch
    auxcred gokey -P FILE -r REALM ...     gokey's own flags and bytes

Called by units: auxcred stage UNIT, auxcred files

KEY is host (the ssh host key), tpm2, tpm2+host (both needed), auto (tpm2 where there is one) or systemd-creds
(systemd keeps the key: --creds-key=auto, host, tpm2 or host+tpm2).
PCRS are TPM registers that have to be as they are now, such as 7+14.
The manifest is in /etc/auxcred/secrets.d.

Example:
    $ auxcred seal --with-key=tpm2 --tpm2-pcrs=7+14 --recipient=age1...
    $ cat > /etc/auxcred/secrets.d/web.toml
    [secret.session-key]
    kind  = "hex"
    units = ["web.service"]
    $ auxcred apply
    $ systemctl restart web.service     # reads $CREDENTIALS_DIRECTORY/session-key`;

/** One module a verb, loaded only when it is called: units wait for `stage`. */
const verbs: Record<string, (argv: readonly string[]) => Promise<number>> = {
  seal: async (argv) => (await import('./commands/seal.ts')).seal(argv),
  reseal: async (argv) => (await import('./commands/reseal.ts')).reseal(argv),
  unseal: async (argv) => (await import('./commands/unseal.ts')).unseal(argv),
  check: async (argv) => (await import('./commands/check.ts')).check(argv),
  apply: async (argv) => (await import('./commands/apply.ts')).apply(argv),
  provision: async (argv) => (await import('./commands/provision.ts')).provisionCommand(argv),
  plan: async (argv) => (await import('./commands/plan.ts')).plan(argv),
  ls: async (argv) => (await import('./commands/ls.ts')).ls(argv),
  graph: async (argv) => (await import('./commands/graph.ts')).graph(argv),
  get: async (argv) => (await import('./commands/get.ts')).get(argv),
  public: async (argv) => (await import('./commands/public.ts')).publicCommand(argv),
  history: async (argv) => (await import('./commands/history.ts')).history(argv),
  put: async (argv) => (await import('./commands/put.ts')).put(argv),
  edit: async (argv) => (await import('./commands/edit.ts')).edit(argv),
  find: async (argv) => (await import('./commands/find.ts')).find(argv),
  rm: async (argv) => (await import('./commands/rm.ts')).rm(argv),
  mv: async (argv) => (await import('./commands/mv.ts')).mv(argv),
  cp: async (argv) => (await import('./commands/mv.ts')).cp(argv),
  generate: async (argv) => (await import('./commands/generate.ts')).generate(argv),
  import: async (argv) => (await import('./commands/import.ts')).importCommand(argv),
  verify: async (argv) => (await import('./commands/verify.ts')).verify(argv),
  rekey: async (argv) => (await import('./commands/rekey.ts')).rekey(argv),
  fetch: async (argv) => (await import('./commands/fetch.ts')).fetch(argv),
  vault: async (argv) => (await import('./commands/vault.ts')).vaultCommand(argv),
  gokey: async (argv) => (await import('./commands/gokey.ts')).gokey(argv),
  rewrap: async (argv) => (await import('./commands/rewrap.ts')).rewrap(argv),
  init: async (argv) => (await import('./commands/init.ts')).init(argv),
  scopes: async (argv) => (await import('./commands/scopes.ts')).scopes(argv),
  stage: async (argv) => (await import('./commands/stage.ts')).stage(argv),
  files: async (argv) => (await import('./commands/files.ts')).files(argv),
};

async function main([verb, ...argv]: readonly string[]): Promise<number> {
  if (verb === undefined || verb === 'help' || verb === '--help' || verb === '-h' || (argv.includes('--help') && verb !== 'gokey')) {
    print(usage);
    return 0;
  }
  if (verb === '--version') {
    print(version);
    return 0;
  }
  const run = Object.hasOwn(verbs, verb) ? verbs[verb] : undefined;
  if (!run) throw new Failure('usage', `auxcred has no verb ${verb}`, { hint: `it has ${Object.keys(verbs).join(', ')}; auxcred --help says more` });
  return await run(argv);
}

// Whoever reads may have seen enough: `auxcred graph | head`.
process.stdout.on('error', (error: NodeJS.ErrnoException) => { process.exit(error.code === 'EPIPE' ? 0 : 1); });

main(process.argv.slice(2)).catch(sayFailure).then((status) => { process.exitCode = status; }, () => { process.exitCode = 1; });
