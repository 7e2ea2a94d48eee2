// Two columns read together: what both answers say is dimmed, scrolling one scrolls the other, and each plot has the other's entropies.

import { align, beside } from "./alignment.js";
import { element } from "./elements.js";

/** @typedef {import("./column.js").Column} Column */
/** @typedef {import("./alignment.js").Alignment} Alignment */
/** @typedef {import("./types.js").Token} Token */

/**
 * The other answer, as a plot shows it.
 * @typedef {{name: string, tokens: Token[], places: Int32Array | null}} Other  `places` says which of its tokens stands beside each; null: the one at the same position
 */

export class Together {
  /** @param {() => Column[]} columns @param {() => void} changed  called when the plots show something else */
  constructor(columns, changed) {
    this.columns = columns;
    this.changed = changed;
    this.overlaid = false;
    /** @type {Int32Array[] | null} for each answer, the places beside its tokens */
    this.places = null;
    /** @type {Alignment | null} */
    this.alignment = null;
    /** @type {(import("./branches.js").Branch | null)[]} the answers that are aligned */
    this.answers = [];
    /** @type {Element | null} the text that was scrolled by the other */
    this.led = null;
    this.button = element("button", {
      type: "button", class: "quiet", "aria-pressed": "false", title: "Dim the sentences that both answers have, and scroll both together", onclick: () => this.#toggle(),
    }, "Align");
    this.overlay = element("button", {
      type: "button", class: "quiet", "aria-pressed": "false", title: "Draw the other answer's entropies into each plot, as a line", onclick: () => {
        this.overlaid = !this.overlaid;
        this.overlay.setAttribute("aria-pressed", String(this.overlaid));
        changed();
      },
    }, "Overlay");
  }

  /** What each column's plot shows of the other answer. @returns {(Other | null)[]} */
  others() {
    const columns = this.columns();
    if (!this.overlaid || columns.length < 2) return columns.map(() => null);
    return columns.map((_, side) => ({ name: columns[1 - side].run.name, tokens: columns[1 - side].run.tokens, places: this.places?.[side] ?? null }));
  }

  /** No longer. */
  stop() {
    this.alignment = this.places = null;
    this.button.setAttribute("aria-pressed", "false");
    for (const { text } of this.columns()) text.markCommon(null);
  }

  /** Stop where another answer is shown. */
  check() {
    if (this.alignment && this.columns().some(({ run }, side) => run.selected !== this.answers[side])) this.stop();
  }

  #toggle() {
    if (this.alignment) {
      this.stop();
      return this.changed();
    }
    const columns = this.columns();
    this.alignment = align(columns[0].run.tokens, columns[1].run.tokens);
    this.button.setAttribute("aria-pressed", String(this.alignment !== null));
    if (!this.alignment) return;
    this.answers = columns.map(({ run }) => run.selected);
    const { alignment } = this, { common } = alignment;
    this.places = [beside(alignment, 0), beside(alignment, 1)];
    columns.forEach(({ text }, side) => {
      text.markCommon(common[side]);
      text.element.onscroll = () => this.#scrolled(/** @type {0 | 1} */ (side));
    });
    this.changed();
  }

  /** @param {0 | 1} side */
  #scrolled(side) {
    const columns = this.columns(), text = columns[side].text, other = columns[1 - side].text;
    if (this.led === text.element) this.led = null;
    else if (this.places) {
      const before = other.element.scrollTop;
      other.scrollToPlace(this.places[side][text.topPlace]);
      if (other.element.scrollTop !== before) this.led = other.element;
    }
  }
}
