// The answers of a run as a tree, over the same positions as the plot: a line for each, leaving its parent's where it forked.

import { element, counted } from "./elements.js";
import { MARGIN } from "./positions.js";
import { named } from "./visible.js";

/** @typedef {import("./branches.js").Branch} Branch */

const d3 = /** @type {any} */ (globalThis).d3;
const LANE = 38, TOP = 16, LONGEST_LABEL = 14, LONGEST_ANSWER = 36;
/** How an answer ended: the sign at its line's end, and the word for it. */
const ENDINGS = {
  running: ["", "running"], stop: ["●", "stop"], length: ["▮", "cut off"], abort: ["×", "aborted"],
  outvoted: ["×", "outvoted"], unsure: ["×", "stopped: less sure"], exit: ["⤳", "early exit"], error: ["!", "failed"],
};

export class Tree {
  /** @param {string} label @param {(branch: Branch) => void} chosen */
  constructor(label, chosen) {
    this.chosen = chosen;
    /** @type {Branch[]} */
    this.lanes = [];
    /** @type {Map<string, {number: number, answer: string, count: number}>} */
    this.said = new Map();
    this.choice = false; // whether the server chose some of the answers, and left others
    this.svg = d3.create("svg").attr("role", "tree").attr("aria-label", label);
    this.groups = element("p", { class: "tree-answers" });
    this.element = element("div", { hidden: true }, this.groups, element("div", { class: "tree" }, this.svg.node()));
    this.svg.on("keydown", (/** @type {KeyboardEvent} */ event) => this.#key(event));
    for (const name of ["links", "lanes", "probes"]) this.svg.append("g").attr("class", name).attr("role", "none");
    new ResizeObserver(() => this.last && this.show(...this.last)).observe(this.element);
    /** @type {[Branch[], Branch | null, [number, number]] | null} */
    this.last = null;
  }

  /** @param {Branch[]} branches @param {Branch | null} selected @param {[number, number]} shown  the positions between which it is drawn */
  show(branches, selected, shown) {
    this.last = [branches, selected, shown];
    const answers = branches.filter((branch) => !branch.probe);
    this.element.hidden = branches.length < 2;
    const width = this.element.clientWidth;
    if (this.element.hidden || !width) return;
    this.said = groupsOf(answers);
    this.lanes = inOrder(answers, this.said);
    const x = d3.scaleLinear(shown, [MARGIN.left, width - MARGIN.right]).clamp(true);
    this.groups.replaceChildren(...[...this.said.values()].map(({ number, answer, count }) => element("span", {}, element("b", {}, sign(number)), ` ${shortened(answer)} `, element("span", { class: "soft" }, `×${count}`))));
    this.choice = this.lanes.some(({ node }) => node && !node.chosen);
    const rows = rowsOf(this.lanes), last = Math.max(...rows.values());
    const y = (/** @type {Branch} */ branch) => TOP + LANE * (rows.get(branch) ?? 0);
    this.svg.attr("width", width).attr("height", TOP + LANE * last + 24);
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
      made.append("text").attr("class", "said");
      return made;
    });
    lanes.attr("class", (/** @type {Branch} */ one) => `lane${on.has(one) ? " on" : ""}${one === selected ? " selected" : ""} ${one.state}`)
      .attr("transform", (/** @type {Branch} */ one) => `translate(0,${y(one)})`)
      .attr("tabindex", (/** @type {Branch} */ one) => (one === selected ? 0 : -1))
      .attr("aria-selected", (/** @type {Branch} */ one) => String(one === selected))
      .attr("aria-level", (/** @type {Branch} */ one) => ancestry(one).length)
      .attr("aria-label", (/** @type {Branch} */ one) => `${spoken(one)}; ${this.#what(one)}`)
      .on("click", (/** @type {Event} */ _, /** @type {Branch} */ one) => this.chosen(one));
    const goesOn = (/** @type {Branch} */ one) => this.lanes.some((other) => other.parent === one && rows.get(other) === rows.get(one));
    const begin = (/** @type {Branch} */ one) => x(one.at) + (one.parent ? 7 : 0), end = (/** @type {Branch} */ one) => Math.max(begin(one) + 2, x(one.length));
    lanes.select(".reach").attr("x", (/** @type {Branch} */ one) => begin(one) - 6).attr("y", -LANE / 2 + 6).attr("height", LANE)
      .attr("width", (/** @type {Branch} */ one) => end(one) - begin(one) + 14);
    lanes.select(".line").attr("x1", begin).attr("x2", end);
    // Of the selected answer's ancestors only what it shares is part of it.
    lanes.select(".over").attr("x1", begin).attr("x2", (/** @type {Branch} */ one) => x(reached(one, selected)));
    lanes.select(".from").attr("x", (/** @type {Branch} */ one) => begin(one) + 4).attr("y", -5).text(label);
    const right = x.range()[1];
    lanes.select(".said").attr("y", 15).text((/** @type {Branch} */ one) => (goesOn(one) ? "" : this.#what(one)))
      .attr("x", (/** @type {Branch} */ one) => (begin(one) > right / 2 ? right : begin(one) + 4))
      .attr("text-anchor", (/** @type {Branch} */ one) => (begin(one) > right / 2 ? "end" : "start"));
    lanes.select(".end").attr("x", (/** @type {Branch} */ one) => end(one) + 3).attr("y", 4)
      .text((/** @type {Branch} */ one) => (goesOn(one) ? "" : one.node?.chosen && this.choice ? "★" : ending(one)[0]));
  }

  /** What an answer says, its length, its votes, how sure the model was, and how it ended. @param {Branch} one */
  #what(one) {
    const group = this.said.get(one.node?.answer ?? ""), all = [...this.said.values()].reduce((sum, { count }) => sum + count, 0);
    const sure = sureness(one);
    return [
      group && `${sign(group.number)} ${shortened(group.answer)}`, counted(one.length, "token"), group && all > 1 && `${group.count} of ${all} say so`,
      sure !== null && `confidence ${sure.toFixed(2)}`, ending(one)[1], one.node?.chosen && this.choice && "chosen",
    ].filter(Boolean).join(" · ");
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const at = this.lanes.indexOf(/** @type {Branch} */ (this.last?.[1])), end = this.lanes.length - 1;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: end }[event.key];
    const next = this.lanes[to ?? -1];
    if (!next) return;
    event.preventDefault();
    this.chosen(next);
    this.svg.selectAll(".lane").filter((/** @type {Branch} */ one) => one === next).node()?.focus();
  }
}

