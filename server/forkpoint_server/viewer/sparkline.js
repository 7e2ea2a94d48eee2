// Small plots in a line: a series over time, and an interval beside zero.

const d3 = /** @type {any} */ (globalThis).d3;

/** A line through values; nulls are gaps. @param {(number | null)[]} values @param {string} label @param {{width?: number, height?: number}} [size] @returns {SVGElement} */
export function sparkline(values, label, { width = 120, height = 24 } = {}) {
  const known = values.filter((value) => value !== null);
  const x = d3.scaleLinear([0, Math.max(1, values.length - 1)], [1, width - 1]);
  const y = d3.scaleLinear([Math.min(0, ...known), Math.max(1e-9, ...known)], [height - 2, 2]);
  const svg = d3.create("svg").attr("class", "spark").attr("width", width).attr("height", height).attr("role", "img").attr("aria-label", label);
  const line = d3.line().defined((/** @type {number | null} */ value) => value !== null).x((/** @type {any} */ _, /** @type {number} */ at) => x(at)).y(y);
  svg.append("path").attr("d", line(values));
  return svg.node();
}

/**
 * Intervals on one scale, zero marked: an estimate's dot on the line from its low to its high end.
 * @param {{low: number | null, high: number | null, estimate: number | null}} interval
 * @param {[number, number]} range
 * @param {string} label
 * @returns {SVGElement}
 */
export function intervalPlot({ low, high, estimate }, range, label, { width = 180, height = 22 } = {}) {
  const x = d3.scaleLinear(range, [6, width - 6]).clamp(true), middle = height / 2;
  const svg = d3.create("svg").attr("class", "interval").attr("width", width).attr("height", height).attr("role", "img").attr("aria-label", label);
  svg.append("line").attr("class", "zero").attr("x1", x(0)).attr("x2", x(0)).attr("y1", 1).attr("y2", height - 1);
  if (low !== null && high !== null) svg.append("line").attr("class", "reach").attr("x1", x(low)).attr("x2", x(high)).attr("y1", middle).attr("y2", middle);
  if (estimate !== null) svg.append("circle").attr("cx", x(estimate)).attr("cy", middle).attr("r", 3.5);
  return svg.node();
}
