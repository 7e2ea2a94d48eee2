// The choice of a policy: by name, none, or one that is written here.

import { element } from "./elements.js";

const INLINE = "(inline)", NOTHING = "(nothing)";
const EXAMPLE = `{"rules": [{"when": {"entropy_above": "fork"}, "do": {"suppress": {"connectors": ["reflection"]}}}]}`;

export class PolicyChoice {
  /** @param {HTMLSelectElement} select @param {HTMLElement} inline @param {boolean} optional  whether there may be none of both */
  constructor(select, inline, optional) {
    this.select = select;
    this.inline = inline;
    this.optional = optional;
    this.written = element("textarea", { id: `${select.id}-inline`, rows: 3, spellcheck: false, value: EXAMPLE });
    inline.append(element("label", { for: this.written.id }, "Inline policy, as JSON"), this.written);
    select.addEventListener("change", () => (inline.hidden = select.value !== INLINE));
  }

  /** @param {{name: string}[]} policies @param {string} chosen */
  offer(policies, chosen) {
    const option = (/** @type {string} */ value, text = value) => element("option", { value }, text);
    const placebo = (/** @type {{name: string}} */ one) => one.name.endsWith(".placebo");
    const named = policies.filter((one) => !placebo(one)).map((one) => option(one.name));
    const placebos = policies.filter(placebo).map((one) => option(one.name));
    this.select.replaceChildren(
      ...(this.optional ? [option(NOTHING, "nothing")] : []),
      option("none", "no policy"), option(INLINE, "write one …"),
      element("optgroup", { label: "Policies" }, ...named), element("optgroup", { label: "Their placebos" }, ...placebos));
    this.select.value = chosen;
  }

  get given() {
    return this.select.value !== NOTHING && this.select.value !== "";
  }

  get title() {
    return this.select.value === INLINE ? "inline policy" : this.select.value === "none" ? "no policy" : this.select.value;
  }

  /** What goes into the body's `policy`. Throws an Error for what is no JSON. */
  get value() {
    if (this.select.value !== INLINE) return this.select.value;
    try {
      return JSON.parse(this.written.value);
    } catch (error) {
      throw new Error(`The inline policy is not JSON: ${/** @type {Error} */ (error).message}`);
    }
  }
}
