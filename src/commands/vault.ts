import { placeOf } from '../cli/chosen-folder.ts';
import { Options } from '../cli/options.ts';
import { otherVault } from '../cli/other-vault.ts';
import { Failure } from '../failure.ts';
import type { VaultRequest } from '../other-vaults/protocol.ts';
import { print, printBytes, printJson } from '../terminal/say.ts';
import { hostOf } from '../vault/vault.ts';

/** `auxcred vault VERB NAME [SECRET]`: queries another vault by hand, to see what it answers. */
export async function vaultCommand(argv: readonly string[]): Promise<number> {
  const options = new Options('vault', argv);
  const [verb, name, secret] = options.operands;
  if (verb === undefined || name === undefined)
    throw options.lacks('list, get, fingerprint or copy, and the name of a vault', 'auxcred vault get VAULT SECRET');
  const place = placeOf(options);
  const source = otherVault(name, place);
  const request = (): VaultRequest => {
    if (secret === undefined)
      throw options.lacks(`the name of a secret to ${verb}`, `auxcred vault ${verb} ${name} SECRET`);
    return {
      name: secret,
      host: options.value('host'),
      options: Object.fromEntries(
        options.list('option').map((text) => [text.split('=')[0] ?? '', text.slice(text.indexOf('=') + 1)]),
      ),
    };
  };
  switch (verb) {
    case 'get': {
      const value = source.get(request());
      printBytes(value);
      value.fill(0);
      return await Promise.resolve(0);
    }
    case 'list':
      for (const entry of source.list()) print(entry);
      return 0;
    case 'fingerprint': {
      const fingerprint = source.fingerprint(request());
      if (fingerprint === undefined)
        throw new Failure('not-found', `the vault ${name} can't tell whether ${secret ?? ''} has changed`, {
          hint: 'auxcred fetch then compares the values',
        });
      print(fingerprint);
      return 0;
    }
    case 'copy': {
      const host = options.value('host');
      if (host === undefined) throw options.lacks('a host to copy to', `auxcred vault copy ${name} --host=HOST`);
      if (place.vault) hostOf(place.vault, host);
      printJson({ pairs: source.copy(host, options.value('target') ?? `root@${host}`) });
      return 0;
    }
    default:
      throw new Failure('usage', `a vault has no verb ${verb}`, { hint: 'get, list, fingerprint, copy' });
  }
}
