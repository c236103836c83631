import { manifestSide } from '../cli/chosen-side.ts';
import { showPlan } from '../cli/machine-plan.ts';
import { Options } from '../cli/options.ts';
import { showHostPlan } from '../cli/vault-plan.ts';

/**
 * `auxcred plan`: prints what `auxcred apply` would change and which units it would touch, or what a host of the vault
 * would get. Changes nothing.
 */
export async function plan(argv: readonly string[]): Promise<number> {
  const options = new Options('plan', argv);
  options.exactly();
  return manifestSide(options) === 'vault' ? await showHostPlan(options) : await showPlan(options, { dropIns: true });
}
