// An answer as text: a span for each token, coloured by entropy, and a cursor that the pointer and the keys move.

import { Blocks } from "./blocks.js";
import { counted, element, inNats, still } from "./elements.js";
import { family, sign } from "./families.js";
import { share } from "./scale.js";
import { drawn, drawnAlone, LEADING_SPACES, named } from "./visible.js";

/** @typedef {import("./types.js").Token} Token */

/** Tokens that stay on each side of a fork, or of a place where the policy had an effect, when the rest is folded. */
export const FOLD_RADIUS = 5;
const AT_ONCE_TOKENS = 100;
const SMOOTH_TOKENS = 200; // farther than that, the text jumps

export class Text {
  /**
   * @param {string} label
   * @param {{moved: (position: number | null, by: "pointer" | "keys") => void, opened: (position: number, by: "pointer" | "keys") => void, difference: () => number | null}} handlers
   */
  constructor(label, handlers) {
    this.handlers = handlers;
    /** @type {Token[]} */
    this.tokens = [];
    /** @type {number | null} */
    this.cursor = null;
    /** @type {number | null} the token that the pointer is over; the cursor may be moved there or away by keys, plots and other runs */
    this.pointed = null;
    /** @type {HTMLElement | undefined} */
    this.marked = undefined;
    /** @type {number | null} */
    this.divergence = null;
    /** @type {string | null} */
    this.sought = null;
    /** @type {Uint8Array | null} of each token, 1 where the other answer has the same sentence */
    this.common = null;
    /** Whether what is drawn has just been generated; it fades in. A thousand tokens that do so at once take as long as their layout. */
    this.arriving = false;
    this.folded = false;
    /** @type {Set<number>} the first tokens of folds that were opened */
    this.unfolded = new Set();
    this.part = element("div", { class: "part" }, "answer");
    this.element = element("div", {
      class: "text", tabIndex: 0, role: "group", dir: "auto", "aria-label": label, "aria-keyshortcuts": "[ ] Enter",
      onpointerover: (/** @type {PointerEvent} */ event) => event.pointerType !== "touch" && this.#point(event),
      onpointerleave: (/** @type {PointerEvent} */ event) => event.pointerType !== "touch" && this.#left(),
      onclick: (/** @type {MouseEvent} */ event) => this.#open(event),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
      // By the keys: what was touched is another token than the first.
      onfocus: () => this.cursor === null && this.tokens.length && this.element.matches(":focus-visible") && this.move(0),
    });
    this.blocks = new Blocks(this.element, {
      token: (token, place) => draw(element("span", { class: this.arriving ? "arriving" : "", "data-at": place }), token, true),
      redraw: (span, token, place) => {
        draw(span, token, false);
        this.#dressed(span, place);
      },
      fold: (from, to) => this.#fold(from, to),
      dressed: (node, place) => this.#dressed(node, place),
    });
  }

