import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearest } from '../src/nearest.ts';

test('the nearest choice is at most two edits away; of equally near ones, what goes on from the word', () => {
  for (const [word, choices, hint] of [
    ['aply', ['seal', 'apply'], 'did you mean apply?'],
    ['stat', ['seal', 'stage', 'status'], 'did you mean status?'],
    ['STAT', ['seal', 'status'], 'did you mean status?'],
    ['sea', ['status', 'seal'], 'did you mean seal?'],
    ['xyz', ['seal', 'status'], undefined],
  ] as const)
    assert.equal(nearest(word, choices), hint, word);
});
