import { Options } from '../cli/options.ts';
import { keyId } from '../derive/tree.ts';
import { openersOf } from '../machine/openers.ts';
import { openPinnedSeeds } from '../seeds/open.ts';
import { scopeName, wipeScopes } from '../seeds/scope.ts';
import { wordsOf } from '../seeds/words.ts';
import { pathsUnder } from '../system/paths.ts';
import { print, printJson, printTable, say } from '../terminal/say.ts';
import { indexText } from '../tpm2/wire.ts';

/**
 * `auxcred unseal`: proves that the seeds open here, and shows their key ids; `--reveal` prints each seed as 24 words.
 */
export async function unseal(argv: readonly string[]): Promise<number> {
  const options = new Options('unseal', argv);
  options.exactly();
  const paths = pathsUnder(options.value('root') ?? '/');
  const { payload, openedBy, counter } = await openPinnedSeeds(paths, openersOf(paths, options.value('tpm2-device')));
  try {
    const scopes = payload.scopes.map((scope) => ({
      scope: scopeName(scope),
      epoch: scope.epoch,
      keyId: Buffer.from(keyId(scope.seed)).toString('hex'),
    }));
    if (options.flag('reveal')) {
      for (const scope of payload.scopes)
        print(payload.scopes.length === 1 ? wordsOf(scope.seed) : `${scopeName(scope)}: ${wordsOf(scope.seed)}`);
    } else if (options.flag('json')) {
      printJson({
        openedBy,
        counter: payload.counter,
        scopes,
        sealing: payload.sealing,
        ...(counter === undefined ? {} : { tpmCounter: { index: indexText(counter.index), value: counter.value } }),
      });
    } else {
      printTable([['SCOPE', 'EPOCH', 'KEY ID'], ...scopes.map((row) => [row.scope, String(row.epoch), row.keyId])]);
    }
    say(`${paths.seeds} opens with ${openedBy}`);
  } finally {
    wipeScopes(payload.scopes);
  }
  return 0;
}
