// Policies as text: YAML, of which JSON is a part. The library is js-yaml.

const yaml = /** @type {any} */ (globalThis).jsyaml;

/** Throws an Error in one line that says where it is wrong. @param {string} text @returns {any} */
export function fromYaml(text) {
  try {
    return yaml.load(text);
  } catch (error) {
    const { reason, mark, message } = /** @type {any} */ (error);
    throw new Error(mark ? `line ${mark.line + 1}, column ${mark.column + 1}: ${reason}` : message);
  }
}

/** @param {any} value */
export const toYaml = (value) => yaml.dump(value, { lineWidth: 100, noRefs: true, flowLevel: 4 });
