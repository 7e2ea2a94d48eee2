// Completion of a policy's text from the language's JSON Schema: which keys and values can stand where the cursor is.

/** @typedef {any} Schema */

/**
 * What can stand at the end of a text, with the word that it would replace.
 * @param {Schema} schema
 * @param {string} before  the text up to the cursor
 * @returns {{word: string, offers: {text: string, note: string}[]}}
 */
export function completions(schema, before) {
  const { path, word, value } = placeIn(before);
  const here = path.reduce((/** @type {Schema[]} */ schemas, key) => schemas.flatMap((one) => under(schema, one, key)), [schema]);
  const offers = value === null ? keysOf(schema, here) : here.flatMap((one) => under(schema, one, value)).flatMap((one) => valuesOf(schema, one));
  const seen = new Map(offers.map((one) => [one.text, one]));
  return { word, offers: [...seen.values()].filter((one) => one.text.startsWith(word) && one.text !== word) };
}

/** The keys above the cursor, and the key whose value is being written, if one is. YAML in blocks and in flows. @param {string} before */
export function placeIn(before) {
  /** @type {{indent: number, key: string}[]} */
  const stack = [];
  const lines = before.split("\n"), last = /** @type {string} */ (lines.pop());
  const keep = (/** @type {number} */ indent) => {
    while (stack.length && stack[stack.length - 1].indent >= indent) stack.pop();
  };
  for (const line of lines) {
    const found = /^(\s*)((?:- )*)"?([\w]+)"?:\s*(.*)$/.exec(line);
    if (!found) continue;
    const [, space, dashes, key, rest] = found, indent = space.length + dashes.length;
    keep(indent);
    if (rest === "" || rest.startsWith("#")) stack.push({ indent, key });
  }
  const [, space, dashes, content] = /** @type {RegExpExecArray} */ (/^(\s*)((?:- )*)(.*)$/.exec(last));
  keep(space.length + dashes.length);
  return inFlow(content, stack.map(({ key }) => key));
}

/** The part of a line, which may hold `{a: {b: [c` @param {string} content @param {string[]} above */
function inFlow(content, above) {
  const path = [...above];
  /** @type {{key: string | null, list: boolean}[]} */
  const opened = [];
  /** @type {string | null} */
  let key = null;
  let word = "";
  for (const character of content) {
    if (character === "{" || character === "[") {
      opened.push({ key, list: character === "[" });
      if (key !== null) path.push(key);
      key = null;
      word = "";
    } else if (character === "}" || character === "]") {
      if (opened.pop()?.key) path.pop();
      key = null;
      word = "";
    } else if (character === ",") {
      key = null;
      word = "";
    } else if (character === ":") {
      key = word.trim().replace(/"/g, "");
      word = "";
    } else word += character;
  }
  word = word.trim().replace(/^"/, "");
  // In a list the values are those of the list's key.
  const inner = opened.at(-1);
  if (key === null && inner?.list && inner.key) return { path: path.slice(0, -1), word, value: inner.key };
  return { path, word, value: key };
}

/** The alternatives of a schema, without references. @param {Schema} root @param {Schema} schema @returns {Schema[]} */
function plain(root, schema) {
  if (schema === true || !schema) return [];
  if (schema.$ref) return plain(root, schema.$ref.slice(2).split("/").reduce((/** @type {any} */ at, /** @type {string} */ part) => at?.[part], root));
  const parts = ["anyOf", "oneOf", "allOf"].flatMap((name) => schema[name] ?? []);
  return [schema, ...parts.flatMap((one) => plain(root, one))];
}

/** @param {Schema} root @param {Schema} schema @param {string} key @returns {Schema[]} */
function under(root, schema, key) {
  return plain(root, schema).flatMap((one) => [
    ...(one.properties?.[key] ? [one.properties[key]] : []),
    ...(one.items ? under(root, one.items, key) : []),
  ]);
}

/** @param {Schema} root @param {Schema[]} schemas @returns {{text: string, note: string}[]} */
function keysOf(root, schemas) {
  return schemas.flatMap((schema) => plain(root, schema)).flatMap((one) => [
    ...Object.entries(one.properties ?? {}).map(([text, property]) => ({ text, note: noteOf(root, property) })),
    ...(one.items ? keysOf(root, [one.items]) : []),
  ]);
}

/** @param {Schema} root @param {Schema} schema @returns {{text: string, note: string}[]} */
function valuesOf(root, schema) {
  return plain(root, schema).flatMap((one) => [
    ...(one.enum ?? []), ...("const" in one ? [one.const] : []), ...(one.type === "boolean" ? [true, false] : []),
  ].map((value) => ({ text: String(value), note: "" })).concat(one.items ? valuesOf(root, one.items) : []));
}

/** @param {Schema} root @param {Schema} property */
const noteOf = (root, property) => String(plain(root, property).map((one) => one.description ?? "").find((text) => text) ?? "").split(/(?<=\.)\s/)[0].slice(0, 90);
