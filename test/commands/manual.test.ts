import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { isFailure } from '../age/expect.ts';
import { gokeyTypes } from '../../src/gokey/gokey.ts';
import { namedAlphabets } from '../../src/manifest/options.ts';
import { keySources } from '../../src/store/payload.ts';
import { Options } from '../../src/commands/options.ts';
import { helpOf } from '../../src/commands/help.ts';
import { groups, hasOwnFlags, manual, type OptionEntry, type Verb, type VerbEntry, verbNames, written } from '../../src/commands/manual.ts';

interface Said { status: number | null; stdout: string; stderr: string }
const auxcred = (args: readonly string[], environment: Record<string, string> = {}): Said => spawnSync(process.execPath, ['dist/auxcred.cjs', ...args], { encoding: 'utf8', input: '', env: { PATH: process.env['PATH'], ...environment } });
const entryOf = (verb: Verb): VerbEntry => manual[verb];
const choicesOf = (verb: Verb, name: string): OptionEntry['choices'] => entryOf(verb).options.find((option) => option.name === name)?.choices;

describe('the manual', () => {
  test('has for each verb what a reader needs', () => {
    for (const verb of verbNames) {
      const { group, summary, usage, options, statuses = {} } = entryOf(verb);
      assert.ok(Object.hasOwn(groups, group), verb);
      for (const line of [summary, ...options.map(({ help }) => help)]) assert.match(line, /^(?:[^A-Z]|PCR|TPM).*[^.]$/, `${verb}: ${line}`);
      assert.ok(usage.length > 0, verb);
      assert.equal(new Set(options.map(({ name }) => name)).size, options.length, `${verb} has an option twice`);
      assert.ok(Object.values(statuses).every((text) => text !== ''), verb);
      const said = usage.join(' ').match(/--[a-z0-9-]+/g) ?? [];
      for (const option of said) assert.ok(options.some(({ name }) => option === `--${name}`), `${verb} has no ${option}`);
    }
  });

  test('offers the values that there are', () => {
    assert.deepEqual(choicesOf('seal', 'with-key'), [...keySources, 'auto']);
    assert.deepEqual(choicesOf('reseal', 'with-key'), [...keySources, 'auto']);
    assert.deepEqual(choicesOf('gokey', 't'), [...gokeyTypes, 'seed']);
    assert.deepEqual(choicesOf('generate', 'alphabet'), Object.keys(namedAlphabets));
  });

  test('is what --help shows: all verbs on a page, and each verb with its options', () => {
    const page = auxcred(['--help']).stdout;
    for (const verb of verbNames) {
      assert.ok(page.includes(`    ${verb} `), verb);
      const help = helpOf(verb);
      for (const option of entryOf(verb).options) assert.ok(help.includes(`    ${written(verb, option)}`), `${verb} ${option.name}`);
      for (const line of help.split('\n')) assert.ok(line.length <= 130, line);
    }
    for (const args of [['help', 'seal'], ['seal', '--help'], ['seal', 'x', '-h']]) assert.deepEqual(auxcred(args).stdout, `${helpOf('seal')}\n`);
    for (const line of page.split('\n')) assert.ok(line.length <= 110, line);
    assert.equal(auxcred(['help', 'sael']).status, exitStatus.usage);
    assert.match(auxcred(['gokey', '--help']).stderr, /gokey's flags\n {4}-P FILE/);
  });

  test('is what each verb takes: every option that it names, and no other', () => {
    for (const verb of verbNames.filter((name) => !hasOwnFlags(name))) {
      const given = (argument: string) => () => new Options(verb, [argument]);
      assert.throws(given('--no-such-option'), isFailure('usage', /has no option --no-such-option/));
      for (const { name, value } of entryOf(verb).options) {
        if (value === undefined) assert.ok(new Options(verb, [`--${name}`]).flag(name));
        else assert.equal(new Options(verb, [`--${name}=x`]).value(name), 'x');
        assert.throws(given(value === undefined ? `--${name}=x` : `--${name}=`), isFailure('usage', value === undefined ? /takes no value/ : /needs a value/));
      }
    }
    assert.equal(auxcred(['check', '--no-such-option']).status, exitStatus.usage);
  });

  test('everything after -- is an operand', () => {
    assert.match(auxcred(['public', '--root=/nowhere', '--', '--help']).stderr, /nowhere|--help/);
  });
});
