// An answer as text: a span for each token, coloured by entropy, and a cursor that the pointer and the keys move.

import { element, inNats, still } from "./elements.js";
import { family, sign } from "./families.js";
import { share } from "./scale.js";
import { drawn, drawnAlone, named } from "./visible.js";

/** @typedef {import("./types.js").Token} Token */

export class Text {
  /**
   * @param {string} label
   * @param {{moved: (position: number | null, by: "pointer" | "keys") => void, opened: (position: number, by: "pointer" | "keys") => void, difference: () => number | null}} handlers
   */
  constructor(label, handlers) {
    this.handlers = handlers;
    /** @type {Token[]} */
    this.tokens = [];
    /** @type {{span: HTMLElement, token: Token, version: number}[]} */
    this.shown = [];
    /** @type {number | null} */
    this.cursor = null;
    /** @type {number | null} */
    this.divergence = null;
    this.part = element("div", { class: "part" }, "answer");
    this.element = element("div", {
      class: "text", tabIndex: 0, role: "group", dir: "auto", "aria-label": label, "aria-keyshortcuts": "[ ] Enter",
      onpointerover: (/** @type {PointerEvent} */ event) => event.pointerType !== "touch" && this.#point(event),
      onpointerleave: (/** @type {PointerEvent} */ event) => event.pointerType !== "touch" && handlers.moved(null, "pointer"),
      onclick: (/** @type {MouseEvent} */ event) => this.#open(event),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
      // By the keys: what was touched is another token than the first.
      onfocus: () => this.cursor === null && this.tokens.length && this.element.matches(":focus-visible") && this.move(0),
    });
  }

  /** Show an answer, changing no more than has changed. @param {Token[]} tokens @param {number | null} divergence */
  show(tokens, divergence) {
    const followed = this.#atEnd();
    this.tokens = tokens;
    tokens.forEach((token, place) => {
      const there = this.shown[place];
      if (!there) this.#append(token, place);
      else if (there.token !== token || there.version !== token.version) this.#draw(there, token);
    });
    for (const { span } of this.shown.splice(tokens.length)) span.remove();
    if (this.divergence !== divergence) {
      this.shown[this.divergence ?? -1]?.span.classList.remove("diverges");
      this.shown[divergence ?? -1]?.span.classList.add("diverges");
      this.divergence = divergence;
    }
    this.#part();
    if (this.cursor !== null && this.cursor >= tokens.length) this.mark(tokens.length ? tokens.length - 1 : null);
    if (followed) this.element.scrollTop = this.element.scrollHeight;
  }

  /** Show where the cursor is. @param {number | null} position @param {boolean} [visibly] */
  mark(position, visibly = false) {
    this.shown[this.cursor ?? -1]?.span.classList.remove("cursor");
    this.cursor = position;
    const span = this.shown[position ?? -1]?.span;
    span?.classList.add("cursor");
    if (span && visibly) span.scrollIntoView({ block: "nearest", behavior: still() ? "auto" : "smooth" });
  }

  /** Put the cursor somewhere by the keys. @param {number} position */
  move(position) {
    const there = Math.min(Math.max(position, 0), this.tokens.length - 1);
    this.mark(there, true);
    this.handlers.moved(there, "keys");
  }

  /** @param {number} position */
  spanAt(position) {
    return this.shown[position]?.span;
  }

  /** Frame the connectors of a family; of none, no more. @param {string | null} name */
  highlight(name) {
    for (const { span } of this.shown) span.classList.toggle("sought", name !== null && span.dataset.family === name);
  }

  /** Put a line before the answer, where the reasoning has ended. */
  #part() {
    const { tokens } = this;
    const begins = tokens.findIndex((token, place) => place > 0 && token.nats !== null && !token.reasoning && tokens[place - 1].reasoning);
    const span = this.shown[begins]?.span;
    if (!span) this.part.remove();
    else if (span.previousElementSibling !== this.part) span.before(this.part);
  }

  /** @param {Token} token @param {number} place */
  #append(token, place) {
    const span = element("span", { class: "token", "data-at": place });
    const shown = { span, token, version: -1 };
    this.shown.push(shown);
    this.#draw(shown, token);
    if (place === this.divergence) span.classList.add("diverges");
    this.element.append(span);
  }

  /** @param {{span: HTMLElement, token: Token, version: number}} shown @param {Token} token */
  #draw(shown, token) {
    const { span } = shown, kind = family(token.id);
    if (shown.token !== token || shown.version === -1 || span.dataset.text !== token.text) span.replaceChildren(...drawnToken(token));
    shown.token = token;
    shown.version = token.version;
    span.dataset.text = token.text;
    span.dataset.id = String(token.id);
    if (token.nats === null) delete span.dataset.nats;
    else span.dataset.nats = String(token.nats);
    span.style.setProperty("--share", String(share(token.nats)));
    span.classList.toggle("unknown", token.nats === null);
    span.classList.toggle("fork", token.fork !== null);
    span.classList.toggle("acted", token.change !== null);
    span.classList.toggle("given", token.given);
    if (kind) Object.assign(span.dataset, { family: kind, sign: sign(kind) });
    else for (const name of ["family", "sign"]) delete span.dataset[name]; // another answer's token may have stood here
  }

  /** @param {Event} event @returns {number | null} */
  #positionOf(event) {
    const span = /** @type {Element} */ (event.target).closest?.(".token");
    return span instanceof HTMLElement ? Number(span.dataset.at) : null;
  }

  /** @param {PointerEvent} event */
  #point(event) {
    const position = this.#positionOf(event);
    if (position === null || position === this.cursor) return;
    this.mark(position);
    this.handlers.moved(position, "pointer");
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
      ArrowRight: () => this.move(at + 1),
      ArrowLeft: () => this.move(at - 1),
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

/** What a token writes; a part of a character as its bytes. @param {Token} token @param {boolean} [alone] @returns {(Node | string)[]} */
export function drawnToken(token, alone = false) {
  if (token.bytes !== null && token.text === "") return [element("i", { class: "sign" }, "·")];
  if (token.bytes !== null && token.text.includes("\ufffd")) return [element("i", { class: "sign" }, `⟨${token.bytes.toUpperCase()}⟩`)];
  return alone || token.text === "" ? drawnAlone(token.text) : drawn(token.text);
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
