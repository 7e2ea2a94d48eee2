// The server's routes, as any client requests them. Paths are relative to the page, so that it also works behind a prefix.

const KEY = "forkpoint-key", ADMIN_KEY = "forkpoint-admin-key";

/** Dispatched on the window when a route needs the server's key. */
export const KEY_NEEDED = "forkpoint:key";

/** What the server did not do, in its own words. */
export class Refusal extends Error {
  /** @param {number} status @param {string} message @param {string | null} field */
  constructor(status, message, field) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

/** Keep the key for this tab. @param {string} key @param {boolean} [admin] */
export const useKey = (key, admin = false) => sessionStorage.setItem(admin ? ADMIN_KEY : KEY, key);

/** @typedef {{method?: string, body?: any, signal?: AbortSignal, admin?: boolean}} Options  `admin`: with the admin's key, if there is one */

/**
 * Ask a route. Throws a Refusal for any answer that is not a success, and one of status 0 when the server is not reached.
 * @param {string} path
 * @param {Options} [options]
 */
export async function ask(path, { method, body, signal, admin = false } = {}) {
  const key = (admin && sessionStorage.getItem(ADMIN_KEY)) || sessionStorage.getItem(KEY);
  let response;
  try {
    response = await fetch(path, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers: { ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...(key ? { Authorization: `Bearer ${key}` } : {}) },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(0, "The server does not answer. Is it still running?", null);
  }
  if (response.status === 401 && !admin) dispatchEvent(new Event(KEY_NEEDED));
  if (!response.ok) throw refusal(response.status, await response.text());
  return response;
}

/** @param {string} path @param {Options} [options] @returns {Promise<any>} */
export const askJson = async (path, options) => (await ask(path, options)).json();

/** @param {number} status @param {string} text */
function refusal(status, text) {
  try {
    const parsed = JSON.parse(text);
    const error = parsed.error ?? parsed;
    const message = typeof error === "string" ? error : (error.message ?? text);
    return new Refusal(status, message, error.param ?? null);
  } catch {
    return new Refusal(status, text || `The server answered ${status}.`, null);
  }
}

/**
 * The objects of a stream of server-sent events, up to [DONE]. Throws a Refusal for an error that comes in between.
 * @param {Response} response
 * @returns {AsyncGenerator<any>}
 */
export async function* events(response) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      waiting += value ?? "";
      const whole = waiting.split("\n\n");
      waiting = /** @type {string} */ (whole.pop());
      for (const event of whole) {
        const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
        if (data === "[DONE]") return;
        if (!data) continue;
        const parsed = JSON.parse(data);
        if (parsed.error) throw refusal(parsed.error.code ?? 500, data);
        yield parsed;
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
