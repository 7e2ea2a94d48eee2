// The signals of hidden states over position, one at a time: a line on its own scale, the values that rules compare it with, and where
// rules fired. It is there only for answers that have such signals.

import { counted, element } from "./elements.js";
import { spans, stepped } from "./lines.js";
import { MARGIN, Positions } from "./positions.js";
import { asWritten, inDigits, limitsOf, measured, signalOf } from "./signals.js";
import { spoken } from "./text.js";

/** @typedef {import("./types.js").Token} Token */
/** @typedef {import("./types.js").Bounds} Bounds */

const d3 = /** @type {any} */ (globalThis).d3;
const HEIGHT = 112;
const LARGE = 10_000; // from here on, the scale is written with a prefix: the margin has room for five digits

export class States {
  /** @param {string} run  its name @param {import("./positions.js").Moves} moves */
  constructor(run, moves) {
    /** @type {Token[]} */
    this.tokens = [];
    /** @type {Record<string, Bounds>} by the signal's name in the trace */
    this.bounds = {};
    /** @type {string[]} */
    this.keys = [];
    this.positions = new Positions(`Hidden states over position, run ${run}`, HEIGHT, moves, {
      draw: () => this.#draw(),
      read: (token) => measured(this.key, token.hidden?.[this.key]),
      spoken: (token, position) => this.spoken(token, position),
    }, ["line", "fired", "limit"]);
    this.select = element("select", {
      id: `signal-${run}`,
      onchange: () => {
        this.#describe();
        this.positions.show(this.tokens, this.positions.length);
        this.positions.say();
      },
    });
    this.about = element("p", { class: "states-about", id: `states-${run}` });
    for (const one of [this.select, this.positions.element]) one.setAttribute("aria-describedby", this.about.id);
    this.element = element("div", { class: "states", role: "group", "aria-label": `Hidden states of run ${run}`, hidden: true });
  }

  /** The signal that is shown, by its name in the trace. @returns {string} */
  get key() {
    return this.select.value;
  }

  /** @param {Token[]} tokens @param {number} length  of the longer of two runs @param {Record<string, Bounds>} bounds */
  show(tokens, length, bounds) {
    const keys = Object.keys(tokens.find(({ hidden }) => hidden)?.hidden ?? {});
    this.element.hidden = !keys.length;
    Object.assign(this, { tokens, bounds });
    if (!keys.length) return;
    if (!this.element.firstChild) this.element.append(element("div", { class: "states-head" }, element("span", {}, element("label", { for: this.select.id }, "Hidden states"), " ", this.select), this.about), this.positions.element);
    if (keys.join() !== this.keys.join()) this.#offer(keys);
    this.#describe();
    this.positions.show(tokens, length);
  }

  /** @param {string[]} keys */
  #offer(keys) {
    const { key } = this;
    this.keys = keys;
    this.select.replaceChildren(...keys.map((one) => element("option", { value: one }, signalOf(one).name)));
    if (keys.includes(key)) this.select.value = key;
  }

  /** @param {import("./positions.js").Part} part */
  zoom(part) {
    this.positions.zoom(part);
  }

  /** @param {number | null} position */
  mark(position) {
    this.positions.mark(position);
  }

  /** A token for screen readers, with the signal that is shown. @param {Token} token @param {number} position */
  spoken(token, position) {
    return `${spoken(token, position)}, ${signalOf(this.key).name} ${measured(this.key, token.hidden?.[this.key])}`;
  }

  /** What the plot shows, as text. */
  #describe() {
    const { key, tokens } = this, limits = limitsOf(this.bounds[key]);
    let known = 0, least = Infinity, most = -Infinity;
    for (const { hidden } of tokens) {
      const value = hidden?.[key] ?? null;
      if (value === null) continue;
      known++;
      least = Math.min(least, value);
      most = Math.max(most, value);
    }
    this.about.textContent = [
      signalOf(key).meaning,
      known ? `${inDigits(least)} to ${inDigits(most)}, known at ${known.toLocaleString("en")} of ${counted(tokens.length, "token")}` : "not known at any token",
      limits.length && `dashed: the policy's rules ask for ${limits.map(({ value, side }) => `${side} ${asWritten(value)}`).join(", ")}`,
      tokens.some(({ actions }) => actions.length) && "ticks: a rule fired",
    ].filter(Boolean).join(" · ");
  }

  #draw() {
    const { positions, key } = this, { x, svg } = positions, limits = limitsOf(this.bounds[key]);
    const values = [...limits.map(({ value }) => value), ...(signalOf(key).signed ? [0] : [])];
    for (const { hidden } of this.tokens) if (typeof hidden?.[key] === "number") values.push(hidden[key]);
    const y = d3.scaleLinear(padded(d3.extent(values)), positions.heights);
    positions.axes(y, 4, y.domain().some((/** @type {number} */ end) => Math.abs(end) >= LARGE) ? "~s" : undefined);
    positions.limits(limits.map(({ value }) => value), y);
    this.#names(limits, y);
    svg.select(".line").selectAll("path").data([key]).join("path").attr("d", stepped(spans(this.tokens.length, (place) => this.tokens[place].hidden?.[key] ?? null, x), y));
    svg.select(".fired").selectAll("path").data([key]).join("path").attr("d", ticks(this.tokens, x, positions.heights[0] + 2));
  }

  /** @param {{value: number, side: "above" | "below"}[]} limits @param {any} y */
  #names(limits, y) {
    const names = this.positions.svg.select(".limit").selectAll("text").data(limits).join("text");
    names.text((/** @type {any} */ one) => `${one.side} ${asWritten(one.value)}`).attr("text-anchor", "end")
      .attr("x", this.positions.width - MARGIN.right)
      // Below the lowest value there are the ticks.
      .attr("y", (/** @type {any} */ one) => y(one.value) + (one.side === "above" || y(one.value) + 10 > this.positions.heights[0] ? -3 : 10));
  }
}

/** A little more than from the least value to the most. @param {[number, number] | [undefined, undefined]} extent */
function padded([least = 0, most = 1]) {
  const room = 0.12 * (most - least) || Math.max(0.5, 0.1 * Math.abs(most));
  return [least - room, most + room];
}

/** A tick below each token at which a rule fired. @param {Token[]} tokens @param {any} x @param {number} top  in pixels */
function ticks(tokens, x, top) {
  const step = x(1) - x(0), wide = Math.max(2, step > 3 ? step - 1 : step), [from, to] = x.domain();
  let path = "", end = NaN;
  for (let place = Math.max(0, Math.floor(from)); place < Math.min(to, tokens.length); place++) {
    const left = step < 1 ? Math.floor(x(place)) : x(place);
    if (!tokens[place].actions.length || left === end) continue;
    path += `M${left},${top}h${wide}v4h${-wide}z`;
    end = left;
  }
  return path;
}
