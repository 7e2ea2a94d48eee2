// The form's request as one would send it from a shell or from Python.

import { element } from "./elements.js";
import { button } from "./form.js";

const OWN = ["policy", "forks", "chat_template_kwargs"];

export class RequestCode {
  /** @param {HTMLElement} details  where it is shown when it is opened @param {() => {body: any, origin: string}} request */
  constructor(details, request) {
    const curl = element("pre", { tabIndex: 0, "aria-label": "As curl" }), python = element("pre", { tabIndex: 0, "aria-label": "As Python" });
    const show = () => {
      try {
        const { body, origin } = request(), base = new URL("v1", origin).href;
        curl.textContent = asCurl(base, body);
        python.textContent = asPython(base, body);
      } catch (error) {
        curl.textContent = /** @type {Error} */ (error).message;
        python.textContent = "";
      }
    };
    const copy = (/** @type {HTMLElement} */ from) => button("Copy", () => void navigator.clipboard.writeText(from.textContent ?? ""), { class: "quiet" });
    details.append(element("div", { class: "page-body" }, element("div", {}, copy(curl), curl), element("div", {}, copy(python), python)));
    details.addEventListener("toggle", show);
    details.closest("form")?.addEventListener("input", () => /** @type {any} */ (details).open && show());
    details.closest("form")?.addEventListener("change", () => /** @type {any} */ (details).open && show());
  }
}

/** @param {string} base @param {any} body */
export function asCurl(base, { stream: _, ...body }) {
  return `curl ${base}/chat/completions -H 'Content-Type: application/json' -d '${JSON.stringify(body, null, 2).replaceAll("'", "'\\''")}'`;
}

/** @param {string} base @param {any} body */
export function asPython(base, { stream: _, ...body }) {
  const plain = Object.entries(body).filter(([name]) => !OWN.includes(name));
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => OWN.includes(name)));
  return [
    "import openai", "", `client = openai.OpenAI(base_url=${literal(base)}, api_key="none")`, "response = client.chat.completions.create(",
    ...plain.map(([name, value]) => `    ${name}=${literal(value)},`), `    extra_body=${literal(extra)},`, ")",
    "print(response.choices[0].message.content)", "print(response.model_extra[\"forkpoint\"])",
  ].join("\n");
}

/** A value as Python writes it. @param {any} value @returns {string} */
function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${literal(one)}`).join(", ")}}`;
  return JSON.stringify(value);
}
