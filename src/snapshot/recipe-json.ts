/** Encodes the recipes in the snapshot, and parses them strictly. */

import { escapes } from '../derive/escape.ts';
import { hashMethods } from '../derive/hash-methods.ts';
import { characterClasses, type KindOptions, kindNames } from '../derive/kind.ts';
import type { Derived, Fixed, Recipe, Slot, Source } from '../derive/recipe.ts';
import type { Json } from '../system/json.ts';

const most32 = 0xffffffff;

/** Parses a recipe of the snapshot. @throws Failure `malformed` */
export function parseRecipe(item: Json): Recipe {
  const form = item.at('form').oneOf(['derived', 'fixed', 'public', 'crypt', 'template']);
  switch (form) {
    case 'derived':
      return parseDerived(item);
    case 'fixed':
      return parseFixed(item);
    case 'public':
      return { form, of: parseDerived(item.at('of')) };
    case 'crypt':
      return {
        form,
        name: item.at('name').text(),
        method: item.at('method').oneOf(hashMethods),
        rounds: item.at('rounds').whole(1, most32),
        of: parseSource(item.at('of')),
        sealed: item.at('sealed').text(),
      };
    case 'template':
      return {
        form,
        name: item.at('name').text(),
        pieces: item
          .at('pieces')
          .list()
          .map((piece) => (piece.isText() ? piece.text() : parseSlot(piece))),
      };
  }
}

const parseSlot = (item: Json): Slot => ({
  of: parseRecipe(item.at('of')),
  escapes: item
    .at('escapes')
    .list()
    .map((one) => one.oneOf(escapes)),
});

const parseSource = (item: Json): Source =>
  item.at('form').oneOf(['derived', 'fixed']) === 'fixed' ? parseFixed(item) : parseDerived(item);

const digest = /^[0-9a-f]{64}$/;

function parseFixed(item: Json): Fixed {
  // The digest becomes part of a path.
  for (const key of ['file', 'fingerprint'])
    if (!digest.test(item.at(key).text())) throw item.at(key).unexpected('64 hexadecimal digits');
  return {
    form: item.at('form').oneOf(['fixed']),
    name: item.at('name').text(),
    scope: item.at('scope').text(),
    epoch: item.at('epoch').whole(1, most32),
    path: item.at('path').text(),
    sequence: item.at('sequence').whole(0, Number.MAX_SAFE_INTEGER),
    file: item.at('file').text(),
    fingerprint: item.at('fingerprint').text(),
  };
}

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
      return {
        kind,
        length: size('length'),
        alphabet: item.at('alphabet').text(),
        require: item
          .at('require')
          .list()
          .map((name) => name.oneOf(characterClasses)),
      };
    case 'passphrase':
      return {
        kind,
        words: size('words'),
        separator: item.at('separator').text(),
        capitalize: item.at('capitalize').flag(),
      };
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
