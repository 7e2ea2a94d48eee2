// An answer's tokens in blocks, so that the browser lays out no more than what is in view: a trace may have 32,000 tokens. A block is
// plain text until it comes near the view; then it gets an element for each token.

import { element } from "./elements.js";
import { LEADING_SPACES, pieces } from "./visible.js";

/** @typedef {import("./types.js").Token} Token */
/** @typedef {{from: number, to: number, node: HTMLElement | null}} Item  one token, or, where `to - from` > 1, a fold of several */

const LEAST = 60, SENTENCE = 160, MOST = 240;
/** Up to this length every block is dressed at once. */
const SHORT = 3000;
const NEAR = "300px 0px";

class Block {
  constructor() {
    /** @type {Item[]} */
    this.items = [];
    this.dressed = false;
    this.element = element("div", { class: "block" });
  }

  get from() {
    return this.items[0].from;
  }
}

export class Blocks {
  /**
   * @param {HTMLElement} place
   * @param {{token: (token: Token, place: number) => HTMLElement, redraw: (node: HTMLElement, token: Token, place: number) => void,
   *   fold: (from: number, to: number) => HTMLElement, dressed: (node: HTMLElement, place: number) => void}} draw
   */
  constructor(place, draw) {
    this.place = place;
    this.draw = draw;
    /** @type {Token[]} */
    this.tokens = [];
    /** @type {{token: Token, version: number, text: string}[]} */
    this.seen = [];
    /** @type {Block[]} */
    this.all = [];
    this.boundary = -1;
    this.folded = false;
    /** @type {Set<Block>} blocks of which a token's text has changed */
    this.rewritten = new Set();
    this.observer = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) this.#dress(/** @type {any} */ (target).block);
    }, { root: place, rootMargin: NEAR });
  }

  /**
   * Show tokens, changing no more than has changed.
   * @param {Token[]} tokens
   * @param {number} boundary  a place at which a block must begin, -1 for none
   * @param {((place: number) => boolean) | null} kept  which tokens are not folded; null: all
   */
  show(tokens, boundary, kept) {
    const before = this.tokens;
    this.tokens = tokens;
    let same = 0;
    const length = Math.min(tokens.length, this.seen.length);
    while (same < length && this.seen[same].token === tokens[same]) {
      const seen = this.seen[same];
      if (seen.version !== tokens[same].version) this.#redraw(same, seen);
      same++;
    }
    const { rewritten } = this;
    this.rewritten = new Set();
    const moved = boundary !== this.boundary ? Math.min(...[boundary, this.boundary].filter((place) => place >= 0), Infinity) : Infinity;
    this.boundary = boundary;
    if (kept || this.folded) same = 0;
    this.folded = kept !== null;
    if (same !== before.length || same !== tokens.length || moved !== Infinity) {
      this.#truncate(Math.min(same, moved));
      this.#append(this.seen.length, kept);
    }
    for (const block of rewritten) if (this.all.includes(block)) this.#write(block);
  }

  /** The block that holds a place. @param {number} place */
  blockAt(place) {
    return this.all[bisect(this.all, (block) => block.from <= place) - 1];
  }

  /** The element of a token, or of the fold that holds it; its block is dressed if it was not. @param {number} place */
  nodeAt(place) {
    const block = this.blockAt(place);
    if (!block || place >= this.tokens.length) return undefined;
    this.#dress(block);
    return block.items[bisect(block.items, (item) => item.from <= place) - 1]?.node ?? undefined;
  }

  /** The first token below a height of the window. @param {number} top  pixels */
  placeAt(top) {
    const block = this.all[Math.min(bisect(this.all, (one) => one.element.getBoundingClientRect().bottom <= top), this.all.length - 1)];
    if (!block) return 0;
    this.#dress(block);
    const item = block.items[Math.min(bisect(block.items, (one) => /** @type {HTMLElement} */ (one.node).getBoundingClientRect().bottom <= top), block.items.length - 1)];
    return item.from;
  }

  /** The elements of tokens that exist by now. @returns {HTMLElement[]} */
  get nodes() {
    return this.all.flatMap((block) => block.items.flatMap(({ node }) => node ?? []));
  }

  /** @param {number} place @param {{token: Token, version: number, text: string}} seen */
  #redraw(place, seen) {
    const { version, text } = this.tokens[place], rewritten = seen.text !== text;
    Object.assign(seen, { version, text });
    const block = this.blockAt(place), item = block?.items[bisect(block.items, (one) => one.from <= place) - 1];
    if (!block || !item || item.to - item.from > 1) return;
    if (rewritten) this.rewritten.add(block);
    else if (item.node) this.draw.redraw(item.node, this.tokens[place], place);
  }

  /** Drop the blocks from the one that holds a place on. @param {number} place */
  #truncate(place) {
    if (place >= this.seen.length && this.all.length && !this.#full(/** @type {Block} */ (this.all.at(-1)))) return;
    const number = Math.max(0, bisect(this.all, (block) => block.from <= place) - 1);
    const keepLast = place >= this.seen.length;
    for (const block of this.all.splice(keepLast ? this.all.length : number)) {
      this.observer.unobserve(block.element);
      block.element.remove();
    }
    const last = this.all.at(-1);
    this.seen.length = last ? /** @type {Item} */ (last.items.at(-1)).to : 0;
  }

  /** @param {number} from @param {((place: number) => boolean) | null} kept */
  #append(from, kept) {
    let block = this.all.at(-1);
    /** @type {Set<Block>} */
    const changed = new Set();
    for (let place = from; place < this.tokens.length;) {
      let to = place + 1;
      if (kept && !kept(place)) while (to < this.tokens.length && !kept(to)) to++;
      if (!block || place === this.boundary || this.#full(block)) {
        block = new Block();
        /** @type {any} */ (block.element).block = block;
        this.all.push(block);
        this.place.append(block.element);
      }
      const item = { from: place, to, node: null };
      block.items.push(item);
      if (block.dressed) this.#node(block, item);
      changed.add(block);
      for (; place < to; place++) {
        const token = this.tokens[place];
        this.seen.push({ token, version: token.version, text: token.text });
      }
    }
    const short = this.tokens.length <= SHORT;
    for (const one of changed) {
      if (one.dressed) continue;
      if (short || one === this.all[0]) this.#dress(one);
      else {
        this.#plain(one);
        this.observer.observe(one.element);
      }
    }
  }

  /** Whether the next token begins a block: after a line's end, a sentence's end, or anywhere if there is none. @param {Block} block */
  #full(block) {
    const { length } = block.items;
    if (length < LEAST) return false;
    const { text } = this.tokens[/** @type {Item} */ (block.items.at(-1)).to - 1] ?? { text: "" };
    return text.endsWith("\n") || (length >= SENTENCE && /[.!?]$/.test(text)) || length >= MOST;
  }

  /** @param {Block} block */
  #plain(block) {
    const text = block.items.map(({ from, to }) => (to - from > 1 ? ` ⋯${to - from}⋯ ` : this.tokens[from].text)).join("");
    block.element.textContent = pieces(text).map(({ text: piece, sign }) => (piece === "\n" ? `${sign}\n` : sign ?? piece)).join("");
  }

  /** @param {Block} block */
  #dress(block) {
    if (block.dressed) return;
    block.dressed = true;
    this.observer.unobserve(block.element);
    this.#write(block);
  }

  /** Write a block anew, plain or dressed as it is. @param {Block} block */
  #write(block) {
    if (!block.dressed) return this.#plain(block);
    block.element.textContent = "";
    for (const item of block.items) this.#node(block, item);
  }

  /** @param {Block} block @param {Item} item */
  #node(block, item) {
    const { from, to } = item;
    item.node = to - from > 1 ? this.draw.fold(from, to) : this.draw.token(this.tokens[from], from);
    this.draw.dressed(item.node, from);
    const spaces = to - from > 1 ? "" : (LEADING_SPACES.exec(this.tokens[from].text)?.[0] ?? "");
    // At a block's beginning they would indent its first line.
    block.element.append(spaces && from > 0 && from === block.from ? element("span", { class: "at-edge" }, spaces) : spaces, item.node);
  }
}

/** How many of the first items fulfil what the others do not. @template Item @param {Item[]} items @param {(item: Item) => boolean} fulfilled */
function bisect(items, fulfilled) {
  let low = 0, high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (fulfilled(items[middle])) low = middle + 1;
    else high = middle;
  }
  return low;
}
