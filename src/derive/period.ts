/**
 * Periods are stretches of the UTC calendar: `2026`, `2026-Q4`, `2026-11`, `2026-W47` (ISO 8601 weeks), `2026-11-23`.
 * A rotating secret is another secret in each period.
 */

/** How often a secret can rotate. */
export const rotations = ['yearly', 'quarterly', 'monthly', 'weekly', 'daily'] as const;
/** One frequency of rotation. */
export type Rotation = (typeof rotations)[number];

/** One period. It starts at `start` and ends right before `end`. */
export interface Period {
  readonly name: string;
  readonly rotation: Rotation;
  readonly start: Date;
  /** The start of the next one. */
  readonly end: Date;
}

const dayLength = 86_400_000;
const padded = (value: number, length = 2): string => String(value).padStart(length, '0');
const utc = (year: number, month: number, day = 1): Date => {
  const date = new Date(0);
  date.setUTCFullYear(year, month, day);
  return date;
};

/** The Monday of an ISO week. Week 1 is the one with 4 January. */
function weekStart(year: number, week: number): Date {
  const fourth = utc(year, 0, 4);
  return new Date(fourth.getTime() + (1 - (fourth.getUTCDay() || 7) + 7 * (week - 1)) * dayLength);
}

/** Period names have years of four digits. Year 1 is the first: it begins with its own week 1. */
const hasPeriods = (at: Date): boolean => at.getUTCFullYear() >= 1 && at.getUTCFullYear() <= 9999;

/** The period of `rotation` that holds `at`. @throws RangeError outside the years 1 to 9999 */
export function periodAt(rotation: Rotation, at: Date): Period {
  if (!hasPeriods(at)) throw new RangeError('a period lies in the years 1 to 9999');
  const [year, month, day] = [at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate()];
  switch (rotation) {
    case 'yearly':
      return { name: padded(year, 4), rotation, start: utc(year, 0), end: utc(year + 1, 0) };
    case 'quarterly': {
      const quarter = Math.floor(month / 3);
      return {
        name: `${padded(year, 4)}-Q${String(quarter + 1)}`,
        rotation,
        start: utc(year, 3 * quarter),
        end: utc(year, 3 * quarter + 3),
      };
    }
    case 'monthly':
      return {
        name: `${padded(year, 4)}-${padded(month + 1)}`,
        rotation,
        start: utc(year, month),
        end: utc(year, month + 1),
      };
    case 'weekly': {
      // The year of a week is that of its Thursday.
      const thursday = new Date(utc(year, month, day).getTime() + (4 - (at.getUTCDay() || 7)) * dayLength);
      const start = new Date(thursday.getTime() - 3 * dayLength);
      const week =
        1 + Math.round((start.getTime() - weekStart(thursday.getUTCFullYear(), 1).getTime()) / (7 * dayLength));
      return {
        name: `${padded(thursday.getUTCFullYear(), 4)}-W${padded(week)}`,
        rotation,
        start,
        end: new Date(start.getTime() + 7 * dayLength),
      };
    }
    case 'daily':
      return {
        name: `${padded(year, 4)}-${padded(month + 1)}-${padded(day)}`,
        rotation,
        start: utc(year, month, day),
        end: utc(year, month, day + 1),
      };
  }
}

/** The period before this one. @throws RangeError for the first one: see {@link isFirst} */
export const periodBefore = ({ rotation, start }: Period): Period => periodAt(rotation, new Date(start.getTime() - 1));

/** Whether no period comes before this one. */
export const isFirst = ({ start }: Period): boolean => !hasPeriods(new Date(start.getTime() - 1));

/** Parses a period's name. @returns undefined for anything else, such as `2026-13` or week 53 of a year with 52 */
export function parsePeriod(name: string): Period | undefined {
  const [, year = '', quarter, week, month, day] =
    /^(\d{4})(?:-Q([1-4])|-W(\d\d)|-(\d\d)(?:-(\d\d))?)?$/.exec(name) ?? [];
  if (year === '') return undefined;
  const first = Number(year);
  const [rotation, start]: readonly [Rotation, Date] =
    quarter !== undefined
      ? ['quarterly', utc(first, 3 * (Number(quarter) - 1))]
      : week !== undefined
        ? ['weekly', weekStart(first, Number(week))]
        : day !== undefined
          ? ['daily', utc(first, Number(month) - 1, Number(day))]
          : month !== undefined
            ? ['monthly', utc(first, Number(month) - 1)]
            : ['yearly', utc(first, 0)];
  if (!hasPeriods(start)) return undefined;
  const period = periodAt(rotation, start);
  // Month 13 rolls over into the next year, whose period has another name.
  return period.name === name ? period : undefined;
}
