// Entropy over position: a bar for each token, in the text's colours; where many share a pixel, the highest of them.

import { element, inNats } from "./elements.js";
import { colours } from "./scale.js";
import { spoken } from "./text.js";

/** @typedef {import("./types.js").Token} Token */

const d3 = /** @type {any} */ (globalThis).d3;
export const MARGIN = { left: 34, right: 10 };
const TOP = 8, BOTTOM = 26, HEIGHT = 132;
const LEAST_MOST_NATS = 1;

export class Plot {
  /** @param {string} label @param {{moved: (position: number | null) => void, opened: (position: number) => void}} handlers */
  constructor(label, handlers) {
    this.handlers = handlers;
    /** @type {Token[]} */
    this.tokens = [];
    this.threshold = 0;
    this.length = 0;
    /** @type {number | null} */
    this.divergence = null;
    /** @type {number | null} */
    this.cursor = null;
    this.canvas = /** @type {HTMLCanvasElement} */ (document.createElement("canvas"));
    this.svg = d3.create("svg").attr("aria-hidden", "true");
    this.readout = element("output", { class: "readout" });
    this.element = element("div", {
      class: "plot", tabIndex: 0, role: "slider", "aria-label": label, "aria-valuemin": 0,
      onpointermove: (/** @type {PointerEvent} */ event) => this.#point(event),
      onpointerdown: (/** @type {PointerEvent} */ event) => this.#point(event),
      onpointerleave: () => handlers.moved(null),
      onclick: () => this.cursor !== null && handlers.opened(this.cursor),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
    }, this.canvas, this.svg.node(), this.readout);
    for (const name of ["across", "up", "limit", "parts", "cursor"]) this.svg.append("g").attr("class", name);
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /** @param {Token[]} tokens @param {number} threshold @param {number} length  of the longer of two runs @param {number | null} divergence */
  show(tokens, threshold, length, divergence) {
    Object.assign(this, { tokens, threshold, length, divergence });
    this.element.setAttribute("aria-valuemax", String(Math.max(0, tokens.length - 1)));
    this.draw();
  }

  /** @param {number | null} position */
  mark(position) {
    this.cursor = position;
    const token = this.tokens[position ?? -1];
    this.element.setAttribute("aria-valuenow", String(position ?? 0));
    this.element.setAttribute("aria-valuetext", token && position !== null ? spoken(token, position) : "no token");
    this.readout.value = token && position !== null ? `${position} · ${token.nats === null ? "no record" : inNats(token.nats)}` : "";
    this.#drawCursor();
  }

  get #x() {
    return d3.scaleLinear([0, Math.max(20, this.length)], [MARGIN.left, this.element.clientWidth - MARGIN.right]);
  }

