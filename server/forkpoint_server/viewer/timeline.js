// How an experiment's intervals narrowed: a panel for each arm, on one scale.

import { element } from "./elements.js";

const d3 = /** @type {any} */ (globalThis).d3;
const WIDTH = 360, HEIGHT = 150, MARGIN = { left: 52, right: 20, top: 8, bottom: 30 };
const MINUTE_MILLISECONDS = 60_000, DAY_MILLISECONDS = 86_400_000, TICKS = 4;

/** @param {any} found  as `GET /v1/experiments/{name}/timeline` returns it */
export function timelinePlot({ metric, arms }) {
  const points = Object.values(arms).flat();
  const ends = points.flatMap((point) => [...(point.interval ?? []), point.estimate ?? 0]);
  const last = points.filter((point) => point.interval).flatMap((point) => point.interval.map(Math.abs)).sort(d3.ascending);
  const most = Math.min(d3.max(ends.map(Math.abs)) || 1, 4 * (last[Math.floor(last.length / 4)] ?? Infinity)); // the first intervals are very wide
  const y = d3.scaleLinear([-1.1 * most, 1.1 * most], [HEIGHT - MARGIN.bottom, MARGIN.top]).clamp(true).nice();
  const x = d3.scaleTime(d3.extent(points, (/** @type {any} */ point) => new Date(1000 * point.until)), [MARGIN.left, WIDTH - MARGIN.right]);
  return element("div", { class: "panels" }, ...Object.entries(arms).map(([arm, rows]) => element("figure", {}, panel(rows, x, y, `${metric}, ${arm}`), element("figcaption", {}, rows.some((/** @type {any} */ row) => row.interval) ? arm : `${arm}: no interval yet`))));
}

/** Labels in the largest unit that tells the ticks apart: seconds, minutes or days, and at most one tick for each. @param {any} x */
function timeAxis(x) {
  const [from, to] = x.domain(), [first, second] = x.ticks(TICKS), step = second ? second - first : 0;
  const [unit, format] = to - from >= DAY_MILLISECONDS ? [d3.timeDay, "%-d %b"] : step >= MINUTE_MILLISECONDS ? [d3.timeMinute, "%H:%M"] : [d3.timeSecond, "%H:%M:%S"];
  const labels = d3.timeFormat(format), distinct = new Set(x.ticks(TICKS).map(labels)).size === x.ticks(TICKS).length;
  return d3.axisBottom(x).ticks(distinct ? TICKS : unit).tickFormat(labels).tickSize(0);
}

/** @param {any[]} rows @param {any} x @param {any} y @param {string} label @returns {SVGElement} */
function panel(rows, x, y, label) {
  const at = (/** @type {any} */ row) => x(new Date(1000 * row.until)), known = rows.filter((row) => row.interval), now = known.at(-1);
  const said = now ? `now ${now.interval[0].toPrecision(3)} to ${now.interval[1].toPrecision(3)}` : "no interval yet";
  const svg = d3.create("svg").attr("viewBox", `0 0 ${WIDTH} ${HEIGHT}`).attr("class", "chart").attr("role", "img").attr("aria-label", `${label}: ${said}`);
  svg.append("g").attr("transform", `translate(0,${HEIGHT - MARGIN.bottom + 8})`).call(timeAxis(x));
  svg.append("g").attr("transform", `translate(${MARGIN.left},0)`).call(d3.axisLeft(y).ticks(5).tickSize(-(WIDTH - MARGIN.left - MARGIN.right)));
  svg.append("line").attr("class", "limit").attr("x1", MARGIN.left).attr("x2", WIDTH - MARGIN.right).attr("y1", y(0)).attr("y2", y(0));
  svg.append("path").attr("class", "band").attr("d", d3.area().x(at).y0((/** @type {any} */ row) => y(row.interval[0])).y1((/** @type {any} */ row) => y(row.interval[1]))(known));
  svg.append("path").attr("class", "estimate").attr("d", d3.line().x(at).y((/** @type {any} */ row) => y(row.estimate))(rows.filter((row) => row.estimate !== null)));
  return svg.node();
}
