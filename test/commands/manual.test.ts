import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { helpOf } from '../../src/cli/help.ts';
import {
  groups,
  hasOwnFlags,
  manual,
  type OptionEntry,
  type Verb,
  type VerbEntry,
  verbNames,
} from '../../src/cli/manual.ts';
import { written } from '../../src/cli/option-text.ts';
import { Options } from '../../src/cli/options.ts';
import { copy } from '../../src/commands/copy.ts';
import { edit } from '../../src/commands/edit.ts';
import { find } from '../../src/commands/find.ts';
import { generate } from '../../src/commands/generate.ts';
import { get } from '../../src/commands/get.ts';
import { history } from '../../src/commands/history.ts';
import { importCommand } from '../../src/commands/import.ts';
import { cp, mv } from '../../src/commands/mv.ts';
import { publicCommand } from '../../src/commands/public.ts';
import { push } from '../../src/commands/push.ts';
import { put } from '../../src/commands/put.ts';
import { rekey } from '../../src/commands/rekey.ts';
import { rm } from '../../src/commands/rm.ts';
import { scopes } from '../../src/commands/scopes.ts';
import { stage } from '../../src/commands/stage.ts';
import { vaultCommand } from '../../src/commands/vault.ts';
import { exitStatus } from '../../src/failure.ts';
import { gokeyTypes } from '../../src/gokey/gokey.ts';
import { namedAlphabets } from '../../src/manifest/options.ts';
import { keySources } from '../../src/seeds/payload.ts';
import { isFailure } from '../age/expect.ts';
import * as cli from '../cli.ts';

const auxcred = (args: readonly string[], environment: Record<string, string> = {}): cli.Said =>
  cli.auxcred(args, { env: { PATH: process.env['PATH'], ...environment } });
const entryOf = (verb: Verb): VerbEntry => manual[verb];
const choicesOf = (verb: Verb, name: string): OptionEntry['choices'] =>
  entryOf(verb).options.find((option) => option.name === name)?.choices;

