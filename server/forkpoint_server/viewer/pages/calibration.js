// Calibration: the served model's fork threshold, what it was measured on, and where it lies among the entropies of live traffic.

import { ask, askJson } from "../api.js";
import { element, percent } from "../elements.js";
import { chip, empty, frame } from "../frame.js";
import { read } from "../metrics.js";
import { tile } from "./live.js";

const d3 = /** @type {any} */ (globalThis).d3;
const ENTROPY = "forkpoint_token_entropy_nats_bucket";
const WIDTH = 720, HEIGHT = 180, MARGIN = { left: 46, right: 12, top: 18, bottom: 34 };

/** @param {HTMLElement} place @returns {import("../nav.js").Page} */
export function mount(place) {
  const page = frame(place, "Calibration", "A fork is a token whose entropy is above the served model's threshold: the 80th percentile on your own prompts.");
  return {
    async show() {
      const [found, scraped] = await Promise.all([askJson("v1/calibration"), ask("metrics").then((response) => response.text())]);
      page.body.replaceChildren(...facts(found), ...observed(found.fork_threshold, scraped), how(found));
    },
  };
}

/** @param {any} found  as `GET /v1/calibration` returns it */
function facts(found) {
  const { fork_threshold: threshold, interval, tokens, prompts, answers, mean_reasoning_tokens: reasoning } = found;
  const number = (/** @type {any} */ value) => (value === undefined || value === null ? "–" : Number(value).toLocaleString("en", { maximumFractionDigits: 1 }));
  return [
    element("p", { class: "row" }, element("b", {}, found.model), found.calibrated ? chip("calibrated", "good") : chip("not calibrated", "warn"),
      found.created ? element("span", { class: "soft" }, `measured ${String(found.created).slice(0, 16).replace("T", " ")}`) : null),
    ...(found.warning ? [element("p", { class: "notice" }, found.warning)] : []),
    element("div", { class: "tiles" },
      tile("Fork threshold", `${threshold.toFixed(3)} nats`, interval ? `95% interval ${interval[0].toFixed(3)} to ${interval[1].toFixed(3)}` : "the default"),
      ...(found.calibrated ? [
        tile("Below 0.01 nats", percent(found.share_below_0_01), "of the tokens"),
        tile("Measured on", `${number(tokens)} tokens`, `${number(prompts)} prompts, ${number(answers)} answers`),
        tile("Mean reasoning", number(reasoning), "tokens"),
      ] : [])),
  ];
}

/** The histogram of entropies since the server started, with the threshold. @param {number} threshold @param {string} scraped @returns {(Node | string)[]} */
function observed(threshold, scraped) {
  /** @type {Map<number, number>} */
  const cumulative = new Map();
  for (const [, { labels, value }] of read(scraped, 0).matching(ENTROPY, {})) {
    const edge = labels.le === "+Inf" ? Infinity : Number(labels.le);
    cumulative.set(edge, (cumulative.get(edge) ?? 0) + value);
  }
  const edges = [...cumulative.keys()].sort((one, other) => one - other), total = cumulative.get(Infinity) ?? 0;
  if (!total) return [empty("No entropies yet", element("p", {}, "After the first requests, their distribution is shown here."))];
  const bins = edges.map((edge, at) => ({ from: at ? edges[at - 1] : 0, to: edge, count: (cumulative.get(edge) ?? 0) - (at ? cumulative.get(edges[at - 1]) ?? 0 : 0) }));
  const share = bins.filter((bin) => bin.from >= threshold).reduce((sum, bin) => sum + bin.count, 0) / total;
  const x = d3.scaleBand(bins.map((_, at) => at), [MARGIN.left, WIDTH - MARGIN.right]).padding(0.12);
  const y = d3.scaleLinear([0, d3.max(bins, (/** @type {any} */ bin) => bin.count / total)], [HEIGHT - MARGIN.bottom, MARGIN.top]);
  const svg = d3.create("svg").attr("viewBox", `0 0 ${WIDTH} ${HEIGHT}`).attr("class", "chart").attr("role", "img")
    .attr("aria-label", `Distribution of ${total} entropies; about ${percent(share)} are above the threshold`);
  svg.append("g").selectAll("rect").data(bins).join("rect").attr("class", (/** @type {any} */ bin) => (bin.from >= threshold ? "fork" : ""))
    .attr("x", (/** @type {any} */ _, /** @type {number} */ at) => x(at)).attr("width", x.bandwidth())
    .attr("y", (/** @type {any} */ bin) => y(bin.count / total)).attr("height", (/** @type {any} */ bin) => y(0) - y(bin.count / total));
  svg.append("g").attr("transform", `translate(0,${HEIGHT - MARGIN.bottom})`)
    .call(d3.axisBottom(x).tickSize(0).tickFormat((/** @type {number} */ at) => (bins[at].to === Infinity ? "more" : String(bins[at].to))));
  svg.append("g").attr("transform", `translate(${MARGIN.left},0)`).call(d3.axisLeft(y).ticks(4, "%").tickSize(-(WIDTH - MARGIN.left - MARGIN.right)));
  const at = bins.findIndex((bin) => threshold > bin.from && threshold <= bin.to);
  const limit = x(at) + (bins[at].to === Infinity ? 0 : x.bandwidth() * (threshold - bins[at].from) / (bins[at].to - bins[at].from));
  svg.append("line").attr("class", "limit").attr("x1", limit).attr("x2", limit).attr("y1", MARGIN.top - 8).attr("y2", HEIGHT - MARGIN.bottom);
  svg.append("text").attr("x", limit + 4).attr("y", MARGIN.top).text(`threshold ${threshold.toFixed(3)}`);
  return [element("div", { class: "sheet" }, element("h2", {}, `Entropies of ${total.toLocaleString("en")} tokens since the server started`), element("div", { class: "scrolled" }, svg.node()),
    element("p", { class: "hint" }, `Each bar: the share of the tokens with up to so many nats. About ${percent(share)} of the tokens are in bins wholly above the threshold; it was set so that 20% are above it on the prompts that it was measured on.`))];
}

/** @param {any} found */
function how(found) {
  return element("div", { class: "sheet" },
    element("h2", {}, found.calibrated ? "Measure again" : "Measure it"),
    element("pre", {}, `forkpoint calibrate --prompts prompts.jsonl --server ${location.origin}/v1`),
    element("p", { class: "hint" }, "A prompt on each line. It generates 50,000 tokens under “observe” and stores the threshold on the server. While an experiment runs, the server refuses a new one."));
}
