// Two columns read together: what both answers say is dimmed, and scrolling one scrolls the other.

import { align, beside } from "./alignment.js";
import { element } from "./elements.js";

/** @typedef {import("./column.js").Column} Column */
/** @typedef {import("./alignment.js").Alignment} Alignment */

export class Together {
  /** @param {() => Column[]} columns */
  constructor(columns) {
    this.columns = columns;
    /** @type {Alignment | null} */
    this.alignment = null;
    /** @type {(import("./branches.js").Branch | null)[]} the answers that are aligned */
    this.answers = [];
    /** @type {Element | null} the text that was scrolled by the other */
    this.led = null;
    this.button = element("button", {
      type: "button", class: "quiet", "aria-pressed": "false", title: "Dim the sentences that both answers have, and scroll both together", onclick: () => this.#toggle(),
    }, "Align");
  }

  /** No longer. */
  stop() {
    this.alignment = null;
    this.button.setAttribute("aria-pressed", "false");
    for (const { text } of this.columns()) text.markCommon(null);
  }

  /** Stop where another answer is shown. */
  check() {
    if (this.alignment && this.columns().some(({ run }, side) => run.selected !== this.answers[side])) this.stop();
  }

  #toggle() {
    if (this.alignment) return this.stop();
    const columns = this.columns();
    this.alignment = align(columns[0].run.tokens, columns[1].run.tokens);
    this.button.setAttribute("aria-pressed", String(this.alignment !== null));
    if (!this.alignment) return;
    this.answers = columns.map(({ run }) => run.selected);
    const { common } = this.alignment;
    columns.forEach(({ text }, side) => {
      text.markCommon(common[side]);
      text.element.onscroll = () => this.#scrolled(/** @type {0 | 1} */ (side));
    });
  }

  /** @param {0 | 1} side */
  #scrolled(side) {
    const columns = this.columns(), text = columns[side].text, other = columns[1 - side].text;
    if (this.led === text.element) this.led = null;
    else if (this.alignment) {
      const before = other.element.scrollTop;
      other.scrollToPlace(beside(this.alignment, side, text.topPlace));
      if (other.element.scrollTop !== before) this.led = other.element;
    }
  }
}
