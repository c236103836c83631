import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { parsePeriod, periodAt, periodBefore, rotations } from '../../src/derive/period.ts';
import { periodVectors, written } from './vectors.ts';

const first = Date.parse('0001-01-01T00:00:00Z');
const last = Date.parse('9999-12-31T23:59:59.999Z');
const instants = fc
  .oneof(
    fc.integer({ min: first, max: last }),
    fc.integer({ min: Date.parse('2000-01-01'), max: Date.parse('2100-01-01') }),
  )
  .map((time) => new Date(time));
const rotation = fc.constantFrom(...rotations);

test('periods are those of the published vectors', () => {
  assert.ok(periodVectors.periods.length > 100);
  for (const { at, previous, ...expected } of periodVectors.periods) {
    const period = periodAt(expected.rotation, new Date(at));
    assert.deepEqual(
      written(period),
      { rotation: expected.rotation, name: expected.name, start: expected.start, end: expected.end },
      at,
    );
    if (previous === null) assert.throws(() => periodBefore(period), { name: 'RangeError' }, at);
    else assert.equal(periodBefore(period).name, previous, at);
    assert.deepEqual(parsePeriod(expected.name), period, at);
  }
});

test('texts of the published vectors that name no period are not read as one', () => {
  assert.ok(periodVectors.notNames.length > 0);
  for (const name of periodVectors.notNames) assert.equal(parsePeriod(name), undefined, JSON.stringify(name));
});

test('instants of the published vectors that lie in no period are refused', () => {
  assert.ok(periodVectors.invalid.length > 0);
  for (const { what, rotation: kind, at, error } of periodVectors.invalid)
    assert.throws(() => periodAt(kind, new Date(at)), { name: error }, what);
});

test('names are those that date(1) writes', () => {
  const dates = fc.sample(instants, 4000);
  const output = execFileSync('date', ['--utc', '--file=-', '+%Y %Y-Q%q %Y-%m %G-W%V %Y-%m-%d'], {
    input: dates.map((date) => `@${String(Math.floor(date.getTime() / 1000))}\n`).join(''),
    encoding: 'utf8',
  });
  const lines = output.trimEnd().split('\n');
  assert.equal(lines.length, dates.length);
  dates.forEach((date, i) => {
    assert.equal(rotations.map((kind) => periodAt(kind, date).name).join(' '), lines[i], date.toISOString());
  });
});

test('every instant lies in its period, which begins and ends at midnight', () => {
  fc.assert(
    fc.property(rotation, instants, (kind, at) => {
      const { start, end } = periodAt(kind, at);
      assert.ok(start <= at && at < end);
      for (const edge of [start, end]) assert.equal(Math.abs(edge.getTime() % 86_400_000), 0);
    }),
    { numRuns: 1000 },
  );
});

test('periods follow one another without a gap, and their names sort like them', () => {
  fc.assert(
    fc.property(rotation, instants, (kind, at) => {
      const period = periodAt(kind, at);
      if (period.end.getTime() > last || period.start.getTime() <= first) return;
      const next = periodAt(kind, period.end);
      assert.deepEqual(next.start, period.end);
      assert.equal(periodAt(kind, new Date(period.end.getTime() - 1)).name, period.name);
      assert.deepEqual(periodBefore(next), period);
      assert.deepEqual(periodBefore(period).end, period.start);
      assert.ok(period.name < next.name);
    }),
    { numRuns: 1000 },
  );
});

test("a period's name is read back as that period", () => {
  fc.assert(
    fc.property(rotation, instants, (kind, at) => {
      const period = periodAt(kind, at);
      assert.deepEqual(parsePeriod(period.name), period);
    }),
    { numRuns: 1000 },
  );
});

test('no other text is read as a period', () => {
  const near = fc
    .tuple(
      fc.stringMatching(/^\d{0,5}$/),
      fc.constantFrom('', '-', '-Q', '-W', '/'),
      fc.stringMatching(/^\d{0,3}$/),
      fc.constantFrom('', '-', '-01', '-31', '\n'),
    )
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(fc.oneof(near, fc.string()), (name) => {
      const period = parsePeriod(name);
      if (period) assert.equal(periodAt(period.rotation, period.start).name, name);
    }),
    { numRuns: 3000 },
  );
});

test('a year has 53 weeks if it begins or ends on a Thursday, and the next week belongs to the next year', () => {
  for (let year = 1; year < 9999; year++) {
    const thursday = (month: number, day: number): boolean => {
      const date = new Date(0);
      date.setUTCFullYear(year, month, day);
      return date.getUTCDay() === 4;
    };
    const name = `${String(year).padStart(4, '0')}-W53`;
    assert.equal(parsePeriod(name) !== undefined, thursday(0, 1) || thursday(11, 31), name);
  }
});

test('the time zone of the machine makes no difference', () => {
  const zone = process.env['TZ'];
  const at = new Date('2026-12-31T23:30:00Z');
  try {
    const names = ['UTC', 'Pacific/Kiritimati', 'Pacific/Pago_Pago'].map((name) => {
      process.env['TZ'] = name;
      return rotations.map((kind) => periodAt(kind, at).name).join(' ');
    });
    assert.deepEqual(new Set(names), new Set(['2026 2026-Q4 2026-12 2026-W53 2026-12-31']));
  } finally {
    if (zone === undefined) delete process.env['TZ'];
    else process.env['TZ'] = zone;
  }
});
