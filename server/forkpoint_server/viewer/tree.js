// The answers of a run as a tree, over the same positions as the plot: a line for each, leaving its parent's where it forked.

import { element, counted } from "./elements.js";
import { MARGIN } from "./plot.js";
import { named } from "./visible.js";

/** @typedef {import("./branches.js").Branch} Branch */

const d3 = /** @type {any} */ (globalThis).d3;
const LANE = 24, TOP = 14, LONGEST_LABEL = 14;
/** How an answer ended: the sign at its line's end, and the word for it. */
const ENDINGS = {
  running: ["", "running"], stop: ["●", "ended by itself"], length: ["▮", "cut at its longest"], abort: ["×", "stopped"],
  outvoted: ["×", "outvoted"], unsure: ["×", "stopped: less sure"], exit: ["⤳", "left early"], error: ["!", "failed"],
};

export class Tree {
  /** @param {string} label @param {(branch: Branch) => void} chosen */
  constructor(label, chosen) {
    this.chosen = chosen;
    /** @type {Branch[]} */
    this.lanes = [];
    this.svg = d3.create("svg").attr("role", "tree").attr("aria-label", label);
    this.element = element("div", { class: "tree", hidden: true }, this.svg.node());
    this.svg.on("keydown", (/** @type {KeyboardEvent} */ event) => this.#key(event));
    for (const name of ["links", "lanes", "probes"]) this.svg.append("g").attr("class", name).attr("role", "none");
    new ResizeObserver(() => this.last && this.show(...this.last)).observe(this.element);
    /** @type {[Branch[], Branch | null, number] | null} */
    this.last = null;
  }

  /** @param {Branch[]} branches @param {Branch | null} selected @param {number} length */
  show(branches, selected, length) {
    this.last = [branches, selected, length];
    const answers = branches.filter((branch) => !branch.probe);
    this.element.hidden = branches.length < 2;
    const width = this.element.clientWidth;
    if (this.element.hidden || !width) return;
    this.lanes = inOrder(answers);
    const x = d3.scaleLinear([0, Math.max(20, length)], [MARGIN.left, width - MARGIN.right]);
    const rows = rowsOf(this.lanes), last = Math.max(...rows.values());
    const y = (/** @type {Branch} */ branch) => TOP + LANE * (rows.get(branch) ?? 0);
    this.svg.attr("width", width).attr("height", TOP + LANE * last + 16);
    const on = new Set(ancestry(selected));
    this.#links(x, y, on, rows);
    this.#lanes(x, y, on, selected, rows);
    this.svg.select(".probes").selectAll("path").data(branches.filter((branch) => branch.probe && branch.parent)).join("path")
      .attr("d", d3.symbol(d3.symbolDiamond, 26)())
      .attr("transform", (/** @type {Branch} */ one) => `translate(${x(one.at)},${y(/** @type {Branch} */ (one.parent))})`);
  }

  /** @param {any} x @param {(branch: Branch) => number} y @param {Set<Branch>} on @param {Map<Branch, number>} rows */
  #links(x, y, on, rows) {
    const leaving = this.lanes.filter((one) => one.parent && rows.get(one) !== rows.get(one.parent));
    this.svg.select(".links").selectAll("path").data(leaving).join("path")
      .attr("class", (/** @type {Branch} */ one) => (on.has(one) ? "on" : ""))
      .attr("d", (/** @type {Branch} */ one) => {
        const from = y(/** @type {Branch} */ (one.parent)), to = y(one), at = x(one.at);
        return `M${at},${from}V${to - 7}Q${at},${to} ${at + 7},${to}`;
      });
  }

