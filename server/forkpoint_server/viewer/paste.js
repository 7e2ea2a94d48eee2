// What was pasted: a text, or JSON that the server or this page would take.

/**
 * The body for POST /v1/forks, or a whole trace. Throws an Error that says what would be right.
 * @param {string} prompt
 * @param {string} text
 * @param {string} model
 * @returns {any}
 */
export function pasted(prompt, text, model) {
  const parsed = json(text);
  if (parsed?.object === "trace" && Array.isArray(parsed.choices)) return parsed;
  if (parsed && (Array.isArray(parsed.messages) || (parsed.prompt !== undefined && parsed.completion !== undefined))) return { model, ...parsed };
  if (parsed && typeof parsed === "object" && !prompt) {
    throw new Error("This JSON is neither a trace nor a body of POST /v1/forks: it needs `messages`, or `prompt` and `completion`.");
  }
  if (!prompt) throw new Error("Give the prompt, too: entropy is that of the text after it.");
  return { model, messages: [{ role: "user", content: prompt }, { role: "assistant", ...parts(text) }] };
}

/** The reasoning and the answer of a text in which `</think>` parts them. @param {string} text */
function parts(text) {
  const at = text.indexOf("</think>");
  if (at < 0) return { content: text };
  return { reasoning: text.slice(0, at).replace(/^\s*<think>/, ""), content: text.slice(at + "</think>".length) };
}

/** @param {string} text @returns {any} */
function json(text) {
  try {
    return /^\s*[{[]/.test(text) ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}
