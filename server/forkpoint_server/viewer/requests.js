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
  const { chat_template_kwargs: template, ...body } = bodyOf(settings);
  const response = await asked(path, { ...body, ...("messages" in from && template ? { chat_template_kwargs: template } : {}), ...from }, signal);
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
 * Have the served model measure where the forks of a text are.
 * @param {Trace} trace
 * @param {any} body  of POST /v1/forks
 * @param {(progress: {phase: string, done: number, total: number}) => void} progress
 * @param {AbortSignal} [signal]
 */
export async function measure(trace, body, progress, signal) {
  for await (const update of events(await ask("v1/forks", { body: { ...body, stream: true }, signal }))) {
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

/** Whether the server can say with which probability each token was sampled; not under speculative decoding. */
let knowsSampled = true;

/** @param {Settings} settings */
export function bodyOf({ model, policy, seed, temperature, topP, most, answers, template }) {
  return {
    model, policy, seed, stream: true, forks: true,
    ...(temperature === null ? {} : { temperature }),
    ...(topP === null ? {} : { top_p: topP }),
    ...(most === null ? {} : { max_tokens: most }),
    ...(answers > 1 ? { n: answers } : {}),
    ...(template === null ? {} : { chat_template_kwargs: template }),
  };
}

/** Ask for an answer, with the probabilities that its tokens were sampled with where the server can tell them. @param {string} path @param {any} body @param {AbortSignal} signal */
async function asked(path, body, signal) {
  if (!knowsSampled) return ask(path, { body, signal });
  try {
    return await ask(path, { body: { ...body, policy_logprobs: true }, signal });
  } catch (error) {
    if (!(error instanceof Refusal) || error.field !== "policy_logprobs") throw error;
    knowsSampled = false;
    return ask(path, { body, signal });
  }
}

const LIKELIEST = 5;

/**
 * The likeliest tokens after a prompt, before any policy, at temperature 1: one token is generated to see them.
 * @param {string} model
 * @param {number[]} prompt
 * @returns {Promise<import("./types.js").Alternative[]>}
 */
export async function likeliest(model, prompt) {
  const body = { model, prompt, policy: "none", max_tokens: 1, temperature: 0, logprobs: LIKELIEST, return_tokens_as_token_ids: true };
  const { choices } = await askJson("v1/completions", { body });
  const found = Object.entries(choices[0].logprobs.top_logprobs[0]).map(([name, nats]) => ({ id: Number(name.slice("token_id:".length)), nats: Number(nats) }));
  const texts = await Promise.all(found.map(({ id }) => askJson("detokenize", { body: { model, tokens: [id] } })));
  return found.map(({ id, nats }, at) => ({ token: texts[at].prompt, token_id: id, probability: Math.exp(nats), possible: true }))
    .sort((one, other) => other.probability - one.probability);
}
