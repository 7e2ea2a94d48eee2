// A run: one request and what was continued from it. It knows nothing of how it is shown.

import { follow, generate, measure } from "./requests.js";
import { Branches, instead } from "./branches.js";
import { Trace } from "./trace.js";

/** @typedef {import("./branches.js").Branch} Branch */
/** @typedef {import("./types.js").Settings} Settings */
/** @typedef {import("./types.js").Alternative} Alternative */

export class Run {
  /** @param {string} name @param {() => void} changed  called whenever more is known */
  constructor(name, changed) {
    this.name = name;
    this.changed = changed;
    this.branches = new Branches();
    /** @type {Branch | null} */
    this.selected = null;
    this.running = 0;
    this.cameAt = 0;
    /** @type {string | null} */
    this.progress = null;
    /** @type {Set<AbortController>} */
    this.aborts = new Set();
    this.contextTokens = Infinity;
    /** @type {Settings | null} */
    this.settings = null;
    this.loaded = false; // it existed before, or is an analysed text
  }

  get trace() {
    return this.branches.requests[0]?.trace ?? null;
  }

  /** The tokens of the selected answer. */
  get tokens() {
    return this.selected?.path() ?? [];
  }

  /** @param {Settings} settings @param {any[]} messages */
  start(settings, messages) {
    this.settings = settings;
    const trace = this.#add(new Trace());
    return this.#during((signal) => generate(trace, settings, { messages }, () => this.#notify(), signal));
  }

  /** An existing request; `settings` returns how to continue it. @param {string} id @param {(trace: Trace) => Settings} settings */
  load(id, settings) {
    const trace = this.#add(new Trace());
    this.loaded = true;
    return this.#during(async () => {
      await follow(trace, id, () => this.#notify());
      this.settings = settings(trace);
    });
  }

  /** A text: a saved trace, or a body of POST /v1/forks. @param {any} body @param {Settings} settings */
  read(body, settings) {
    const trace = this.#add(new Trace());
    this.settings = settings;
    return this.#during(async () => {
      if (body.object === "trace") trace.take(body);
      else {
        await measure(trace, body, ({ phase, done, total }) => {
          this.progress = `${phase} ${done} of ${total}`;
          this.changed();
        });
      }
      this.#notify();
    });
  }

  /** Whether one can go on from an answer of this run, under its settings. @param {Branch} branch */
  goesOn(branch) {
    return this.settings !== null && (branch.trace.prompts[0]?.token_ids.length ?? 0) > 0;
  }

  /**
   * Go on from an answer with another token at a position. The tokens before it are the prompt, by their ids.
   * @param {Branch} branch
   * @param {number} position
   * @param {Alternative} alternative
   */
  goOn(branch, position, alternative) {
    const settings = /** @type {Settings} */ (this.settings), path = branch.path();
    const given = [instead(path[position], alternative.token_id, alternative.token)];
    const root = /** @type {Trace} */ (this.trace);
    const prompt = [...this.promptOf(branch), ...branch.idsBefore(position), alternative.token_id];
    const trace = new Trace();
    this.branches.add(trace, holder(branch, position), position, given);
    this.selected = /** @type {Branch} */ (this.branches.all.at(-1));
    this.changed();
    if (root.stops.includes(alternative.token_id)) {
      trace.take({ object: "trace", id: null, choices: [], fork_points: [], stop_token_ids: root.stops, threshold: root.threshold });
      this.changed();
      return Promise.resolve();
    }
    const left = Math.min(settings.most === null ? Infinity : settings.most - position - 1, this.contextTokens - prompt.length);
    const rest = { ...settings, answers: 1, most: Math.max(1, left === Infinity ? 1 : left) };
    return this.#during((signal) => generate(trace, rest, { prompt }, () => this.#notify(), signal));
  }

  /** The token ids of the prompt that an answer follows. @param {Branch} branch */
  promptOf(branch) {
    const root = /** @type {Trace} */ (this.trace), choice = root.choices[rootOf(branch).index];
    return root.prompts[choice?.prompt ?? 0].token_ids;
  }

  /** Seconds since anything came, while something runs. */
  get silent() {
    return this.running ? (performance.now() - this.cameAt) / 1000 : 0;
  }

  stop() {
    for (const abort of this.aborts) abort.abort();
  }

  /** @param {Trace} trace */
  #add(trace) {
    this.branches.add(trace);
    return trace;
  }

  /** @param {(signal: AbortSignal) => Promise<void>} work */
  async #during(work) {
    const abort = new AbortController();
    this.aborts.add(abort);
    this.running++;
    this.cameAt = performance.now();
    const watch = setInterval(() => this.silent > 1 && this.changed(), 1000);
    this.changed();
    try {
      await work(abort.signal);
    } catch (error) {
      if (!abort.signal.aborted) throw error;
    } finally {
      clearInterval(watch);
      this.aborts.delete(abort);
      this.running--;
      this.progress = null;
      this.changed();
    }
  }

  #notify() {
    this.cameAt = performance.now();
    this.branches.grow();
    const { all } = this.branches, chosen = all.filter((branch) => branch.node?.chosen);
    // Of several answers the one that the server chose is shown, until another one is picked.
    if (!this.selected) this.selected = all[0] ?? null;
    if (!this.picked && chosen.length === 1 && this.selected.trace === chosen[0].trace) this.selected = chosen[0];
    this.changed();
  }

  /** Show this answer from now on. @param {Branch} branch */
  pick(branch) {
    this.picked = true;
    this.selected = branch;
    this.changed();
  }

  picked = false;
}

/** @param {Branch} branch @returns {Branch} */
const rootOf = (branch) => (branch.parent ? rootOf(branch.parent) : branch);

/** The branch on the way to this one to which a position belongs. @param {Branch} branch @param {number} position @returns {Branch} */
function holder(branch, position) {
  return branch.parent && position <= branch.at ? holder(branch.parent, position) : branch;
}