  draw() {
    const width = this.element.clientWidth;
    if (!width) return;
    const highest = d3.max(this.tokens, (/** @type {Token} */ token) => token.nats ?? 0) ?? 0;
    const y = d3.scaleLinear([0, Math.max(LEAST_MOST_NATS, this.threshold * 1.2, highest * 1.05)], [HEIGHT - BOTTOM, TOP]);
    this.svg.attr("width", width).attr("height", HEIGHT);
    this.#bars(width, this.#x, y);
    const ticks = Math.max(3, Math.floor(width / 90));
    this.svg.select(".across").attr("transform", `translate(0,${HEIGHT - BOTTOM + 6})`).call(d3.axisBottom(this.#x).ticks(ticks).tickSize(0));
    this.svg.select(".up").attr("transform", `translate(${MARGIN.left},0)`)
      .call(d3.axisLeft(y).ticks(4).tickSize(-(width - MARGIN.left - MARGIN.right)));
    this.#limit(width, y);
    this.#parts(this.#x);
    this.#drawCursor();
  }

  /** @param {number} width @param {any} x @param {any} y */
  #bars(width, x, y) {
    const ratio = devicePixelRatio || 1, paint = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    Object.assign(this.canvas, { width: width * ratio, height: HEIGHT * ratio });
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${HEIGHT}px`;
    paint.scale(ratio, ratio);
    const colour = colours(this.element), step = x(1) - x(0), wide = Math.max(1, step > 3 ? step - 1 : step);
    for (const [left, tokens] of columns(this.tokens, x)) {
      const nats = Math.max(...tokens.map((token) => token.nats ?? 0));
      paint.fillStyle = colour.of(nats);
      paint.fillRect(left, Math.min(y(nats), y(0) - 1), wide, Math.max(1, y(0) - y(nats)));
      if (tokens.some((token) => token.change)) {
        paint.fillStyle = colour.act;
        paint.fillRect(left, y(0) + 2, Math.max(2, wide), 4);
      }
    }
  }

  /** @param {number} width @param {any} y */
  #limit(width, y) {
    const limit = this.svg.select(".limit").selectAll("line").data(this.threshold ? [this.threshold] : []).join("line");
    limit.attr("x1", MARGIN.left).attr("x2", width - MARGIN.right).attr("y1", y).attr("y2", y);
  }

  /** Where the answer starts, and where two runs part. @param {any} x */
  #parts(x) {
    const answer = this.tokens.findIndex((token, place) => place > 0 && !token.reasoning && token.nats !== null && this.tokens[place - 1].reasoning);
    const parts = [
      ...(answer > 0 ? [{ at: answer, name: "answer", kind: "begins" }] : []),
      ...(this.divergence === null ? [] : [{ at: this.divergence, name: "first difference", kind: "parts" }]),
    ];
    const drawn = this.svg.select(".parts").selectAll("g").data(parts).join((/** @type {any} */ enter) => {
      const made = enter.append("g");
      made.append("line").attr("y1", TOP - 6).attr("y2", HEIGHT - BOTTOM);
      made.append("text").attr("y", TOP + 3);
      return made;
    });
    drawn.attr("class", (/** @type {any} */ one) => one.kind).attr("transform", (/** @type {any} */ one) => `translate(${x(one.at)},0)`);
    const last = x.range()[1];
    drawn.select("text").text((/** @type {any} */ one) => one.name)
      .attr("x", (/** @type {any} */ one) => (x(one.at) > last - 90 ? -4 : 4))
      .attr("text-anchor", (/** @type {any} */ one) => (x(one.at) > last - 90 ? "end" : "start"));
  }

  #drawCursor() {
    const x = this.#x, at = this.cursor === null || !this.tokens[this.cursor] ? [] : [this.cursor];
    const lines = this.svg.select(".cursor").selectAll("line").data(at).join("line");
    lines.attr("x1", (/** @type {number} */ one) => x(one + 0.5)).attr("x2", (/** @type {number} */ one) => x(one + 0.5)).attr("y1", 0).attr("y2", HEIGHT - BOTTOM + 4);
  }

  /** @param {PointerEvent} event */
  #point(event) {
    const at = Math.floor(this.#x.invert(event.clientX - this.element.getBoundingClientRect().left));
    if (this.tokens.length) this.handlers.moved(Math.min(Math.max(at, 0), this.tokens.length - 1));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const at = this.cursor ?? 0, last = this.tokens.length - 1;
    const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, PageUp: at + 10, PageDown: at - 10, Home: 0, End: last }[event.key];
    if (event.key === "Enter") this.handlers.opened(at);
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.handlers.moved(Math.min(Math.max(to, 0), last));
  }
}

/** The tokens by the pixel that they begin in. @param {Token[]} tokens @param {any} x @returns {Map<number, Token[]>} */
function columns(tokens, x) {
  const dense = x(1) - x(0) < 1;
  /** @type {Map<number, Token[]>} */
  const found = new Map();
  tokens.forEach((token, place) => {
    const left = dense ? Math.floor(x(place)) : x(place);
    const there = found.get(left);
    if (there) there.push(token);
    else found.set(left, [token]);
  });
  return found;
}