  /** What an element says beside its token: that was lost when it was drawn. @param {HTMLElement} node @param {number} place */
  #dressed(node, place) {
    if (place === this.divergence) node.classList.add("diverges");
    if (place === this.cursor) this.mark(place);
    if (this.sought !== null) node.classList.toggle("sought", node.dataset.family === this.sought);
    node.classList.toggle("common", this.common?.[place] === 1);
  }

  /** Show an answer, changing no more than has changed. @param {Token[]} tokens @param {number | null} divergence */
  show(tokens, divergence) {
    const more = tokens.length - this.tokens.length;
    this.arriving = more > 0 && more < AT_ONCE_TOKENS;
    // What comes at once is read from its beginning.
    const followed = this.#atEnd() && more < AT_ONCE_TOKENS;
    this.tokens = tokens;
    const begins = answerStart(tokens);
    const before = this.divergence;
    this.divergence = divergence;
    this.blocks.show(tokens, begins, this.folded ? this.#kept() : null);
    this.arriving = false;
    if (before !== divergence) {
      if (before !== null) this.spanAt(before)?.classList.remove("diverges");
      if (divergence !== null) this.spanAt(divergence)?.classList.add("diverges");
    }
    const block = begins < 0 ? undefined : this.blocks.blockAt(begins)?.element;
    if (!block) this.part.remove();
    else if (block.previousElementSibling !== this.part) block.before(this.part);
    if (this.cursor !== null && this.cursor >= tokens.length) this.mark(tokens.length ? tokens.length - 1 : null);
    if (followed) this.element.scrollTop = this.element.scrollHeight;
  }

  /** Show where the cursor is. @param {number | null} position @param {boolean} [visibly] */
  mark(position, visibly = false) {
    this.marked?.classList.remove("cursor");
    const far = Math.abs((position ?? 0) - (this.cursor ?? 0)) > SMOOTH_TOKENS;
    this.cursor = position;
    this.marked = position === null ? undefined : this.spanAt(position);
    this.marked?.classList.add("cursor");
    if (this.marked && visibly) this.marked.scrollIntoView({ block: "nearest", behavior: far || still() ? "auto" : "smooth" });
  }

  /** Put the cursor somewhere by the keys. @param {number} position */
  move(position) {
    const there = Math.min(Math.max(position, 0), this.tokens.length - 1);
    this.mark(there, true);
    this.handlers.moved(there, "keys");
  }

  /** @param {number} position */
  spanAt(position) {
    return this.blocks.nodeAt(position);
  }

  /** Frame the connectors of a family; of none, no more. @param {string | null} name */
  highlight(name) {
    this.sought = name;
    for (const node of this.blocks.nodes) node.classList.toggle("sought", name !== null && node.dataset.family === name);
  }

  /** Mark what the other answer has, too; null marks nothing. @param {Uint8Array | null} common */
  markCommon(common) {
    this.common = common;
    for (const node of this.blocks.nodes) node.classList.toggle("common", common?.[Number(node.dataset.at)] === 1);
  }

  /** The first token that is in view. */
  get topPlace() {
    return this.blocks.placeAt(this.element.getBoundingClientRect().top);
  }

  /** Scroll so that a token is the first in view. @param {number} place */
  scrollToPlace(place) {
    const node = this.spanAt(Math.min(Math.max(place, 0), this.tokens.length - 1));
    if (node) this.element.scrollTop += node.getBoundingClientRect().top - this.element.getBoundingClientRect().top;
  }

  /** Fold what is farther than FOLD_RADIUS from any fork, or unfold it all. @param {boolean} folded */
  fold(folded) {
    this.folded = folded;
    this.unfolded.clear();
    this.show(this.tokens, this.divergence);
    if (this.cursor !== null) this.mark(this.cursor, true);
  }

  /** Which tokens are shown when the rest is folded. */
  #kept() {
    const kept = new Uint8Array(this.tokens.length);
    this.tokens.forEach((token, place) => {
      if (token.fork || token.change || token.given || place === this.divergence) kept.fill(1, Math.max(0, place - FOLD_RADIUS), place + FOLD_RADIUS + 1);
    });
    for (let place = 0; place < kept.length; place++)
      if (!kept[place] && this.unfolded.has(place)) while (place < kept.length && !kept[place]) kept[place++] = 1;
    return (/** @type {number} */ place) => kept[place] === 1;
  }

  /** @param {number} from @param {number} to */
  #fold(from, to) {
    return element("button", {
      type: "button", class: "fold", tabIndex: -1, title: `Show ${counted(to - from, "token")}`,
      onclick: () => {
        this.unfolded.add(from);
        this.show(this.tokens, this.divergence);
      },
    }, `⋯ ${to - from} ⋯`);
  }

  /** @param {Event} event @returns {number | null} */
  #positionOf(event) {
    const span = /** @type {Element} */ (event.target).closest?.(".token");
    return span instanceof HTMLElement ? Number(span.dataset.at) : null;
  }

  /** @param {PointerEvent} event */
  #point(event) {
    const position = this.#positionOf(event), same = position === this.pointed;
    this.pointed = position;
    if (position === null || same) return; // between two tokens, or over another part of the same one
    this.mark(position);
    this.handlers.moved(position, "pointer");
  }

  #left() {
    this.pointed = null;
    this.handlers.moved(null, "pointer");
  }

  /** @param {MouseEvent} event */
  #open(event) {
    const position = this.#positionOf(event);
    if (position === null || !getSelection()?.isCollapsed) return;
    this.mark(position);
    this.handlers.opened(position, "pointer");
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.tokens.length) return;
    const at = this.cursor ?? 0, difference = this.handlers.difference();
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowRight: () => this.#step(at, 1),
      ArrowLeft: () => this.#step(at, -1),
      Home: () => this.move(0),
      End: () => this.move(this.tokens.length - 1),
      "]": () => this.#seek(at, 1, (token) => token.fork !== null),
      "[": () => this.#seek(at, -1, (token) => token.fork !== null),
      "}": () => this.#seek(at, 1, (token) => token.change !== null),
      "{": () => this.#seek(at, -1, (token) => token.change !== null),
      d: () => difference !== null && this.move(difference),
      Enter: () => this.handlers.opened(at, "keys"),
      " ": () => this.handlers.opened(at, "keys"),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** To the next token, over a fold. @param {number} at @param {1 | -1} step */
  #step(at, step) {
    const here = this.spanAt(at);
    let place = at + step;
    while (this.folded && place > 0 && place < this.tokens.length - 1 && this.spanAt(place) === here) place += step;
    this.move(place);
  }

  /** @param {number} at @param {1 | -1} step @param {(token: Token) => boolean} wanted */
  #seek(at, step, wanted) {
    for (let place = at + step; place >= 0 && place < this.tokens.length; place += step)
      if (wanted(this.tokens[place])) return this.move(place);
  }

  #atEnd() {
    const { scrollTop, clientHeight, scrollHeight } = this.element;
    return scrollHeight - scrollTop - clientHeight < 24 && this.cursor === null;
  }
}

