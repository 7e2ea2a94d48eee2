// Ask again and again while a page is shown; one request at a time.

/**
 * @param {() => Promise<void>} work
 * @param {number} milliseconds  between the end of one and the start of the next
 * @param {(error: unknown) => void} failed
 */
export function polling(work, milliseconds, failed) {
  /** @type {number | undefined} */
  let timer;
  let round = 0;
  const once = async (/** @type {number} */ mine) => {
    try {
      await work();
    } catch (error) {
      if (mine === round) failed(error);
    }
    if (mine === round) timer = window.setTimeout(() => once(mine), milliseconds);
  };
  const stop = () => {
    round++;
    clearTimeout(timer);
  };
  return {
    /** Ask now, and from then on. */
    start: () => {
      stop();
      return once(round);
    },
    stop,
  };
}
