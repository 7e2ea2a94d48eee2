// What stands around the prompt: a system prompt, earlier turns, and the chat template's arguments.

import { element } from "./elements.js";
import { button, choice } from "./form.js";
import { fromYaml } from "./yaml.js";

/** @typedef {{system: string, turns: {role: string, content: string}[], template: string}} ChatValues */

export class Chat {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.system = element("textarea", { id: "system", rows: 2, spellcheck: false, placeholder: "none" });
    this.kwargs = element("input", { id: "template", spellcheck: false, autocomplete: "off", placeholder: "{enable_thinking: false}" });
    this.turns = element("div", { class: "form-rows" });
    place.append(element("label", { for: "system" }, "System prompt"), this.system,
      this.turns, element("div", {}, button("Add an earlier turn", () => this.#add(this.turns.children.length % 2 ? "assistant" : "user", ""), { class: "quiet" })),
      element("label", { for: "template" }, "Chat template's arguments, in YAML or JSON"), this.kwargs);
  }

  /** All messages, the prompt last. @param {string} prompt */
  messages(prompt) {
    const { system, turns } = this.values();
    return [...(system ? [{ role: "system", content: system }] : []), ...turns.filter((turn) => turn.content), { role: "user", content: prompt }];
  }

  /** The chat template's arguments, null for none. Throws an Error for what is no object. */
  template() {
    const text = this.kwargs.value.trim();
    if (!text) return null;
    try {
      const read = fromYaml(text);
      if (typeof read !== "object" || read === null || Array.isArray(read)) throw new Error("write an object, as {enable_thinking: false}");
      this.kwargs.removeAttribute("aria-invalid");
      return read;
    } catch (error) {
      this.kwargs.setAttribute("aria-invalid", "true");
      throw new Error(`Chat template's arguments: ${/** @type {Error} */ (error).message}`);
    }
  }

  /** @returns {ChatValues} */
  values() {
    const turns = [...this.turns.children].map((row) => ({
      role: /** @type {any} */ (row.querySelector("select")).value, content: /** @type {any} */ (row.querySelector("textarea")).value,
    }));
    return { system: this.system.value, turns, template: this.kwargs.value };
  }

  /** @param {ChatValues} values */
  fill({ system, turns, template }) {
    this.system.value = system;
    this.kwargs.value = template;
    this.turns.replaceChildren();
    for (const { role, content } of turns) this.#add(role, content);
  }

  /** @param {string} role @param {string} content */
  #add(role, content) {
    const row = element("div", { class: "turn" },
      choice([["user", "user"], ["assistant", "assistant"]], role, { "aria-label": "Role" }),
      element("textarea", { rows: 2, spellcheck: false, value: content, "aria-label": "Earlier turn" }),
      button("Remove", () => row.remove(), { class: "quiet" }));
    this.turns.append(row);
  }
}
