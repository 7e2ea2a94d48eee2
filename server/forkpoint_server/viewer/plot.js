// Entropy over position: a bar for each token, in the text's colours; where many share a pixel, the highest of them. A part of a long
// answer is chosen in the overview below, or by the keys.

import { element, inNats } from "./elements.js";
import { colours, share } from "./scale.js";
import { answerStart, spoken } from "./text.js";

/** @typedef {import("./types.js").Token} Token */

const d3 = /** @type {any} */ (globalThis).d3;
export const MARGIN = { left: 34, right: 22 };
const TOP = 8, BOTTOM = 26, HEIGHT = 132, OVERVIEW_HEIGHT = 26;
/** Shorter answers have no overview; fewer tokens are not shown alone. */
const LEAST_OVERVIEW = 300, LEAST_SHOWN = 20;
const LEAST_MOST_NATS = 1;

/** @typedef {[number, number] | null} Part  the first position that is shown and the one after the last; null: all */

export class Plot {
  /** @param {string} label @param {{moved: (position: number | null) => void, opened: (position: number) => void, zoomed: (part: Part) => void}} handlers */
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
    this.pointed = false;
    /** @type {Part} */
    this.part = null;
    this.width = 0;
    this.canvas = /** @type {HTMLCanvasElement} */ (document.createElement("canvas"));
    this.svg = d3.create("svg").attr("aria-hidden", "true");
    this.readout = element("output", { class: "readout" });
    this.plot = element("div", {
      class: "plot", tabIndex: 0, role: "slider", "aria-label": label, "aria-valuemin": 0,
      onpointermove: (/** @type {PointerEvent} */ event) => this.#point(event),
      onpointerdown: (/** @type {PointerEvent} */ event) => this.#point(event),
      onpointerleave: () => {
        if (this.pointed) handlers.moved(null); // the page may scroll under a pointer that has not moved
        this.pointed = false;
      },
      onclick: () => this.cursor !== null && handlers.opened(this.cursor),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
      "aria-keyshortcuts": "+ - 0",
    }, this.canvas, this.svg.node(), this.readout);
    this.overview = new Overview((part) => handlers.zoomed(part));
    this.element = element("div", {}, this.plot, this.overview.element);
    for (const name of ["across", "up", "limit", "parts", "cursor"]) this.svg.append("g").attr("class", name);
    new ResizeObserver(() => {
      this.width = this.plot.clientWidth;
      this.draw();
    }).observe(this.plot);
  }

  /** Show a part of the answer. @param {Part} part */
  zoom(part) {
    this.part = part;
    this.draw();
  }

  /** The positions between which the plot and the tree are drawn. @returns {[number, number]} */
  get shown() {
    return this.part ?? [0, Math.max(LEAST_SHOWN, this.length)];
  }

  /** @param {Token[]} tokens @param {number} threshold @param {number} length  of the longer of two runs @param {number | null} divergence */
  show(tokens, threshold, length, divergence) {
    Object.assign(this, { tokens, threshold, length, divergence });
    this.plot.setAttribute("aria-valuemax", String(Math.max(0, tokens.length - 1)));
    this.draw();
  }

  /** @param {number | null} position */
  mark(position) {
    this.cursor = position;
    const token = this.tokens[position ?? -1];
    this.plot.setAttribute("aria-valuenow", String(position ?? 0));
    this.plot.setAttribute("aria-valuetext", token && position !== null ? spoken(token, position) : "no token");
    this.readout.value = token && position !== null ? `${position} · ${token.nats === null ? "no record" : inNats(token.nats)}` : "";
    const [from, to] = this.shown;
    if (position !== null && this.part && (position < from || position >= to)) {
      const half = Math.floor((to - from) / 2), start = Math.max(0, Math.min(position - half, this.length - (to - from)));
      this.handlers.zoomed([start, start + to - from]);
    }
    this.#drawCursor();
  }

  get #x() {
    return d3.scaleLinear(this.shown, [MARGIN.left, this.width - MARGIN.right]);
  }

  draw() {
    const { width } = this;
    if (!width) return;
    const highest = this.tokens.reduce((most, token) => Math.max(most, token.nats ?? 0), 0);
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
    this.overview.show(this.tokens, this.length, this.part, width);
  }

  /** @param {number} width @param {any} x @param {any} y */
  #bars(width, x, y) {
    const paint = painter(this.canvas, width, HEIGHT);
    const colour = colours(this.plot), step = x(1) - x(0), wide = Math.max(1, step > 3 ? step - 1 : step), ground = y(0);
    for (const { left, nats, acted } of columns(this.tokens, x)) {
      paint.fillStyle = colour.of(nats);
      paint.fillRect(left, Math.min(y(nats), ground - 1), wide, Math.max(1, ground - y(nats)));
      if (acted) {
        paint.fillStyle = colour.act;
        paint.fillRect(left, ground + 2, Math.max(2, wide), 4);
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
    const answer = answerStart(this.tokens), [from, to] = this.shown;
    const parts = [
      ...(answer > 0 ? [{ at: answer, name: "answer", kind: "begins" }] : []),
      ...(this.divergence === null ? [] : [{ at: this.divergence, name: "first difference", kind: "parts" }]),
    ].filter((one) => one.at >= from && one.at < to);
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
    const x = this.#x, [from, to] = this.shown;
    const at = this.cursor === null || !this.tokens[this.cursor] || this.cursor < from || this.cursor >= to ? [] : [this.cursor];
    const lines = this.svg.select(".cursor").selectAll("line").data(at).join("line");
    lines.attr("x1", (/** @type {number} */ one) => x(one + 0.5)).attr("x2", (/** @type {number} */ one) => x(one + 0.5)).attr("y1", 0).attr("y2", HEIGHT - BOTTOM + 4);
  }

  /** @param {PointerEvent} event */
  #point(event) {
    this.pointed = true;
    const at = Math.floor(this.#x.invert(event.clientX - this.plot.getBoundingClientRect().left));
    if (this.tokens.length) this.handlers.moved(Math.min(Math.max(at, 0), this.tokens.length - 1));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const at = this.cursor ?? 0, last = this.tokens.length - 1;
    const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, PageUp: at + 10, PageDown: at - 10, Home: 0, End: last }[event.key];
    if (event.key === "Enter") this.handlers.opened(at);
    const factor = { "+": 0.5, "=": 0.5, "-": 2, "0": Infinity }[event.key];
    if (factor !== undefined && this.length > LEAST_SHOWN) this.handlers.zoomed(around(this.shown, at, factor, this.length));
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.handlers.moved(Math.min(Math.max(to, 0), last));
  }
}

