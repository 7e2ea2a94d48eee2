// Which field of the playground's form an error is about: it is marked until it is changed.

import { byId } from "./elements.js";

/** By the name that the API has for it: the field's element, and its label. @type {Record<string, [string, string]>} */
const FIELDS = {
  request_id: ["open-id", "Response ID"], model: ["model", "Model"], seed: ["seed", "Seed"], temperature: ["temperature", "Temperature"],
  top_p: ["top-p", "Top p"], max_tokens: ["most", "Max tokens"], max_completion_tokens: ["most", "Max tokens"], n: ["answers", "Samples"],
  messages: ["prompt", "Prompt"], chat_template_kwargs: ["template", "Chat template's arguments"],
};

/** What vLLM adds to a message: the field's name in the API once more. */
const REPEATED = / \(parameter=.*\)$/;

/**
 * An error in the form's words. Its field is marked, too.
 * @param {any} error
 * @param {"policy-a" | "policy-b"} [policy]  the choice of the policy that was sent
 */
export function explained({ message, field }, policy = "policy-a") {
  const name = String(field ?? "").split(/[.[]/)[0];
  if (name === "policy") mark(byId(policy).value === "(inline)" ? `${policy}-inline` : `${policy}-find`);
  const [id, label] = FIELDS[name] ?? [];
  if (!id) return field && !String(message).startsWith(field) ? `${field}: ${message}` : String(message);
  mark(id);
  const own = String(message).replace(REPEATED, "");
  const rest = own.startsWith(`${field}: `) ? own.slice(field.length + 2) : own;
  return field === name ? `${label}: ${rest}` : own;
}

/** @param {string} id */
function mark(id) {
  const input = byId(id);
  input?.setAttribute("aria-invalid", "true");
  input?.addEventListener("input", () => input.removeAttribute("aria-invalid"), { once: true });
}

/** No field of a form is marked any more. @param {HTMLElement} form */
export function unmark(form) {
  for (const input of form.querySelectorAll("[aria-invalid=true]:not(textarea)")) input.removeAttribute("aria-invalid");
}
