const tooLate = Symbol('too late');

/**
 * Waits at most `limit` milliseconds for `work`. Work that takes longer goes on, and its result is lost.
 * @param late - makes the result in place of that, or throws
 */
export async function within<T, L>(limit: number, work: Promise<T>, late: () => L): Promise<T | L> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<typeof tooLate>((resolve) => {
    timer = setTimeout(resolve, limit, tooLate);
  });
  try {
    const first = await Promise.race([work, timeout]);
    return first === tooLate ? late() : first;
  } finally {
    clearTimeout(timer);
  }
}
