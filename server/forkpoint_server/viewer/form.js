// Fields of forms: a label above an input, and a form for a policy's parameters.

import { element } from "./elements.js";

/** @param {string} label @param {HTMLElement} input @param {{kind?: string, hint?: string}} [more] */
export const field = (label, input, { kind = "", hint } = {}) =>
  element("label", { class: `field ${kind}`, title: hint }, label, input);

/** @param {string} value @param {Record<string, any>} [more] */
export const text = (value = "", more = {}) => element("input", { type: "text", value, spellcheck: false, autocomplete: "off", ...more });

/** @param {[string, string][]} options  values and labels @param {string} [value] @param {Record<string, any>} [more] */
export const choice = (options, value, more = {}) => {
  const made = element("select", more, ...options.map(([name, label]) => element("option", { value: name }, label)));
  if (value !== undefined) made.value = value;
  return made;
};

/** @param {string} label @param {() => void} clicked @param {Record<string, any>} [more] */
export const button = (label, clicked, more = {}) => element("button", { type: "button", onclick: clicked, ...more }, label);
