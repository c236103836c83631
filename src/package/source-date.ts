/**
 * The timestamp of everything that is built, in seconds since 1970, so that the same sources give the same bytes:
 * 2026-11-01, unless the builder sets it.
 */
export const sourceDate = Number(process.env['SOURCE_DATE_EPOCH'] ?? 1793491200);
