// Requests: a new one, one continued from a token, an existing one, and a text to analyse.

import { ask, askJson, events, Refusal } from "./api.js";
import { Trace } from "./trace.js";

/** @typedef {import("./types.js").Settings} Settings */

/**
 * Generate, and follow it: `changed` is called whenever more is known.
 * @param {Trace} trace
 * @param {Settings} settings
 * @param {{messages: any[]} | {prompt: number[]}} from
 * @param {() => void} changed
 * @param {AbortSignal} signal  stops the request; what was generated is still shown
 */
export async function generate(trace, settings, from, changed, signal) {
  const path = "messages" in from ? "v1/chat/completions" : "v1/completions";
  const response = await ask(path, { body: { ...bodyOf(settings), ...from }, signal });
  /** @type {Promise<void> | null} */
  let following = null;
  try {
    for await (const chunk of events(response)) following ??= follow(trace, chunk.id, changed);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    await following;
  }
  if (!trace.done && !signal.aborted) throw new Refusal(0, "The stream ended before the answer did.", null);
}

/**
 * Follow a request that runs, or take the trace of one that has ended.
 * @param {Trace} trace
 * @param {string} id
 * @param {() => void} changed
 */
export async function follow(trace, id, changed) {
  for await (const update of events(await ask(`v1/forks/${encodeURIComponent(id)}?stream=true`))) {
    trace.take(update);
    changed();
  }
}

/**
 * Have the served model tell where the forks of a text are.
 * @param {Trace} trace
 * @param {any} body  of POST /v1/forks
 * @param {(progress: {phase: string, done: number, total: number}) => void} progress
 */
export async function measure(trace, body, progress) {
  for await (const update of events(await ask("v1/forks", { body: { ...body, stream: true } }))) {
    if (update.object === "trace") trace.take(update);
    else progress(update);
  }
}

/** What the page offers: the models, the policies, and the families of connectors. */
export async function offered() {
  const [models, policies, connectors] = await Promise.all(
    ["v1/models", "v1/policies", "v1/policies/connectors"].map((path) => askJson(path)),
  );
  const names = new Set(policies.data.map((/** @type {any} */ one) => one.name));
  /** @param {any} one */
  const plain = (one) => one.parent === null || !names.has(one.id.slice(one.parent.length + 1));
  return { models: models.data.filter(plain), policies: policies.data, connectors: connectors.data };
}

/** @param {Settings} settings */
function bodyOf({ model, policy, seed, temperature, most, answers }) {
  return {
    model, policy, seed, stream: true, forks: true,
    ...(temperature === null ? {} : { temperature }),
    ...(most === null ? {} : { max_tokens: most }),
    ...(answers > 1 ? { n: answers } : {}),
  };
}
