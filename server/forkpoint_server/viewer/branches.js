// The answers of one run as a tree: those that the server's policy branched, and those that a click continued.

import { fresh } from "./trace.js";

/** @typedef {import("./types.js").Token} Token */
/** @typedef {import("./types.js").TreeNode} TreeNode */
/** @typedef {import("./trace.js").Trace} Trace */

/** An answer from where it leaves its parent's: at `at`, `given` replaces the parent's own tokens. */
export class Branch {
  /**
   * @param {Trace} trace
   * @param {number} index  of its choice in the trace
   * @param {Branch | null} parent
   * @param {number} at
   * @param {Token[]} given
   * @param {number} offset  the position at which the trace's answers begin
   */
  constructor(trace, index, parent, at, given, offset) {
    this.trace = trace;
    this.index = index;
    this.parent = parent;
    this.at = at;
    this.given = given;
    this.offset = offset;
  }

  /** @returns {TreeNode | undefined} */
  get node() {
    return this.trace.nodes[this.index];
  }

  get probe() {
    return this.node?.kind === "probe";
  }

  /** @returns {Token[]} */
  get own() {
    return this.trace.choices[this.index]?.tokens ?? [];
  }

  get length() {
    return this.at + this.given.length + this.own.length;
  }

  /** "running", or how it ended. */
  get state() {
    const ended = this.node?.ended ?? null;
    return ended ?? (this.trace.done ? this.#ending() : "running");
  }

  #ending() {
    const last = this.own.at(-1) ?? this.given.at(-1);
    return last && this.trace.stops.includes(last.id) ? "stop" : "length";
  }

  /** The whole answer's tokens. @returns {Token[]} */
  path() {
    return [...(this.parent ? this.parent.path().slice(0, this.at) : []), ...this.given, ...this.own];
  }

  /** The ids before a position, after the prompt of the first request. @param {number} position */
  idsBefore(position) {
    return this.path().slice(0, position).map((token) => token.id);
  }
}

/** The answers of one run, in the order in which they began. */
export class Branches {
  constructor() {
    /** @type {Branch[]} */
    this.all = [];
    /** @type {{trace: Trace, parent: Branch | null, at: number, given: Token[]}[]} */
    this.requests = [];
  }

  /** @param {Trace} trace @param {Branch | null} parent @param {number} at @param {Token[]} given */
  add(trace, parent = null, at = 0, given = []) {
    this.requests.push({ trace, parent, at, given });
    if (given.length) this.all.push(new Branch(trace, 0, parent, at, given, at + given.length));
  }

  /** Have a branch for all that the traces tell of. */
  grow() {
    for (const { trace, parent, at, given } of this.requests) {
      const indices = new Set([...trace.choices.keys(), ...trace.nodes.keys()]);
      for (const index of [...indices].sort((one, other) => one - other)) {
        if (!trace.choices[index] && !trace.nodes[index]) continue;
        if (!this.#find(trace, index)) this.all.push(this.#branch(trace, index, parent, at, given));
      }
    }
  }

  /** @param {Trace} trace @param {number} index */
  #find(trace, index) {
    return this.all.find((branch) => branch.trace === trace && branch.index === index);
  }

  /** @param {Trace} trace @param {number} index @param {Branch | null} parent @param {number} at @param {Token[]} given */
  #branch(trace, index, parent, at, given) {
    const node = trace.nodes[index];
    const offset = at + given.length;
    const above = node && node.parent !== null ? this.#find(trace, node.parent) : undefined;
    if (!node || !above || node.position === null) return new Branch(trace, index, parent, at, given, offset);
    return new Branch(trace, index, above, offset + node.position, standing(node, above, offset + node.position), offset);
  }
}

/** The tokens that a branch of the server's puts in place of its parent's: measured there, but not sampled. */
/** @param {TreeNode} node @param {Branch} parent @param {number} at */
function standing(node, parent, at) {
  const before = parent.path()[at];
  return node.token_ids.map((id, place) => {
    const text = node.tokens[place];
    return place === 0 ? instead(before, id, text) : { ...fresh(id, text), given: true };
  });
}

/** A token in another's place: what was measured there is the same. @param {Token | undefined} before @param {number} id @param {string} text @returns {Token} */
export function instead(before, id, text) {
  const { nats = null, reasoning = false, hidden = null, fork = null, change = null } = before ?? {};
  return { ...fresh(id, text), nats, reasoning, hidden, fork, change, given: true };
}
