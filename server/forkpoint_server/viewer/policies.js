// The choice of a policy: by name with its parameters, none, or one that is written here.

import { Combobox } from "./combobox.js";
import { PolicyEditor } from "./editor.js";
import { element } from "./elements.js";
import { toYaml } from "./yaml.js";

const INLINE = "(inline)", NOTHING = "(nothing)";
const EXAMPLE = `rules:
  - when: {entropy_above: fork}
    do: {suppress: {connectors: [reflection]}}
`;

/** Groups of policies, by the actions of their rules; the first that has one names the policy's group. */
export const GROUPS = {
  "branch and vote": ["branch", "sample", "resume"],
  "early exit": ["probe", "end_reasoning"],
  "force text": ["force"],
  temperature: ["temperature", "truncate"],
  "suppress and amplify": ["suppress", "amplify"],
  observe: ["observe"],
};
const OTHER = "other";

/** @param {any} policy */
export function groupOf(policy) {
  const actions = new Set(policy.rules.flatMap((/** @type {any} */ rule) => actionsOf(rule)));
  return Object.entries(GROUPS).find(([, names]) => names.some((name) => actions.has(name)))?.[0] ?? OTHER;
}

/** @param {any} rule @returns {string[]} */
const actionsOf = (rule) => Object.entries(rule.do).flatMap(([action, body]) => (action === "control" ? actionsOf(/** @type {any} */ (body).like) : [action]));

export class PolicyChoice {
  /** @param {HTMLSelectElement} select @param {HTMLElement} place  of its parameters, or of its text @param {boolean} optional  whether there may be none of both */
  constructor(select, place, optional) {
    this.select = select;
    this.combobox = new Combobox(select);
    this.optional = optional;
    /** @type {any[]} */
    this.policies = [];
    this.editor = new PolicyEditor(`${select.id}-inline`, "Inline policy, in YAML or JSON", { rows: 5 });
    this.editor.area.value = EXAMPLE;
    this.parameters = element("div", { class: "controls parameters-form" });
    this.shadow = element("input", { type: "checkbox" });
    place.append(this.parameters, this.editor.element);
    this.place = place;
    /** @type {any} */
    this.last = null;
    select.addEventListener("change", () => this.show());
  }

  /** @param {any[]} policies @param {string} chosen */
  offer(policies, chosen) {
    this.policies = policies;
    const option = (/** @type {string} */ value, text = value, title = "") => element("option", { value, title }, text);
    const placebo = (/** @type {any} */ one) => one.name.endsWith(".placebo");
    const grouped = [...Object.keys(GROUPS), OTHER].map((group) => ({ label: group, found: policies.filter((one) => !placebo(one) && groupOf(one) === group) }));
    this.select.replaceChildren(
      ...(this.optional ? [option(NOTHING, "nothing")] : []),
      option("none", "no policy"), option(INLINE, "write one …"),
      ...[...grouped, { label: "placebos", found: policies.filter(placebo) }].filter(({ found }) => found.length)
        .map(({ label, found }) => element("optgroup", { label }, ...found.map((one) => option(one.name, one.name, one.description)))));
    this.choose(chosen);
  }

  /** @param {string} name */
  choose(name) {
    if ([...this.select.options].some((one) => one.value === name)) this.select.value = name;
    this.show();
  }

  /** The parameters of the chosen policy; or its text, which starts from the policy that was chosen before. */
  show() {
    this.combobox.show();
    const inline = this.select.value === INLINE, policy = this.named;
    this.editor.element.hidden = !inline;
    if (inline && this.last && this.editor.text === EXAMPLE) this.editor.text = toYaml({ rules: this.last.rules });
    if (policy) this.last = policy;
    /** @type {Map<string, any>} */
    this.inputs = new Map();
    this.parameters.replaceChildren(...(policy ? this.#form(policy) : []));
    this.parameters.hidden = !policy;
    this.place.hidden = !inline && !policy;
  }

  get named() {
    return this.policies.find((one) => one.name === this.select.value);
  }

  get given() {
    return this.select.value !== NOTHING && this.select.value !== "";
  }

  get title() {
    return this.select.value === INLINE ? "inline policy" : this.select.value === "none" ? "no policy" : this.select.value;
  }

  /** What goes into the body's `policy`. Throws an Error for what is neither YAML nor JSON. */
  get value() {
    if (this.select.value === INLINE) {
      try {
        return this.editor.value;
      } catch (error) {
        throw new Error(`The inline policy is neither YAML nor JSON: ${/** @type {Error} */ (error).message}`);
      }
    }
    const values = Object.fromEntries([...this.inputs ?? []].flatMap(([name, { input, read }]) => (input.value === "" ? [] : [[name, read(input.value)]])));
    if (!Object.keys(values).length && !this.shadow.checked) return this.select.value;
    return { use: this.select.value, ...(Object.keys(values).length ? { with: values } : {}), ...(this.shadow.checked ? { shadow: true } : {}) };
  }

  /** @param {any} policy */
  #form({ name, parameters }) {
    this.shadow.checked = false;
    const fields = Object.entries(parameters).map(([key, one]) => {
      const numeric = one.minimum !== undefined, also = numeric && typeof one.default === "string";
      const input = one.one_of
        ? element("select", {}, element("option", { value: "" }, `${one.default}`), ...one.one_of.filter((/** @type {string} */ value) => value !== one.default).map((/** @type {string} */ value) => element("option", { value }, value)))
        : element("input", {
          placeholder: String(one.default).replaceAll("\n", "⏎"), spellcheck: false, autocomplete: "off",
          ...(numeric && !also ? { type: "number", min: one.minimum, max: one.maximum, step: "any" } : { type: "text" }),
        });
      input.setAttribute("aria-label", `${key} of ${name}`);
      this.inputs?.set(key, { input, read: (/** @type {string} */ value) => (numeric && value !== one.default ? Number(value) : value) });
      return element("label", { class: "field narrow", title: one.meaning }, key, input);
    });
    return [...fields, element("label", { class: "check", title: `Whether ${name} only says what it would do` }, this.shadow, `${name} in shadow: evaluate, do not act`)];
  }
}
