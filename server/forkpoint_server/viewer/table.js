// A table of rows that change: cells are drawn again, rows and their focus stay.

import { element } from "./elements.js";

/** @typedef {import("./frame.js").Child} Child */

/**
 * @template Row
 * @typedef {{title: string, cell: (row: Row) => Child | Child[], kind?: "number" | "text" | "wide" | "code"}} Column
 */

/** @template Row */
export class DataTable {
  /**
   * @param {string} label
   * @param {Column<Row>[]} columns
   * @param {{key: (row: Row) => string, opened?: (row: Row) => void, described?: (row: Row) => string}} rows  `opened`: on a click or Enter
   */
  constructor(label, columns, { key, opened, described }) {
    this.columns = columns;
    this.key = key;
    this.opened = opened;
    this.described = described;
    this.body = element("tbody", {});
    /** @type {Map<string, HTMLElement>} */
    this.rows = new Map();
    const head = element("tr", {}, ...columns.map(({ title, kind }) => element("th", { scope: "col", class: kind ?? "" }, title)));
    this.element = element("div", { class: "table", tabIndex: 0, role: "region", "aria-label": label },
      element("table", {}, element("thead", {}, head), this.body));
  }

  /** @param {Row[]} rows */
  show(rows) {
    const wanted = rows.map((row) => {
      const name = this.key(row), there = this.rows.get(name) ?? this.#made(name);
      const cells = this.columns.map(({ cell, kind }) => {
        const content = cell(row);
        return element("td", { class: kind ?? "" }, ...(Array.isArray(content) ? content : [content]));
      });
      const focused = there.contains(document.activeElement) && document.activeElement !== there;
      if (!focused) there.replaceChildren(...cells);
      if (this.described) there.setAttribute("aria-label", this.described(row));
      /** @type {any} */ (there).row = row;
      return there;
    });
    const names = new Set(rows.map((row) => this.key(row)));
    for (const [name, there] of this.rows) {
      if (names.has(name)) continue;
      there.remove();
      this.rows.delete(name);
    }
    wanted.forEach((there, place) => {
      if (this.body.children[place] !== there) this.body.insertBefore(there, this.body.children[place] ?? null);
    });
  }

  /** @param {string} name */
  #made(name) {
    const open = (/** @type {Event} */ event) => {
      if (/** @type {Element} */ (event.target).closest("a, button, input, label")) return;
      this.opened?.(/** @type {any} */ (event.currentTarget).row);
    };
    const made = element("tr", {
      "data-key": name, tabIndex: this.opened ? 0 : -1, class: this.opened ? "opens" : "", onclick: open,
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
        if (event.key === "Enter" && event.target === event.currentTarget) open(event);
        else if (step && event.target === event.currentTarget) {
          event.preventDefault();
          /** @type {any} */ (event.currentTarget)[step]?.focus();
        }
      },
    });
    this.rows.set(name, made);
    return made;
  }
}
