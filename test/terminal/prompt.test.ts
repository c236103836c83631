/** What is asked at a terminal, and answered by somebody who needs a moment to type. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { exitStatus } from '../../src/failure.ts';
import { at, auxcred, environment, makeHost, operator, put, useOperator, works } from '../push/operator.ts';
import { ended, type Started, says, start } from './on-terminal.ts';

/** Waits for a question, and answers it piece by piece. */
async function answers(question: RegExp, keys: readonly string[], call: Started): Promise<void> {
  await says(question, call);
  for (const key of keys) {
    // The program waits for the key meanwhile; on a slow machine it finds it there, which is no less right.
    await sleep(100);
    call.child.stdin?.write(key);
  }
}

describe('a question at a terminal', () => {
  useOperator();

  test('for a secret waits for the answer, which can be corrected, and shows none of it', async () => {
    writeFileSync(at('master'), 'correct');
    const expected = auxcred(['gokey', '-P', at('master'), '-r', 'example.org']).stdout;
    const call = start(true, ['gokey', '-r', 'example.org'], environment());
    await answers(/master password: /, ['corx', '\x7frec', 't\r'], call);
    await answers(/master password again: /, ['wrong\x15', 'correct\r'], call);
    await ended(call);
    assert.equal(call.said().replaceAll('\r', ''), `master password: \nmaster password again: \n${expected}`);
  });

  test('for a secret ends with ^C, and changes nothing', async () => {
    const call = start(true, ['gokey', '-r', 'example.org'], environment());
    await answers(/master password: /, ['correct', '\x03'], call);
    await ended(call, 1);
    assert.match(call.said(), /nothing was entered/);
    assert.doesNotMatch(call.said(), /correct/);
  });

  test('for a secret reads an answer that is too long to its end', async () => {
    const call = start(true, ['gokey', '-r', 'example.org'], environment());
    await answers(/master password: /, [...Array<string>(5).fill('x'.repeat(1000)), '\r'], call);
    await ended(call, 1);
    assert.match(call.said(), /the answer is longer than 4095 bytes/);
    assert.doesNotMatch(call.said(), /xx/);
  });

  test('for the words of a seed, which standard input gives otherwise', async () => {
    makeHost('web3');
    const words = `${'abandon '.repeat(23)}art`;
    const call = start(
      true,
      ['seal', `--root=${at('web3')}`, '--no-recovery', '--name=web3', '--seed-file=-'],
      environment(),
    );
    // Pasted from several lines.
    await answers(/24 words: /, [`${words.slice(0, 40)}\r${words.slice(40, 80)}\r`], call);
    await answers(/24 words, from word 11 on: /, [words.slice(80), '\r'], call);
    await ended(call);
    assert.doesNotMatch(call.said(), /abandon/);
    assert.equal(works(['unseal', `--root=${at('web3')}`, '--reveal']), `${words}\n`);
  });

  test('whether to delete waits for a yes', async () => {
    put('group/db/token', 'value');
    const kept = start(true, operator('rm', 'group/db/token'), environment());
    await answers(/delete group\/db\/token\? \[y\/N\] /, ['\r'], kept);
    await ended(kept, exitStatus.refused);
    const gone = start(true, operator('rm', 'group/db/token'), environment());
    await answers(/delete group\/db\/token\? \[y\/N\] /, ['y', 'es\r'], gone);
    await ended(gone);
    assert.equal(auxcred(operator('get', 'group/db/token')).status, exitStatus['not-found']);
  });
});
