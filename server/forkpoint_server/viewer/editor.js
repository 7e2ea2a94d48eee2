// A text area for a policy in YAML or JSON, with completion and a check by the server while one writes.

import { askJson } from "./api.js";
import { completions } from "./completion.js";
import { counted, element } from "./elements.js";
import { said } from "./frame.js";
import { drawnAlone } from "./visible.js";
import { fromYaml } from "./yaml.js";

const QUIET_MILLISECONDS = 350, MOST_OFFERS = 8, MOST_WARNINGS = 3;

/** @type {Promise<any> | undefined} */
let schema;

export class PolicyEditor {
  /** @param {string} id @param {string} label @param {{rows?: number, changed?: () => void}} [options] */
  constructor(id, label, { rows = 12, changed = () => {} } = {}) {
    this.changed = changed;
    this.area = element("textarea", {
      id, rows, spellcheck: false, autocomplete: "off", "aria-describedby": `${id}-verdict`, "aria-controls": `${id}-offers`,
      oninput: () => this.#edited(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event), onblur: () => this.#offer([]),
    });
    this.offers = element("ul", { class: "offers", id: `${id}-offers`, role: "listbox", "aria-label": "Completions", hidden: true });
    this.verdict = element("div", { class: "verdict-of-policy", id: `${id}-verdict`, "aria-live": "polite" });
    this.element = element("div", { class: "editor" }, element("label", { for: id }, label), this.area, this.offers, this.verdict);
    /** @type {number | undefined} */
    this.waiting = undefined;
    this.chosen = 0;
    this.asked = 0;
  }

  get text() {
    return this.area.value;
  }

  set text(text) {
    this.area.value = text;
    this.#check();
  }

  /** The policy that is written. Throws an Error that says where it is wrong. */
  get value() {
    return fromYaml(this.area.value);
  }

  #edited() {
    this.changed();
    clearTimeout(this.waiting);
    this.waiting = window.setTimeout(() => this.#check(), QUIET_MILLISECONDS);
    this.#complete().catch(() => this.#offer([]));
  }

  /** Ask the server what the policy would do. */
  async #check() {
    const mine = ++this.asked;
    /** @type {any[]} */
    let shown;
    let valid = false;
    try {
      const policy = this.value;
      if (policy === undefined || policy === null) throw new Error("write a policy, or start from a named one");
      const found = await askJson("v1/policies/validate", { body: { policy } });
      shown = validation(found);
      valid = true;
    } catch (error) {
      shown = [element("p", { class: "invalid" }, said(error))];
    }
    if (mine !== this.asked) return;
    this.area.setAttribute("aria-invalid", String(!valid));
    this.verdict.replaceChildren(...shown);
  }

  async #complete() {
    schema ??= askJson("v1/policies/schema");
    const { selectionStart, selectionEnd, value } = this.area;
    if (selectionStart !== selectionEnd) return this.#offer([]);
    const { word, offers } = completions(await schema, value.slice(0, selectionStart));
    this.word = word;
    this.#offer(word || /[\s{[:,-]$/.test(value.slice(0, selectionStart)) ? offers.slice(0, MOST_OFFERS) : []);
  }

  /** @param {{text: string, note: string}[]} offers */
  #offer(offers) {
    this.chosen = 0;
    this.offers.hidden = !offers.length;
    this.offers.replaceChildren(...offers.map((one, at) => element("li", {
      role: "option", "aria-selected": String(at === 0), "data-text": one.text,
      onpointerdown: (/** @type {Event} */ event) => {
        event.preventDefault();
        this.#take(one.text);
      },
    }, element("code", {}, one.text), element("span", { class: "soft" }, one.note))));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (this.offers.hidden) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], all = this.offers.children;
    if (step) {
      all[this.chosen].setAttribute("aria-selected", "false");
      this.chosen = (this.chosen + step + all.length) % all.length;
      all[this.chosen].setAttribute("aria-selected", "true");
    } else if (event.key === "Tab" && !event.shiftKey) this.#take(all[this.chosen].dataset.text);
    else if (event.key === "Escape") this.#offer([]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {string} text */
  #take(text) {
    const { selectionStart: at, value } = this.area, from = at - (this.word ?? "").length;
    this.area.setRangeText(text, from, at, "end");
    this.#offer([]);
    if (value !== this.area.value) this.#edited();
    this.#offer([]);
  }
}

/** Many are folded: the tokens that rules match are below them. @param {string[]} texts */
function warnings(texts) {
  const shown = texts.map((text) => element("p", { class: "notice" }, text));
  return shown.length > MOST_WARNINGS ? [element("details", { class: "warnings" }, element("summary", {}, counted(shown.length, "warning")), ...shown)] : shown;
}

/** What a valid policy would do: its rules, and the tokens that each matches. @param {any} found */
export function validation(found) {
  return [
    element("p", { class: "valid" }, `Valid: ${found.rules.length === 1 ? "1 rule" : `${found.rules.length} rules`}, digest ${found.digest}${found.shadow ? ", shadow" : ""}`),
    ...warnings(found.warnings),
    ...found.rules.map((/** @type {any} */ rule) => element("div", { class: "rule-tokens" },
      element("p", { class: "soft" }, `Rule ${rule.rule}: ${rule.action}${rule.control ? `, placebo by ${rule.control}` : ""}${rule.text.length ? ", writes " : ""}`,
        ...(rule.text.length ? [element("code", {}, ...drawnAlone(rule.text.join("")))] : []),
        rule.token_ids.length ? `, matches ${rule.token_ids.length} tokens` : ""),
      element("p", { class: "matched" }, ...rule.tokens.map((/** @type {any} */ one) => element("span", {
        class: `matched-token${one.in_every_context ? "" : " in-some"}`, title: `id ${one.id}${one.in_every_context ? "" : ", in some contexts only"}`,
      }, ...drawnAlone(one.token))), rule.token_ids.length > rule.tokens.length ? ` and ${rule.token_ids.length - rule.tokens.length} more` : ""))),
  ];
}
