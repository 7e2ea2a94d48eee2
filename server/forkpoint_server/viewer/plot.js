// Entropy over position: a bar for each token, in the text's colours; where many share a pixel, the highest of them. A part of a long
// answer is chosen in the overview below, or by the keys.

import { element, inNats } from "./elements.js";
import { spans, stepped } from "./lines.js";
import { LEAST_SHOWN, MARGIN, Positions, TOP } from "./positions.js";
import { colours, share } from "./scale.js";
import { answerStart, spoken } from "./text.js";

/** @typedef {import("./types.js").Token} Token */
/** @typedef {import("./positions.js").Part} Part */
/** @typedef {import("./together.js").Other} Other */

const d3 = /** @type {any} */ (globalThis).d3;
const HEIGHT = 132, OVERVIEW_HEIGHT = 26;
/** Shorter answers have no overview. */
const LEAST_OVERVIEW = 300;
const LEAST_MOST_NATS = 1;

export class Plot {
  /** @param {string} label @param {import("./positions.js").Moves} moves */
  constructor(label, moves) {
    /** @type {Token[]} */
    this.tokens = [];
    this.threshold = 0;
    /** @type {number | null} */
    this.divergence = null;
    /** @type {Other | null} whose entropies are a line over the bars */
    this.other = null;
    this.canvas = /** @type {HTMLCanvasElement} */ (document.createElement("canvas"));
    this.positions = new Positions(label, HEIGHT, moves, {
      draw: () => this.#draw(),
      spoken: (token, position) => spoken(token, position) + this.#beside(position),
      read: ({ nats }, position) => (nats === null ? "no record" : inNats(nats)) + this.#beside(position),
    }, ["other", "limit", "parts"], this.canvas);
    this.overview = new Overview((part) => moves.zoomed(part));
    this.element = element("div", {}, this.positions.element, this.overview.element);
  }

  /** Show a part of the answer. @param {Part} part */
  zoom(part) {
    this.positions.zoom(part);
  }

  /** The positions between which the plot and the tree are drawn. */
  get shown() {
    return this.positions.shown;
  }

  /** @param {Token[]} tokens @param {number} threshold @param {number} length  of the longer of two runs @param {number | null} divergence @param {Other | null} other */
  show(tokens, threshold, length, divergence, other) {
    const said = this.other !== other;
    Object.assign(this, { tokens, threshold, divergence, other });
    this.positions.show(tokens, length);
    if (said) this.positions.say();
  }

  /** The other answer's entropy beside a token; null where it is none or not known. @param {number} position */
  #otherNats(position) {
    return this.other?.tokens[this.other.places?.[position] ?? position]?.nats ?? null;
  }

  /** @param {number} position */
  #beside(position) {
    const nats = this.#otherNats(position);
    return nats === null ? "" : `, ${this.other?.name} ${inNats(nats)}`;
  }

  /** @param {number | null} position */
  mark(position) {
    this.positions.mark(position);
  }

  #draw() {
    const { width, x, length, part } = this.positions;
    const highest = [this.tokens, this.other?.tokens ?? []].flat().reduce((most, token) => Math.max(most, token.nats ?? 0), 0);
    const y = d3.scaleLinear([0, Math.max(LEAST_MOST_NATS, this.threshold * 1.2, highest * 1.05)], this.positions.heights);
    this.#bars(width, x, y);
    this.#line(x, y);
    this.positions.axes(y, 4);
    this.positions.limits(this.threshold ? [this.threshold] : [], y);
    this.#parts(x);
    this.overview.show(this.tokens, length, part, width);
  }

  /** @param {number} width @param {any} x @param {any} y */
  #bars(width, x, y) {
    const paint = painter(this.canvas, width, HEIGHT);
    const colour = colours(this.positions.element), step = x(1) - x(0), wide = Math.max(1, step > 3 ? step - 1 : step), ground = y(0);
    for (const { left, nats, acted } of columns(this.tokens, x)) {
      paint.fillStyle = colour.of(nats);
      paint.fillRect(left, Math.min(y(nats), ground - 1), wide, Math.max(1, ground - y(nats)));
      if (acted) {
        paint.fillStyle = colour.act;
        paint.fillRect(left, ground + 2, Math.max(2, wide), 4);
      }
    }
  }

  /** The other answer's entropies; where many share a pixel, the highest of them. @param {any} x @param {any} y */
  #line(x, y) {
    const other = this.other ? [stepped(spans(this.tokens.length, (place) => this.#otherNats(place), x).map((one) => ({ ...one, low: one.high })), y)] : [];
    this.positions.svg.select(".other").selectAll("path").data(other).join("path").attr("d", (/** @type {string} */ path) => path);
  }

  /** Where the answer starts, and where two runs part. @param {any} x */
  #parts(x) {
    const answer = answerStart(this.tokens), [from, to] = this.positions.shown, [foot] = this.positions.heights;
    const parts = [
      ...(answer > 0 ? [{ at: answer, name: "answer", kind: "begins" }] : []),
      ...(this.divergence === null ? [] : [{ at: this.divergence, name: "first difference", kind: "parts" }]),
    ].filter((one) => one.at >= from && one.at < to);
    const drawn = this.positions.svg.select(".parts").selectAll("g").data(parts).join((/** @type {any} */ enter) => {
      const made = enter.append("g");
      made.append("line").attr("y1", TOP - 6).attr("y2", foot);
      made.append("text").attr("y", TOP + 3);
      return made;
    });
    drawn.attr("class", (/** @type {any} */ one) => one.kind).attr("transform", (/** @type {any} */ one) => `translate(${x(one.at)},0)`);
    const last = x.range()[1];
    drawn.select("text").text((/** @type {any} */ one) => one.name)
      .attr("x", (/** @type {any} */ one) => (x(one.at) > last - 90 ? -4 : 4))
      .attr("text-anchor", (/** @type {any} */ one) => (x(one.at) > last - 90 ? "end" : "start"));
  }
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
