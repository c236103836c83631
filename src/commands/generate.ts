import { randomBytes } from 'node:crypto';
import { mayWrite, nameIn, placeOf, withSeeds } from '../cli/chosen-folder.ts';
import { commit } from '../cli/kept-changes.ts';
import { sayNext } from '../cli/next-step.ts';
import { Options } from '../cli/options.ts';
import { type KindName, kindNames } from '../derive/kind.ts';
import { derivePublic, deriveSecret } from '../derive/secret.ts';
import { strengthOf } from '../derive/strength.ts';
import { seedLength } from '../derive/tree.ts';
import { Failure } from '../failure.ts';
import { nameText } from '../fixed/name.ts';
import { optionKeys, readOptions } from '../manifest/options.ts';
import { ManifestTable } from '../manifest/table.ts';
import { print, say } from '../terminal/say.ts';

const texts = ['alphabet', 'separator', 'comment'];
const numbers = ['length', 'words', 'bytes'];
const flags = ['weak', 'capitalize'];

/**
 * `auxcred generate NAME`: stores a random secret of any kind that does not depend on the seed, for one that must never
 * change. Never shows it; of a key pair it prints the public half.
 */
export async function generate(argv: readonly string[]): Promise<number> {
  const options = new Options('generate', argv);
  const [operand = ''] = options.exactly('the name of a secret');
  const place = placeOf(options);
  const name = nameIn(place, operand);
  const kind = kindIn(options.value('kind') ?? 'password');
  const chosen = readOptions(kind, tableOf(kind, options));
  mayWrite(place, name, options);
  // A throw-away seed: the secret can't be derived again.
  const seed = new Uint8Array(randomBytes(seedLength));
  const derivation = { name: operand, options: chosen, period: '', generation: 1 };
  const value = deriveSecret(seed, derivation);
  const publicHalf = derivePublic(seed, derivation);
  seed.fill(0);
  try {
    await withSeeds(place, options, (open) => open.folder.write(name, value, open));
  } finally {
    value.fill(0);
  }
  say(`generated ${nameText(name)}: ${kind}, ${strengthOf(chosen).toFixed(0)} bits`);
  if (publicHalf) print(new TextDecoder().decode(publicHalf).trimEnd());
  commit(place, `Generate ${nameText(name)}`);
  sayNext(place, name);
  return 0;
}

function kindIn(text: string): KindName {
  const kind = kindNames.find((candidate) => candidate === text);
  if (!kind) throw new Failure('usage', `--kind=${text} is not known`, { hint: `one of ${kindNames.join(', ')}` });
  return kind;
}

/** The options in the form of a manifest, so that both share one validation. @throws Failure `usage` */
function tableOf(kind: KindName, options: Options): ManifestTable {
  const given: [string, unknown][] = [
    ...texts.map((key): [string, unknown] => [key, options.value(key)]),
    ...numbers.map((key): [string, unknown] => [
      key,
      options.value(key) === undefined ? undefined : Number(options.value(key)),
    ]),
    ...flags.map((key): [string, unknown] => [key, options.flag(key) ? true : undefined]),
    [
      'require',
      options.list('require').length > 0 ? options.list('require').flatMap((item) => item.split(',')) : undefined,
    ],
  ];
  const record = Object.fromEntries(given.filter(([, value]) => value !== undefined));
  const unknown = Object.keys(record).find((key) => !optionKeys(kind).includes(key));
  if (unknown !== undefined)
    throw new Failure('usage', `a ${kind} has no --${unknown}`, {
      hint:
        optionKeys(kind)
          .map((key) => `--${key}`)
          .join(', ') || 'it has no options',
    });
  return new ManifestTable(record, '', ({ key, message, hint }) => {
    throw new Failure(
      'usage',
      `${key === undefined || key === '' ? '' : `--${key.slice(1)}: `}${message}`,
      hint === undefined ? {} : { hint: asOptions(hint) },
    );
  });
}

/** A way out in the words of a manifest, as options: `weak = true` is `--weak`. */
const asOptions = (hint: string): string =>
  hint.replaceAll(/\b([a-z]+) = (\[[^\]]*\]|"[^"]*"|\w+)/g, (_, key: string, value: string) =>
    value === 'true' ? `--${key}` : `--${key}=${value.replaceAll(/[[\]" ]/g, '')}`,
  );