describe('the manual', () => {
  test('has what a reader needs for each verb', () => {
    for (const verb of verbNames) {
      const { group, summary, usage, options, statuses = {} } = entryOf(verb);
      assert.ok(Object.hasOwn(groups, group), verb);
      for (const line of [summary, ...options.map(({ help }) => help)])
        assert.match(line, /^(?:[^A-Z]|PCR|TPM).*[^.]$/, `${verb}: ${line}`);
      assert.ok(usage.length > 0, verb);
      assert.equal(new Set(options.map(({ name }) => name)).size, options.length, `${verb} has an option twice`);
      assert.ok(
        Object.values(statuses).every((text) => text !== ''),
        verb,
      );
      const said = usage.join(' ').match(/--[a-z0-9-]+/g) ?? [];
      for (const option of said)
        assert.ok(
          options.some(({ name }) => option === `--${name}`),
          `${verb} has no ${option}`,
        );
    }
  });

  test('offers the existing values', () => {
    assert.deepEqual(choicesOf('seal', 'with-key'), [...keySources, 'auto']);
    assert.deepEqual(choicesOf('reseal', 'with-key'), [...keySources, 'auto']);
    assert.deepEqual(choicesOf('gokey', 't'), [...gokeyTypes, 'seed']);
    assert.deepEqual(choicesOf('generate', 'alphabet'), Object.keys(namedAlphabets));
  });

  test('is what --help shows: all verbs on one page, and each verb with its options', () => {
    const page = auxcred(['--help']).stdout;
    for (const verb of verbNames) {
      assert.ok(page.includes(`    ${verb} `), verb);
      const help = helpOf(verb);
      for (const option of entryOf(verb).options)
        assert.ok(help.includes(`    ${written(verb, option)}`), `${verb} ${option.name}`);
      for (const line of help.split('\n')) assert.ok(line.length <= 130, line);
    }
    for (const args of [
      ['help', 'seal'],
      ['seal', '--help'],
      ['seal', 'x', '-h'],
    ])
      assert.deepEqual(auxcred(args).stdout, `${helpOf('seal')}\n`);
    for (const line of page.split('\n')) assert.ok(line.length <= 110, line);
    assert.equal(auxcred(['help', 'sael']).status, exitStatus.usage);
    assert.match(auxcred(['gokey', '--help']).stderr, /gokey's flags\n {4}-P FILE/);
  });

  test('lists exactly the options that each verb takes', () => {
    for (const verb of verbNames.filter((name) => !hasOwnFlags(name))) {
      const given = (argument: string) => () => new Options(verb, [argument]);
      assert.throws(given('--no-such-option'), isFailure('usage', /has no option --no-such-option/));
      for (const { name, value, optional } of entryOf(verb).options) {
        if (value === undefined) assert.ok(new Options(verb, [`--${name}`]).flag(name));
        else {
          const some = name === 'root' ? '/' : 'x';
          assert.equal(new Options(verb, [`--${name}=${some}`]).value(name), some);
        }
        if (optional === true) assert.equal(new Options(verb, [`--${name}`]).value(name), '');
        else
          assert.throws(
            given(value === undefined ? `--${name}=x` : `--${name}=`),
            isFailure('usage', value === undefined ? /takes no value/ : /needs a value/),
          );
      }
    }
    assert.equal(auxcred(['check', '--no-such-option']).status, exitStatus.usage);
  });

  test('a flag is set however often it is given, and leaves the next word alone', () => {
    assert.ok(new Options('apply', ['--dry-run', '--dry-run']).flag('dry-run'));
    for (const word of ['007', 'true', 'false']) {
      const options = new Options('rm', ['--force', word]);
      assert.ok(options.flag('force'));
      assert.deepEqual(options.operands, [word]);
    }
  });

  test('a word that is the name of a flag is no flag', () => {
    const moved = new Options('mv', ['force', 'json', '--force', '--vault', 'force']);
    assert.deepEqual([moved.operands, moved.value('vault')], [['force', 'json'], 'force']);
    assert.deepEqual(new Options('ls', ['fixed']).operands, ['fixed']);
    assert.throws(() => new Options('apply', ['--NO-restart']), /has no option --NO-restart/);
  });

  test('an option is known beside its opposite', () => {
    const options = new Options('reseal', ['--tpm2-pcrlock=/x', '--no-tpm2-pcrlock', '--no-tpm2-pcrlock']);
    assert.equal(options.value('tpm2-pcrlock'), '/x');
    assert.ok(options.flag('no-tpm2-pcrlock'));
  });

  test('everything after -- is an operand', () => {
    assert.deepEqual(new Options('find', ['--', '--json=1', '--no-json', '--json']).operands, [
      '--json=1',
      '--no-json',
      '--json',
    ]);
    const said = auxcred(['public', '--root=/proc/self', '--', '--help']);
    assert.equal(said.stdout, '', 'no help');
    assert.match(said.stderr, /^auxcred: no seed is sealed on this machine: \/proc\/self\//);
    assert.match(
      auxcred(['seal', '--', '--help']).stderr,
      /^auxcred: seal takes no argument, and "--help" is one too many\n/,
    );
  });
});

/** Calls that lack an operand, and the function that each runs. */
const lacking: readonly [readonly string[], (argv: readonly string[]) => number | Promise<number>][] = [
  [['history'], history],
  [['get'], get],
  [['public'], publicCommand],
  [['put'], put],
  [['edit'], edit],
  [['rm'], rm],
  [['generate'], generate],
  [['mv'], mv],
  [['mv', 'a'], mv],
  [['cp'], cp],
  [['find'], find],
  [['import'], importCommand],
  [['import', 'pass'], importCommand],
  [['scopes'], scopes],
  [['copy'], copy],
  [['stage'], stage],
  [['vault'], vaultCommand],
  [['vault', 'get'], vaultCommand],
  [['vault', 'get', 'pass'], vaultCommand],
  [['vault', 'copy', 'pass'], vaultCommand],
  [['push'], push],
  [['rekey', '--next'], rekey],
];

describe('a call that lacks an operand', () => {
  let folder = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'vault-'));
    writeFileSync(join(folder, 'vault.toml'), '[host.web1]\n');
  });
  after(() => {
    rmSync(folder, { recursive: true });
  });
  for (const [[verb = '', ...more], call] of lacking)
    test(`${[verb, ...more].join(' ')} is told what is missing, and the usage`, async () => {
      await assert.rejects(
        async () => await call([...(verb === 'history' || verb === 'stage' ? [] : [`--vault=${folder}`]), ...more]),
        isFailure('usage', new RegExp(`^${verb} needs [^:]+: auxcred ${verb} .+$`)),
      );
    });
});
