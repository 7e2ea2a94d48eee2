// What only the holder of the admin key may do: the key is asked for when the server wants it, and stays in this tab.

import { askJson, Refusal, useKey } from "./api.js";
import { element } from "./elements.js";

/** As `askJson`, with the admin key. Throws a Refusal when it is wrong or was not given. @param {string} path @param {import("./api.js").Options} options @returns {Promise<any>} */
export async function askAsAdmin(path, options) {
  try {
    return await askJson(path, { ...options, admin: true });
  } catch (error) {
    if (!(error instanceof Refusal) || error.status !== 401) throw error;
    const key = await askedKey();
    if (key === null) throw error;
    useKey(key, true);
    return askJson(path, { ...options, admin: true });
  }
}

/** @returns {Promise<string | null>} */
function askedKey() {
  const input = element("input", { type: "password", autocomplete: "off", spellcheck: false, required: true, id: "admin-key" });
  const dialog = /** @type {any} */ (element("dialog", { class: "sheet", "aria-label": "Admin key" },
    element("form", { method: "dialog", class: "panel" },
      element("label", { for: "admin-key" }, "This server requires its admin key for changes"), input,
      element("div", { class: "row" },
        element("button", { type: "submit", class: "primary", value: "use" }, "Use it"),
        element("button", { type: "button", onclick: () => dialog.close("") }, "Cancel")),
      element("p", { class: "hint" }, "Kept in this tab only, until it is closed."))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    dialog.remove();
    resolve(dialog.returnValue === "use" ? input.value : null);
  }));
}

/** Ask before something that cannot be undone. @param {string} question @param {string} yes @returns {Promise<boolean>} */
export function confirmed(question, yes) {
  const dialog = /** @type {any} */ (element("dialog", { class: "sheet", "aria-label": question },
    element("form", { method: "dialog", class: "panel" }, element("p", {}, question),
      element("div", { class: "row" }, element("button", { type: "submit", class: "primary", value: "yes" }, yes),
        element("button", { type: "submit", value: "" }, "Cancel")))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    dialog.remove();
    resolve(dialog.returnValue === "yes");
  }));
}