/** Where the answer begins, after the reasoning; -1 where it does not. @param {Token[]} tokens */
export function answerStart(tokens) {
  return tokens.findIndex((token, place) => place > 0 && token.nats !== null && !token.reasoning && tokens[place - 1].reasoning);
}

/** @param {HTMLElement} span @param {Token} token @param {boolean} rewritten  its text is another one */
function draw(span, token, rewritten) {
  const kind = family(token.id), { dataset } = span;
  if (rewritten) {
    span.replaceChildren(...drawnToken(token));
    dataset.id = String(token.id);
  }
  if (token.nats !== null) dataset.nats = String(token.nats);
  span.style.setProperty("--share", String(share(token.nats)));
  span.className = [
    "token", token.nats === null && "unknown", token.fork && "fork", token.change && "acted", token.given && "given",
    ...["arriving", "cursor", "diverges", "sought", "common"].filter((name) => span.classList.contains(name)),
  ].filter(Boolean).join(" ");
  if (kind) Object.assign(dataset, { family: kind, sign: sign(kind) });
  return span;
}

/** What a token writes; a part of a character as its bytes. @param {Token} token @param {boolean} [alone] @returns {(Node | string)[]} */
export function drawnToken(token, alone = false) {
  if (token.bytes !== null && token.text === "") return [element("i", { class: "sign" }, "·")];
  if (token.bytes !== null && token.text.includes("\ufffd")) return [element("i", { class: "sign" }, `⟨${token.bytes.toUpperCase()}⟩`)];
  return alone || token.text === "" ? drawnAlone(token.text) : drawn(token.text.replace(LEADING_SPACES, ""));
}

/** A token in words. @param {Token} token @param {number} position */
export function spoken(token, position) {
  const kind = family(token.id);
  return [
    `token ${position}: ${named(token.text)}`,
    token.nats === null ? "not measured" : inNats(token.nats),
    kind, token.fork && "fork", token.change && `${token.change.action} changed it`,
  ].filter(Boolean).join(", ");
}
