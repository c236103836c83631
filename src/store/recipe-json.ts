/** Recipes as the snapshot holds them: what is in force is read back as strictly as it was written. */
import { characterClasses, type KindOptions, kindNames } from '../derive/kind.ts';
import { type Derived, escapes, hashMethods, type Recipe, type Slot } from '../derive/recipe.ts';
import type { Json } from '../system/json.ts';

const most32 = 0xffffffff;

/** @throws Failure `malformed` */
export function parseRecipe(item: Json): Recipe {
  const form = item.at('form').oneOf(['derived', 'public', 'crypt', 'template']);
  switch (form) {
    case 'derived':
      return parseDerived(item);
    case 'public':
      return { form, of: parseDerived(item.at('of')) };
    case 'crypt':
      return { form, name: item.at('name').text(), method: item.at('method').oneOf(hashMethods), rounds: item.at('rounds').whole(1, most32), of: parseDerived(item.at('of')), sealed: item.at('sealed').text() };
    case 'template':
      return { form, name: item.at('name').text(), pieces: item.at('pieces').list().map((piece) => (piece.isText() ? piece.text() : parseSlot(piece))) };
  }
}

const parseSlot = (item: Json): Slot => ({ of: parseRecipe(item.at('of')), escapes: item.at('escapes').list().map((escape) => escape.oneOf(escapes)) });

function parseDerived(item: Json): Derived {
  return {
    form: item.at('form').oneOf(['derived']),
    scope: item.at('scope').text(),
    epoch: item.at('epoch').whole(1, most32),
    name: item.at('name').text(),
    options: parseOptions(item.at('options')),
    period: item.at('period').text(),
    generation: item.at('generation').whole(1, most32),
  };
}

function parseOptions(item: Json): KindOptions {
  const size = (key: string): number => item.at(key).whole(1, most32);
  const kind = item.at('kind').oneOf(kindNames);
  switch (kind) {
    case 'password':
      return { kind, length: size('length'), alphabet: item.at('alphabet').text(), require: item.at('require').list().map((name) => name.oneOf(characterClasses)) };
    case 'passphrase':
      return { kind, words: size('words'), separator: item.at('separator').text(), capitalize: item.at('capitalize').flag() };
    case 'hex':
    case 'base64':
    case 'bytes':
      return { kind, bytes: size('bytes') };
    case 'ssh-ed25519':
      return { kind, comment: item.at('comment').text() };
    default:
      return { kind };
  }
}
