// Short ways to make elements. A text is only ever a text.

/**
 * @param {string} tag
 * @param {Record<string, any>} properties  `class`, `on…` listeners, `data-…` and `aria-…` attributes, else properties
 * @param {...(Node | string | null | false | undefined)} children
 * @returns {HTMLElement & Record<string, any>}
 */
export function element(tag, properties = {}, ...children) {
  const made = /** @type {HTMLElement & Record<string, any>} */ (document.createElement(tag));
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name.includes("-") || ["role", "for", "list"].includes(name)) made.setAttribute(name, String(value));
    else made[name] = value;
  }
  made.append(.../** @type {(Node | string)[]} */ (children.filter((child) => child !== null && child !== false && child !== undefined)));
  return made;
}

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/** @param {number} nats */
export const inNats = (nats) =>
  nats > 0 && nats < 0.00005 ? "< 0.0001 nats" : `${nats.toFixed(nats < 0.01 && nats > 0 ? 4 : 2)} nats`;

/** @param {number} probability */
export const percent = (probability) => {
  if (probability > 0 && probability < 0.00005) return "< 0.01%";
  return `${(100 * probability).toFixed(probability >= 0.1 ? 0 : probability < 0.001 ? 2 : 1)}%`;
};

/** @param {number} number @param {string} one @param {string} [many] */
export const counted = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** Whether things may move. */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** The server's words, with `names` as code. @param {string | null | undefined} text @returns {(Node | string)[]} */
export const coded = (text) => String(text ?? "").split("`").map((part, at) => (at % 2 ? element("code", {}, part) : part));
