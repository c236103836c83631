import { lstatSync, rmSync } from 'node:fs';
import { chosenTimeout, destinationOf } from '../cli/chosen-destination.ts';
import { chosenVault, withFleetSeed } from '../cli/chosen-vault.ts';
import { keep } from '../cli/kept-changes.ts';
import { Options } from '../cli/options.ts';
import { exitStatus, Failure } from '../failure.ts';
import { type Destination, pushTo } from '../push/host-push.ts';
import { endAs, runChild } from '../system/child.ts';
import { linkTarget } from '../system/files.ts';
import { say } from '../terminal/say.ts';
import { hostOf, type Vault } from '../vault/vault.ts';

const program = 'nixos-rebuild';

/** The actions that put a configuration on a host, and what nixos-rebuild calls their rehearsal. */
const rehearsals: Readonly<Record<string, string>> = {
  switch: 'dry-activate',
  test: 'dry-activate',
  boot: 'dry-build',
};

/** A call of nixos-rebuild. */
interface Call {
  readonly action: string;
  /** The arguments after the action, as they are. */
  readonly rest: readonly string[];
  readonly dryRun: boolean;
}

/** `auxcred nixos-rebuild ACTION`: builds, pushes secrets to the target host, and lets nixos-rebuild deploy. */
export async function nixosRebuild(argv: readonly string[]): Promise<number> {
  const at = argv.findIndex((argument) => !argument.startsWith('-'));
  const options = new Options('nixos-rebuild', at === -1 ? argv : argv.slice(0, at));
  const [action, ...rest] = at === -1 ? [] : argv.slice(at);
  if (action === undefined) throw options.lacks('an action', 'auxcred nixos-rebuild switch --target-host HOST');
  const dryRun = options.flag('dry-run') || (Object.hasOwn(rehearsals, action) && rest.includes('--dry-run'));
  const call: Call = { action, dryRun, rest: dryRun ? rest.filter((argument) => argument !== '--dry-run') : rest };
  const target = targetIn(rest);
  if (!Object.hasOwn(rehearsals, action) || target === undefined) {
    if (options.value('host') !== undefined)
      throw new Failure('usage', `${action} pushes nothing, and --host is given`, {
        hint: 'switch, boot and test with --target-host push',
      });
    return await deploy(call);
  }
  const vault = chosenVault(options);
  const name = options.value('host');
  const destination = name === undefined ? destinationOf(vault, target) : { host: hostOf(vault, name), target };
  if (!dryRun && !rest.includes('--rollback')) {
    const status = await build(call);
    if (status !== 0) return status;
  }
  const status = await pushSecrets(vault, destination, options, dryRun);
  return status === 0 ? await deploy(call) : status;
}

/** The last value of `--target-host`, in both forms that nixos-rebuild takes. */
function targetIn(rest: readonly string[]): string | undefined {
  const option = '--target-host';
  return rest
    .flatMap((argument, i) =>
      argument.startsWith(`${option}=`)
        ? [argument.slice(option.length + 1)]
        : argument === option
          ? [rest[i + 1] ?? '']
          : [],
    )
    .findLast((value) => value !== '');
}

/** Builds for its failures: the deployment builds the same and finds it done. */
async function build({ rest }: Call): Promise<number> {
  const link = 'result';
  const wasThere = lstatSync(link, { throwIfNoEntry: false }) !== undefined;
  const ending = await runChild([program, 'build', ...rest], { env: process.env, output: 'standard error' });
  // nixos-rebuild build leaves a link, and a deployment none.
  if (!wasThere && linkTarget(link)?.startsWith('/nix/store/') === true) rmSync(link);
  return endAs(ending);
}

/** @returns the exit status of `auxcred push` */
async function pushSecrets(vault: Vault, destination: Destination, options: Options, dryRun: boolean): Promise<number> {
  const { failure, enrolled, host, result } = await withFleetSeed(
    vault,
    options,
    async (fleetSeed) =>
      await pushTo(
        vault,
        destination,
        {
          dryRun,
          // The configuration brings it.
          manifest: false,
          replace: false,
          acceptOlder: false,
          reseal: false,
          requireAttestation: false,
          wait: true,
          timeout: chosenTimeout(options),
        },
        fleetSeed,
      ),
  );
  if (enrolled) keep(vault, `Enroll ${host}`, 'enrolled');
  if (failure) return exitStatus[failure.code];
  say(`${host}: secrets: ${result}`);
  return 0;
}

async function deploy({ action, rest, dryRun }: Call): Promise<number> {
  const named = dryRun ? (rehearsals[action] ?? action) : action;
  return endAs(await runChild([program, named, ...rest], { env: process.env }));
}
