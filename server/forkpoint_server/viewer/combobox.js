// A select as a field in which one can search: options by group, with their descriptions. The select stays and holds the value.

import { element } from "./elements.js";

let numbers = 0;

export class Combobox {
  /** @param {HTMLSelectElement} select */
  constructor(select) {
    this.select = select;
    this.list = element("ul", { class: "options", role: "listbox", id: `options-${++numbers}`, hidden: true, "aria-label": select.labels?.[0]?.firstChild?.textContent ?? "" });
    this.input = element("input", {
      id: `${select.id}-find`, type: "text", role: "combobox", autocomplete: "off", spellcheck: false, "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": this.list.id,
      onclick: () => this.open(), oninput: (/** @type {Event} */ event) => {
        event.stopPropagation(); // what is searched for is not yet chosen
        this.open(this.input.value);
      },
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event), onblur: () => this.close(), onfocus: () => this.input.select(),
    });
    this.element = element("div", { class: "combobox" }, this.input, this.list);
    /** @type {HTMLElement[]} */
    this.options = [];
    this.at = 0;
    select.before(this.element);
    select.classList.add("unseen");
    select.tabIndex = -1;
    select.setAttribute("aria-hidden", "true");
    select.addEventListener("change", () => this.show());
    this.show();
  }

  /** Show what the select has. */
  show() {
    const chosen = this.select.selectedOptions[0];
    this.input.value = chosen?.textContent ?? "";
    this.input.title = chosen?.title ?? "";
    this.input.removeAttribute("aria-invalid");
  }

  /** Offer what has these words in its name or description, names first; of an empty text, all. @param {string} [sought] */
  open(sought = "") {
    const words = sought.toLowerCase().split(/\s+/).filter(Boolean);
    const rank = (/** @type {HTMLOptionElement} */ option) => {
      const [name, all] = [option.text.toLowerCase(), `${option.text} ${option.title}`.toLowerCase()];
      return words.every((word) => name.includes(word)) ? 0 : words.every((word) => all.includes(word)) ? 1 : 2;
    };
    const groups = [...this.select.children].map((child) => (child instanceof HTMLOptGroupElement
      ? { label: child.label, found: [...child.children] } : { label: "", found: [child] }))
      .map(({ label, found }) => ({ label, found: /** @type {HTMLOptionElement[]} */ (found).filter((one) => rank(one) < 2).sort((one, other) => rank(one) - rank(other)) }))
      .filter(({ found }) => found.length);
    if (words.length) groups.sort((one, other) => rank(one.found[0]) - rank(other.found[0]));
    this.options = [];
    this.list.replaceChildren(...groups.flatMap(({ label, found }) => [
      ...(label ? [element("li", { class: "group", role: "presentation" }, label)] : []), ...found.map((option) => this.#option(option))]));
    if (!this.options.length) this.list.append(element("li", { class: "group", role: "presentation" }, "nothing has these words"));
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    const chosen = this.options.findIndex((option) => option.dataset.value === this.select.value);
    this.#mark(words.length ? 0 : Math.max(0, chosen));
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.show();
  }

  /** @param {HTMLOptionElement} option */
  #option({ value, text, title }) {
    const made = element("li", {
      role: "option", id: `${this.list.id}-${this.options.length}`, "data-value": value,
      onpointerdown: (/** @type {Event} */ event) => {
        event.preventDefault(); // the field keeps the keys
        this.#take(value);
      },
    }, element("b", {}, text), title && element("span", { class: "soft" }, title));
    this.options.push(made);
    return made;
  }

  /** @param {number} at */
  #mark(at) {
    this.options[this.at]?.setAttribute("aria-selected", "false");
    this.at = at;
    const option = this.options[at];
    if (!option) return this.input.removeAttribute("aria-activedescendant");
    option.setAttribute("aria-selected", "true");
    this.input.setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  }

  /** @param {string} value */
  #take(value) {
    const changed = this.select.value !== value;
    this.select.value = value;
    this.close();
    if (!changed) return;
    this.select.dispatchEvent(new Event("input", { bubbles: true }));
    this.select.dispatchEvent(new Event("change", { bubbles: true }));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event, step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[key];
    if (this.list.hidden) {
      if (!step) return;
      this.open();
    } else if (step) this.#mark(Math.min(Math.max(this.at + step, 0), this.options.length - 1));
    else if (key === "Enter") this.options[this.at] && this.#take(/** @type {string} */ (this.options[this.at].dataset.value));
    else if (key === "Escape") {
      this.close();
      this.input.select();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
