// The positions of an answer from left to right, as its plots share them: which of them are shown, the cursor, the pointer and the keys.

import { element } from "./elements.js";

/** @typedef {import("./types.js").Token} Token */
/** @typedef {[number, number] | null} Part  the first position that is shown and the one after the last; null: all */
/** @typedef {{moved: (position: number | null) => void, opened: (position: number) => void, zoomed: (part: Part) => void}} Moves */

const d3 = /** @type {any} */ (globalThis).d3;
export const MARGIN = { left: 34, right: 22 };
export const TOP = 8;
const BOTTOM = 26;
/** Fewer tokens are not shown alone. */
export const LEAST_SHOWN = 20;

export class Positions {
  /**
   * @param {string} label
   * @param {number} height  in pixels
   * @param {Moves} moves
   * @param {{draw: () => void, read: (token: Token, position: number) => string, spoken: (token: Token, position: number) => string}} shows  `read` is short
   * @param {string[]} layers  of the drawing, over the axes and below the cursor
   * @param {...Node} below  the drawing
   */
  constructor(label, height, moves, shows, layers, ...below) {
    this.height = height;
    this.moves = moves;
    this.shows = shows;
    /** @type {Token[]} */
    this.tokens = [];
    this.length = 0;
    /** @type {number | null} */
    this.cursor = null;
    this.pointed = false;
    /** @type {Part} */
    this.part = null;
    this.width = 0;
    this.svg = d3.create("svg").attr("aria-hidden", "true");
    for (const name of ["across", "up", ...layers, "cursor"]) this.svg.append("g").attr("class", name);
    this.readout = element("output", { class: "readout" });
    this.element = element("div", {
      class: "plot", tabIndex: 0, role: "slider", "aria-label": label, "aria-valuemin": 0,
      onpointermove: (/** @type {PointerEvent} */ event) => this.#point(event),
      onpointerdown: (/** @type {PointerEvent} */ event) => this.#point(event),
      onpointerleave: () => {
        if (this.pointed) moves.moved(null); // the page may scroll under a pointer that has not moved
        this.pointed = false;
      },
      onclick: () => this.cursor !== null && moves.opened(this.cursor),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
      "aria-keyshortcuts": "+ - 0",
    }, ...below, this.svg.node(), this.readout);
    new ResizeObserver(() => {
      this.width = this.element.clientWidth;
      this.#draw();
    }).observe(this.element);
  }

  /** Show a part of the answer. @param {Part} part */
  zoom(part) {
    this.part = part;
    this.#draw();
  }

  /** The positions between which is drawn. @returns {[number, number]} */
  get shown() {
    return this.part ?? [0, Math.max(LEAST_SHOWN, this.length)];
  }

  get x() {
    return d3.scaleLinear(this.shown, [MARGIN.left, this.width - MARGIN.right]);
  }

  /** The heights, in pixels from the top, between which values are drawn. @returns {[number, number]} */
  get heights() {
    return [this.height - BOTTOM, TOP];
  }

  /** @param {Token[]} tokens @param {number} length  of the longer of two runs */
  show(tokens, length) {
    Object.assign(this, { tokens, length });
    this.element.setAttribute("aria-valuemax", String(Math.max(0, tokens.length - 1)));
    this.#draw();
  }

  #draw() {
    if (!this.width) return;
    this.svg.attr("width", this.width).attr("height", this.height);
    this.shows.draw();
    this.#drawCursor();
  }

  /** @param {any} y @param {number} ticks  about so many values @param {string} [format] */
  axes(y, ticks, format) {
    const across = Math.max(3, Math.floor(this.width / 90));
    this.svg.select(".across").attr("transform", `translate(0,${this.height - BOTTOM + 6})`).call(d3.axisBottom(this.x).ticks(across).tickSize(0));
    this.svg.select(".up").attr("transform", `translate(${MARGIN.left},0)`)
      .call(d3.axisLeft(y).ticks(ticks, format).tickSize(-(this.width - MARGIN.left - MARGIN.right)));
  }

  /** Values with which rules compare, dashed. @param {number[]} values @param {any} y */
  limits(values, y) {
    const limits = this.svg.select(".limit").selectAll("line").data(values).join("line");
    limits.attr("x1", MARGIN.left).attr("x2", this.width - MARGIN.right).attr("y1", y).attr("y2", y);
  }

  /** @param {number | null} position */
  mark(position) {
    this.cursor = position;
    this.say();
    const [from, to] = this.shown;
    if (position !== null && this.part && (position < from || position >= to)) {
      const half = Math.floor((to - from) / 2), start = Math.max(0, Math.min(position - half, this.length - (to - from)));
      this.moves.zoomed([start, start + to - from]);
    }
    this.#drawCursor();
  }

  /** What stands at the cursor, shown and for screen readers. */
  say() {
    const { cursor } = this, token = this.tokens[cursor ?? -1];
    this.element.setAttribute("aria-valuenow", String(cursor ?? 0));
    this.element.setAttribute("aria-valuetext", token && cursor !== null ? this.shows.spoken(token, cursor) : "no token");
    this.readout.value = token && cursor !== null ? `${cursor} · ${this.shows.read(token, cursor)}` : "";
  }

  #drawCursor() {
    const { x } = this, [from, to] = this.shown;
    const at = this.cursor === null || !this.tokens[this.cursor] || this.cursor < from || this.cursor >= to ? [] : [this.cursor];
    const lines = this.svg.select(".cursor").selectAll("line").data(at).join("line");
    lines.attr("x1", (/** @type {number} */ one) => x(one + 0.5)).attr("x2", (/** @type {number} */ one) => x(one + 0.5)).attr("y1", 0).attr("y2", this.height - BOTTOM + 4);
  }

  /** @param {PointerEvent} event */
  #point(event) {
    this.pointed = true;
    const at = Math.floor(this.x.invert(event.clientX - this.element.getBoundingClientRect().left));
    if (this.tokens.length) this.moves.moved(Math.min(Math.max(at, 0), this.tokens.length - 1));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const at = this.cursor ?? 0, last = this.tokens.length - 1;
    const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, PageUp: at + 10, PageDown: at - 10, Home: 0, End: last }[event.key];
    if (event.key === "Enter") this.moves.opened(at);
    const factor = { "+": 0.5, "=": 0.5, "-": 2, "0": Infinity }[event.key];
    if (factor !== undefined && this.length > LEAST_SHOWN) this.moves.zoomed(around(this.shown, at, factor, this.length));
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.moves.moved(Math.min(Math.max(to, 0), last));
  }
}

/** A part that is larger or smaller, around a position. @param {[number, number]} shown @param {number} at @param {number} factor @param {number} length @returns {Part} */
function around([from, to], at, factor, length) {
  const size = Math.max(LEAST_SHOWN, Math.round((to - from) * factor));
  if (size >= length) return null;
  const start = Math.max(0, Math.min(at - Math.floor(size / 2), length - size));
  return [start, start + size];
}