/** Answers that say the same, the most frequent first. @param {Branch[]} lanes @returns {Map<string, {number: number, answer: string, count: number}>} */
function groupsOf(lanes) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { node } of lanes) if (node?.answer) counts.set(node.answer, (counts.get(node.answer) ?? 0) + 1);
  const sorted = [...counts].sort(([, one], [, other]) => other - one);
  return new Map(sorted.map(([answer, count], at) => [answer, { number: at + 1, answer, count }]));
}

/** @param {number} number */
const sign = (number) => (number <= 20 ? String.fromCodePoint(0x245f + number) : `(${number})`);

/** @param {string} answer */
const shortened = (answer) => {
  const line = named(answer.replace(/\s+/g, " ").trim()).replaceAll("␣", " ");
  return line.length > LONGEST_ANSWER ? `${line.slice(0, LONGEST_ANSWER - 1)}…` : line;
};

/** The geometric mean of the probabilities that the model gave an answer's tokens; null where they are not known. @param {Branch} branch */
function sureness(branch) {
  const known = branch.state === "running" ? [] : branch.path().filter((token) => token.before !== null && token.before > 0);
  return known.length ? Math.exp(known.reduce((sum, token) => sum + Math.log(/** @type {number} */ (token.before)), 0) / known.length) : null;
}

/** Parents before children, and these right below them, the latest to leave first, so that no line crosses another. Of
 * answers that share no beginning, those that say the same are together once all have ended, the most frequent first.
 * @param {Branch[]} branches @param {Map<string, {number: number}>} said */
function inOrder(branches, said) {
  const roots = branches.filter((branch) => !branch.parent);
  if (roots.every((root) => root.state !== "running")) {
    const number = (/** @type {Branch} */ root) => said.get(root.node?.answer ?? "")?.number ?? Infinity;
    roots.sort((one, other) => (number(one) === number(other) ? 0 : number(one) - number(other)));
  }
  /** @param {Branch} parent @returns {Branch[]} */
  const below = (parent) =>
    branches.filter((branch) => branch.parent === parent)
      .sort((one, other) => other.at - one.at)
      .flatMap(withThoseBelow);
  /** @param {Branch} branch @returns {Branch[]} */
  const withThoseBelow = (branch) => [branch, ...below(branch)];
  return roots.flatMap(withThoseBelow);
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
  return `Answer ${from}, ${counted(branch.length, "token")}, ${ending(branch)[1]}`;
}
