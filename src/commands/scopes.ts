import { chosenVault, withFleetSeed } from '../cli/chosen-vault.ts';
import { Options } from '../cli/options.ts';
import { keyId } from '../derive/tree.ts';
import { encodeScopes } from '../seeds/payload.ts';
import { scopeName, wipeScopes } from '../seeds/scope.ts';
import { isTerminal } from '../system/terminals.ts';
import { printBytes, printTable, say } from '../terminal/say.ts';
import { sealCommand } from '../vault/over-ssh.ts';
import { hostOf, scopesOf } from '../vault/vault.ts';

/**
 * `auxcred scopes HOST` prints the input of the host's `auxcred seal --scopes=-`: its own seed and those of its groups,
 * from which no other host's secrets can be derived. At a terminal it shows their key ids instead.
 */
export async function scopes(argv: readonly string[]): Promise<number> {
  const options = new Options('scopes', argv);
  const [name = ''] = options.exactly('the name of a host');
  const vault = chosenVault(options);
  const host = hostOf(vault, name);
  await withFleetSeed(vault, options, (fleetSeed) => {
    const all = scopesOf(vault, host, fleetSeed);
    try {
      const encoded = encodeScopes(all);
      if (isTerminal(1) && !options.flag('reveal')) {
        printTable([
          ['SCOPE', 'EPOCH', 'KEY ID'],
          ...all.map((scope) => [
            scopeName(scope),
            String(scope.epoch),
            Buffer.from(keyId(scope.seed)).toString('hex'),
          ]),
        ]);
        say(`seeds are not shown on a terminal: ${sealCommand(host)}`);
      } else printBytes(encoded);
      encoded.fill(0);
    } finally {
      wipeScopes(all);
    }
  });
  return 0;
}