/** A part that is larger or smaller, around a position. @param {[number, number]} shown @param {number} at @param {number} factor @param {number} length @returns {Part} */
function around([from, to], at, factor, length) {
  const size = Math.max(LEAST_SHOWN, Math.round((to - from) * factor));
  if (size >= length) return null;
  const start = Math.max(0, Math.min(at - Math.floor(size / 2), length - size));
  return [start, start + size];
}

/** The tokens by the pixel that they begin in: the highest entropy, and whether the policy acted. @param {Token[]} tokens @param {any} x */
function columns(tokens, x) {
  const dense = x(1) - x(0) < 1, [from, to] = x.domain();
  /** @type {{left: number, nats: number, acted: boolean}[]} */
  const found = [];
  for (let place = Math.max(0, Math.floor(from)); place < Math.min(to, tokens.length); place++) {
    const left = dense ? Math.floor(x(place)) : x(place), { nats, change } = tokens[place], last = found.at(-1);
    if (last?.left === left) {
      last.nats = Math.max(last.nats, nats ?? 0);
      last.acted ||= change !== null;
    } else found.push({ left, nats: nats ?? 0, acted: change !== null });
  }
  return found;
}

/** The whole answer in a strip: drag over it to see a part, click it to see all. */
class Overview {
  /** @param {(part: Part) => void} zoomed */
  constructor(zoomed) {
    this.zoomed = zoomed;
    this.length = 0;
    this.canvas = /** @type {HTMLCanvasElement} */ (document.createElement("canvas"));
    this.svg = d3.create("svg");
    this.brush = d3.brushX().on("brush end", (/** @type {any} */ event) => event.sourceEvent && this.#brushed(event));
    this.strip = this.svg.append("g");
    this.element = element("div", { class: "overview", "aria-hidden": "true", hidden: true }, this.canvas, this.svg.node());
  }

  /** @param {Token[]} tokens @param {number} length @param {Part} part @param {number} width */
  show(tokens, length, part, width) {
    this.element.hidden = length < LEAST_OVERVIEW;
    if (this.element.hidden) return;
    this.length = length;
    this.x = d3.scaleLinear([0, length], [MARGIN.left, width - MARGIN.right]);
    const paint = painter(this.canvas, width, OVERVIEW_HEIGHT), colour = colours(this.element);
    for (const { left, nats, acted } of columns(tokens, this.x)) {
      paint.fillStyle = colour.of(nats);
      paint.fillRect(left, OVERVIEW_HEIGHT - 6 - 18 * share(nats), 1, 18 * share(nats) + 1);
      paint.fillStyle = colour.act;
      if (acted) paint.fillRect(left, OVERVIEW_HEIGHT - 4, 1, 4);
    }
    this.svg.attr("width", width).attr("height", OVERVIEW_HEIGHT);
    this.strip.call(this.brush.extent([[MARGIN.left, 0], [width - MARGIN.right, OVERVIEW_HEIGHT]]));
    this.strip.call(this.brush.move, part && part.map(this.x));
  }

  /** @param {any} event */
  #brushed({ selection, type }) {
    if (!selection) return type === "end" && this.zoomed(null);
    const [from, to] = selection.map((/** @type {number} */ one) => Math.round(this.x.invert(one)));
    if (to - from >= LEAST_SHOWN) this.zoomed([from, to]);
  }
}

/** A canvas of this size, cleared, in CSS pixels. @param {HTMLCanvasElement} canvas @param {number} width @param {number} height */
function painter(canvas, width, height) {
  const ratio = devicePixelRatio || 1, paint = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  paint.scale(ratio, ratio);
  return paint;
}
