// Values over position as a line that stays at each until the next one.

/** @typedef {{left: number, right: number, low: number, high: number}} Span */

/**
 * The known values from left to right; where many share a pixel, the lowest and the highest of them.
 * @param {number} count  of positions
 * @param {(place: number) => number | null} valueAt
 * @param {any} x  the scale of the positions that are shown
 */
export function spans(count, valueAt, x) {
  const dense = x(1) - x(0) < 1, [from, to] = x.domain();
  /** @type {Span[]} */
  const found = [];
  for (let place = Math.max(0, Math.floor(from)); place < Math.min(to, count); place++) {
    const value = valueAt(place), last = found.at(-1);
    if (value === null) continue;
    const left = dense ? Math.floor(x(place)) : x(place);
    if (dense && last?.left === left) Object.assign(last, { low: Math.min(last.low, value), high: Math.max(last.high, value) });
    else found.push({ left, right: dense ? left + 1 : x(place + 1), low: value, high: value });
  }
  return found;
}

/** The path of the line, with gaps where no value is known. @param {Span[]} found @param {any} y */
export function stepped(found, y) {
  let path = "", end = NaN;
  for (const { left, right, low, high } of found) {
    const top = y(high).toFixed(1);
    path += left === end ? `V${top}` : `M${left},${top}`;
    path += high === low ? `H${right}` : `V${y(low).toFixed(1)}H${right}`;
    end = right;
  }
  return path;
}
