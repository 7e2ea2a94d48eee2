// One request's trace as the page holds it: put together from what comes live, and in the end from the whole.

/** @typedef {import("./types.js").Token} Token */
/** @typedef {import("./types.js").Point} Point */
/** @typedef {import("./types.js").TreeNode} TreeNode */

/** One choice's own tokens. Positions count from the beginning of its answer: a branch's own tokens start at `begun`. */
export class Choice {
  /** @param {number} index @param {number} begun @param {number} prompt */
  constructor(index, begun, prompt) {
    this.index = index;
    this.begun = begun;
    this.prompt = prompt;
    /** @type {Token[]} */
    this.tokens = [];
  }

  /** Take tokens after the first `told`, and records, in the shape of a trace's choice. @param {any} data */
  take(data) {
    const bytes = data.token_bytes ?? {};
    data.token_ids.forEach((/** @type {number} */ id, /** @type {number} */ number) => {
      const place = (data.told ?? 0) + number;
      if (this.tokens[place]?.id !== id) {
        this.tokens[place] = fresh(id, data.tokens[number], bytes[place] ?? null);
        if (this.tokens[place].bytes !== null) this.#join(place);
      }
    });
    const signals = Object.entries(data.hidden ?? {});
    data.positions.forEach((/** @type {number} */ position, /** @type {number} */ number) => {
      const token = this.at(position);
      if (token) {
        Object.assign(token, { nats: data.entropies[number], reasoning: data.in_reasoning[number], actions: data.actions[number] });
        if (signals.length) token.hidden = Object.fromEntries(signals.map(([name, values]) => [name, values[number]]));
        token.version++;
      }
    });
  }

  /** Take the probabilities that the tokens were sampled with, and which of them the policy wrote; known when the answer has ended. @param {any} data */
  sampledWith(data) {
    const probability = (/** @type {number | null | undefined} */ nats) => (nats === null || nats === undefined ? null : Math.exp(nats));
    const written = new Set(data.written ?? []);
    this.tokens.forEach((token, place) => {
      const before = probability(data.logprobs?.[place]), sampled = probability(data.policy_logprobs?.[place]);
      if (before === null && sampled === null && !written.has(place)) return;
      Object.assign(token, { before, sampled, given: token.given || written.has(place) });
      token.version++;
    });
  }

  /** The token at a position of the answer. @param {number} position @returns {Token | undefined} */
  at(position) {
    return this.tokens[position - this.begun];
  }

  /** Where parts come together to characters, the last one shows them. @param {number} last */
  #join(last) {
    let first = last;
    while (first > 0 && this.tokens[first - 1].bytes !== null && this.tokens[first - 1].text.includes("\ufffd")) first--;
    const parts = this.tokens.slice(first, last + 1);
    try {
      const whole = new TextDecoder("utf-8", { fatal: true }).decode(fromHex(parts.map((part) => part.bytes).join("")));
      for (const part of parts) {
        part.text = "";
        part.version++;
      }
      this.tokens[last].text = whole;
    } catch {
      // not yet a whole character, or never
    }
  }
}

export class Trace {
  constructor() {
    /** @type {string | null} */
    this.id = null;
    /** @type {string | null} */
    this.policy = null;
    /** @type {string | null} */
    this.digest = null;
    this.shadow = false;
    this.threshold = 0;
    /** @type {Record<string, import("./types.js").Bounds>} of its policy's rules on signals of hidden states */
    this.bounds = {};
    /** @type {{token_ids: number[], text: string}[]} */
    this.prompts = [];
    /** @type {number[]} */
    this.stops = [];
    /** @type {Choice[]} */
    this.choices = [];
    /** @type {TreeNode[]} */
    this.nodes = [];
    /** @type {any} the `forkpoint` object, once the request has ended */
    this.summary = null;
    /** @type {any} the whole trace as the server sent it, once the request has ended */
    this.whole = null;
  }

  get done() {
    return this.whole !== null;
  }

  /** Take an event of the live stream, or a whole trace. @param {any} data */
  take(data) {
    if (data.object !== "trace.delta") this.#head(data);
    for (const one of data.choices ?? []) (this.choices[one.index] ??= new Choice(one.index, one.begun, one.prompt ?? 0)).take(one);
    for (const node of data.tree?.nodes ?? []) this.nodes[node.index] = node;
    for (const point of data.fork_points ?? []) this.#point(point, "fork");
    for (const point of data.intervention_points ?? []) this.#point(point, "change");
    if (data.object === "trace") {
      for (const one of data.choices ?? []) this.choices[one.index].sampledWith(one);
      this.whole = data;
      this.summary = data.forkpoint;
    }
  }

  /** @param {any} data */
  #head(data) {
    this.id = data.id ?? this.id;
    this.policy = data.policy ?? data.forkpoint?.policy ?? null;
    this.digest = data.digest ?? data.forkpoint?.digest ?? null;
    this.shadow = data.shadow ?? false;
    this.threshold = data.threshold ?? data.forkpoint?.threshold ?? 0;
    this.bounds = data.hidden_bounds ?? {};
    this.prompts = data.prompts ?? [];
    this.stops = data.stop_token_ids ?? [];
  }

  /** @param {Point} point @param {"fork" | "change"} kind */
  #point(point, kind) {
    const token = this.choices[point.choice]?.at(point.index);
    if (token) {
      token[kind] = point;
      token.version++;
    }
  }
}

/** @param {number} id @param {string} text @param {string | null} [bytes] @returns {Token} */
export function fresh(id, text, bytes = null) {
  return { id, text, bytes, nats: null, reasoning: false, actions: [], hidden: null, fork: null, change: null, given: false, likely: null, before: null, sampled: null, version: 0 };
}

/** @param {string} hex */
function fromHex(hex) {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
