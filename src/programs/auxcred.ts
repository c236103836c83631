/** The program `auxcred`: finds the verb and runs its module in `commands/`. */

import { isVerb, type Verb } from '../cli/manual.ts';
import { Failure } from '../failure.ts';
import { nearest } from '../nearest.ts';
import { finalStatus, print, sayFailure } from '../terminal/say.ts';
import { version } from '../version.ts';

/** One module per verb, loaded only when called, since units wait for `stage`. */
const verbs: Readonly<Record<Verb, (argv: readonly string[]) => number | Promise<number>>> = {
  seal: async (argv) => (await import('../commands/seal.ts')).seal(argv),
  reseal: async (argv) => (await import('../commands/reseal.ts')).reseal(argv),
  unseal: async (argv) => (await import('../commands/unseal.ts')).unseal(argv),
  check: async (argv) => (await import('../commands/check.ts')).check(argv),
  apply: async (argv) => (await import('../commands/apply.ts')).apply(argv),
  provision: async (argv) => (await import('../commands/provision.ts')).provisionCommand(argv),
  plan: async (argv) => (await import('../commands/plan.ts')).plan(argv),
  ls: async (argv) => (await import('../commands/ls.ts')).ls(argv),
  graph: async (argv) => (await import('../commands/graph.ts')).graph(argv),
  example: async (argv) => (await import('../commands/example.ts')).example(argv),
  get: async (argv) => (await import('../commands/get.ts')).get(argv),
  run: async (argv) => (await import('../commands/run.ts')).run(argv),
  public: async (argv) => (await import('../commands/public.ts')).publicCommand(argv),
  history: async (argv) => (await import('../commands/history.ts')).history(argv),
  status: async (argv) => (await import('../commands/status.ts')).status(argv),
  doctor: async (argv) => (await import('../commands/doctor.ts')).doctor(argv),
  measured: async (argv) => (await import('../commands/measured.ts')).measured(argv),
  audit: async (argv) => (await import('../commands/audit.ts')).audit(argv),
  put: async (argv) => (await import('../commands/put.ts')).put(argv),
  edit: async (argv) => (await import('../commands/edit.ts')).edit(argv),
  find: async (argv) => (await import('../commands/find.ts')).find(argv),
  rm: async (argv) => (await import('../commands/rm.ts')).rm(argv),
  mv: async (argv) => (await import('../commands/mv.ts')).mv(argv),
  cp: async (argv) => (await import('../commands/mv.ts')).cp(argv),
  generate: async (argv) => (await import('../commands/generate.ts')).generate(argv),
  import: async (argv) => (await import('../commands/import.ts')).importCommand(argv),
  migrate: async (argv) => (await import('../commands/migrate.ts')).migrate(argv),
  verify: async (argv) => (await import('../commands/verify.ts')).verify(argv),
  rekey: async (argv) => (await import('../commands/rekey.ts')).rekey(argv),
  fetch: async (argv) => (await import('../commands/fetch.ts')).fetch(argv),
  vault: async (argv) => (await import('../commands/vault.ts')).vaultCommand(argv),
  gokey: async (argv) => (await import('../commands/gokey.ts')).gokey(argv),
  rewrap: async (argv) => (await import('../commands/rewrap.ts')).rewrap(argv),
  init: async (argv) => (await import('../commands/init.ts')).init(argv),
  enroll: async (argv) => (await import('../commands/enroll.ts')).enroll(argv),
  scopes: async (argv) => (await import('../commands/scopes.ts')).scopes(argv),
  attest: async (argv) => (await import('../commands/attest.ts')).attest(argv),
  push: async (argv) => (await import('../commands/push.ts')).push(argv),
  'nixos-rebuild': async (argv) => (await import('../commands/nixos-rebuild.ts')).nixosRebuild(argv),
  receive: async (argv) => (await import('../commands/receive.ts')).receive(argv),
  copy: async (argv) => (await import('../commands/copy.ts')).copy(argv),
  files: async (argv) => (await import('../commands/files.ts')).files(argv),
  stage: async (argv) => (await import('../commands/stage.ts')).stage(argv),
  names: async (argv) => (await import('../commands/names.ts')).names(argv),
};

/**
 * Verbs that open no seed and need not guard memory: shells wait for `names`, units for `stage`, builds for `check`.
 * `status` and `doctor` also run if memory can't be guarded, but then open no seed.
 */
const unguarded: readonly Verb[] = ['names', 'example', 'stage', 'check', 'status', 'doctor', 'measured'];

async function main([verb, ...argv]: readonly string[]): Promise<number> {
  if (verb === '--version') {
    print(version);
    return 0;
  }
  const [about] = argv;
  if (verb === undefined || verb === '--help' || verb === '-h' || (verb === 'help' && about === undefined)) {
    print((await import('../cli/help.ts')).overview());
    return 0;
  }
  const named = verb === 'help' && about !== undefined ? about : verb;
  if (!isVerb(named))
    throw new Failure('usage', `auxcred has no verb ${named}`, {
      hint: nearest(named, Object.keys(verbs)) ?? 'auxcred --help lists them',
    });
  const { asksForHelp, helpOf } = await import('../cli/help.ts');
  if (verb === 'help' || asksForHelp(named, argv)) {
    print(helpOf(named));
    return 0;
  }
  // Done before anything is read: a seed must not get into memory that others can see.
  if (!unguarded.includes(named)) (await import('../system/memory-guard.ts')).guardMemory();
  return await verbs[named](argv);
}

main(process.argv.slice(2))
  .catch(sayFailure)
  .then(
    (status) => {
      process.exitCode = finalStatus(status);
    },
    () => {
      process.exitCode = 1;
    },
  );
