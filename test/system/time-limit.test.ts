import assert from 'node:assert/strict';
import { test } from 'node:test';
import { within } from '../../src/system/time-limit.ts';

const never = new Promise<string>(() => undefined);
const late = (): never => assert.fail('it is in time');

test('work that ends in time has its own result, or its own failure', async () => {
  assert.equal(await within(60_000, Promise.resolve('done'), late), 'done');
  assert.equal(await within(60_000, Promise.resolve(undefined), late), undefined);
  await assert.rejects(within(60_000, Promise.reject(new Error('broken')), late), /^Error: broken$/);
});

test('work that takes longer is not waited for', async () => {
  assert.equal(await within(1, never, () => 'late'), 'late');
  await assert.rejects(
    within(1, never, () => {
      throw new Error('too late');
    }),
    /^Error: too late$/,
  );
});
