// Which tokens are connectors: the server's families of words, each with its own mark, so that none is distinguished by colour alone.

const SIGNS = { reflection: "↺", alternative: "⑂", conclusion: "∴", execution: "▸", uncertainty: "?" };
const OTHER = "◦";

/** @type {Map<number, string>} */
const familyOf = new Map();

/**
 * Take what `GET /v1/policies/connectors` lists. A token's family is the first that has it, as in the server.
 * @param {{name: string, token_ids: number[]}[]} families
 */
export function learn(families) {
  for (const { name, token_ids } of families) for (const id of token_ids) if (!familyOf.has(id)) familyOf.set(id, name);
}

/** @param {number} id  @returns {string | null} */
export const family = (id) => familyOf.get(id) ?? null;

/** @param {string} name */
export const sign = (name) => SIGNS[/** @type {keyof typeof SIGNS} */ (name)] ?? OTHER;