  /** @param {any} x @param {(branch: Branch) => number} y @param {Set<Branch>} on @param {Branch | null} selected @param {Map<Branch, number>} rows */
  #lanes(x, y, on, selected, rows) {
    const lanes = this.svg.select(".lanes").selectAll("g").data(this.lanes).join((/** @type {any} */ enter) => {
      const made = enter.append("g").attr("role", "treeitem");
      made.append("rect").attr("class", "reach");
      made.append("line").attr("class", "line");
      made.append("line").attr("class", "line over");
      made.append("text").attr("class", "from");
      made.append("text").attr("class", "end");
      return made;
    });
    lanes.attr("class", (/** @type {Branch} */ one) => `lane${on.has(one) ? " on" : ""}${one === selected ? " selected" : ""} ${one.state}`)
      .attr("transform", (/** @type {Branch} */ one) => `translate(0,${y(one)})`)
      .attr("tabindex", (/** @type {Branch} */ one) => (one === selected ? 0 : -1))
      .attr("aria-selected", (/** @type {Branch} */ one) => String(one === selected))
      .attr("aria-level", (/** @type {Branch} */ one) => ancestry(one).length)
      .attr("aria-label", spoken)
      .on("click", (/** @type {Event} */ _, /** @type {Branch} */ one) => this.chosen(one));
    const goesOn = (/** @type {Branch} */ one) => this.lanes.some((other) => other.parent === one && rows.get(other) === rows.get(one));
    const begin = (/** @type {Branch} */ one) => x(one.at) + (one.parent ? 7 : 0), end = (/** @type {Branch} */ one) => Math.max(begin(one) + 2, x(one.length));
    lanes.select(".reach").attr("x", (/** @type {Branch} */ one) => begin(one) - 6).attr("y", -LANE / 2).attr("height", LANE)
      .attr("width", (/** @type {Branch} */ one) => end(one) - begin(one) + 14);
    lanes.select(".line").attr("x1", begin).attr("x2", end);
    // Of the selected answer's ancestors only what it shares is part of it.
    lanes.select(".over").attr("x1", begin).attr("x2", (/** @type {Branch} */ one) => x(reached(one, selected)));
    lanes.select(".from").attr("x", (/** @type {Branch} */ one) => begin(one) + 4).attr("y", -5).text(label);
    lanes.select(".end").attr("x", (/** @type {Branch} */ one) => end(one) + 3).attr("y", 4)
      .text((/** @type {Branch} */ one) => (goesOn(one) ? "" : one.node?.chosen && one.trace.choices.length > 1 ? "★" : ending(one)[0]));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const at = this.lanes.indexOf(/** @type {Branch} */ (this.last?.[1]));
    const next = this.lanes[at + (step ?? 0)];
    if (!step || !next) return;
    event.preventDefault();
    this.chosen(next);
    this.svg.selectAll(".lane").filter((/** @type {Branch} */ one) => one === next).node()?.focus();
  }
}

/** Parents before children, and these right below them, the latest to leave first, so that no line crosses another. @param {Branch[]} branches */
function inOrder(branches) {
  /** @param {Branch | null} parent @returns {Branch[]} */
  const below = (parent) =>
    branches.filter((branch) => branch.parent === parent)
      .sort((one, other) => (parent ? other.at - one.at : 0))
      .flatMap((branch) => [branch, ...below(branch)]);
  return below(null);
}

/** The row of each: its own, or its parent's where it goes on from the end of that. @param {Branch[]} lanes @returns {Map<Branch, number>} */
function rowsOf(lanes) {
  /** @type {Map<Branch, number>} */
  const rows = new Map();
  let next = 0;
  const continued = new Set();
  for (const one of lanes) {
    const { parent } = one, above = parent && rows.get(parent);
    const goesOn = parent && parent.state !== "running" && one.at >= parent.length - 1 && !continued.has(parent);
    if (goesOn) continued.add(parent);
    rows.set(one, goesOn ? /** @type {number} */ (above) : next++);
  }
  return rows;
}

/** @param {Branch | null} branch @returns {Branch[]} */
const ancestry = (branch) => (branch ? [branch, ...ancestry(branch.parent)] : []);

/** How far along a branch the selected answer goes. @param {Branch} branch @param {Branch | null} selected */
function reached(branch, selected) {
  if (branch === selected) return branch.length;
  const next = ancestry(selected).find((one) => one.parent === branch);
  return next ? next.at : branch.at;
}

/** @param {Branch} branch */
function label(branch) {
  const text = named(branch.given.map((token) => token.text).join("").replace(/^ (?=.)/, ""));
  if (!branch.given.length) return "";
  // Most tokens begin with a space; here that says nothing.
  return text.length > LONGEST_LABEL ? `${text.slice(0, LONGEST_LABEL - 1)}…` : text;
}

/** @param {Branch} branch @returns {string[]} */
const ending = (branch) => ENDINGS[/** @type {keyof typeof ENDINGS} */ (branch.state)] ?? ["", branch.state];

/** @param {Branch} branch */
function spoken(branch) {
  const from = branch.parent ? `from token ${branch.at} with ${label(branch)}` : "from the beginning";
  return `Answer ${from}, ${counted(branch.length, "token")}, ${ending(branch)[1]}${branch.node?.chosen ? ", chosen" : ""}`;
}
