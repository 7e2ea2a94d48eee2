// "Verify forks": have the server continue from the alternatives of an answer's forks, and show which of them matter.

import { counted, element } from "./elements.js";
import { choice, field } from "./form.js";
import { said } from "./frame.js";
import { measure } from "./requests.js";
import { Trace } from "./trace.js";

/** @typedef {import("./run.js").Run} Run */

const MOST_CONTINUATIONS = 4096, MOST_TOKENS = 10_000_000;
const EXTRACTORS = ["last_line", "last_number", "math", "boxed", "text"];

export class Verification {
  /** @param {Run} run @param {() => void} changed */
  constructor(run, changed) {
    this.run = run;
    this.changed = changed;
    const number = (/** @type {number} */ value, /** @type {number} */ least, /** @type {number} */ most) => element("input", { type: "number", min: least, max: most, step: 1, value: String(value), required: true });
    this.inputs = { verify: number(20, 2, 4096), most_forks: number(8, 1, 1024), alternatives: number(2, 2, 10), max_tokens: number(400, 1, 100_000) };
    this.extract = choice(EXTRACTORS.map((name) => [name, name]), "last_line");
    this.cost = element("p", { class: "hint", "aria-live": "polite" });
    this.state = element("p", { class: "hint", role: "status" });
    this.submit = element("button", { type: "submit", class: "primary" }, "Verify");
    this.stopping = element("button", { type: "button", hidden: true, onclick: () => this.abort?.abort() }, "Stop");
    /** @type {AbortController | null} */
    this.abort = null;
    this.form = element("form", { class: "panel", oninput: () => this.show(), onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      void this.#verify();
    } },
    element("p", { class: "hint" }, "The server continues this answer from the likeliest tokens of its forks with the highest entropies, and compares what the continuations answer. A fork matters where these differ by more than chance."),
    element("div", { class: "controls" }, field("Continuations", this.inputs.verify, { kind: "narrow" }), field("Forks", this.inputs.most_forks, { kind: "narrow" }),
      field("Alternatives", this.inputs.alternatives, { kind: "narrow" }), field("Max tokens", this.inputs.max_tokens, { kind: "narrow" }), field("Outcome", this.extract, { kind: "narrow" })),
    element("div", { class: "row" }, this.submit, this.stopping, this.cost, this.state));
    this.element = element("details", { class: "verify", hidden: true, ontoggle: () => this.show() }, element("summary", {}, "Verify forks …"), this.form);
  }

  /** The cost of what the form asks for. */
  show() {
    const branch = this.run.selected, forks = this.run.tokens.filter((token) => token.fork).length;
    this.element.hidden = !branch || this.run.running > 0 || !forks || !this.run.goesOn(branch);
    if (this.element.hidden || !(/** @type {any} */ (this.element).open)) return;
    const { verify, most_forks: most, alternatives, max_tokens: longest } = this.#numbers(), tried = Math.min(most, forks);
    const continuations = verify * alternatives * tried, tokens = continuations * longest;
    const over = verify * alternatives * most > MOST_CONTINUATIONS || verify * alternatives * most * longest > MOST_TOKENS;
    this.cost.textContent = `At most ${counted(continuations, "continuation")} at ${counted(tried, "fork")}, ${tokens.toLocaleString("en")} tokens${over ? "; more than the server allows" : ""}`;
    this.submit.disabled = over || this.abort !== null;
  }

  #numbers() {
    return /** @type {Record<"verify" | "most_forks" | "alternatives" | "max_tokens", number>} */ (Object.fromEntries(Object.entries(this.inputs).map(([name, input]) => [name, Number(input.value)])));
  }

  async #verify() {
    const { run } = this, branch = /** @type {import("./branches.js").Branch} */ (run.selected), path = branch.path();
    const body = { model: run.settings?.model, prompt: run.promptOf(branch), completion: path.map((token) => token.id), ...this.#numbers(), extract: this.extract.value, seed: 1 };
    this.abort = new AbortController();
    this.submit.disabled = true;
    this.stopping.hidden = false;
    const found = new Trace();
    try {
      await measure(found, body, ({ phase, done, total }) => (this.state.textContent = `${phase} ${done} of ${total}`), this.abort.signal);
      const points = found.whole.fork_points.filter((/** @type {any} */ point) => point.verified);
      for (const point of points) {
        const token = path[point.index];
        token.fork = { ...point, ...token.fork, verified: point.verified };
        token.version++;
      }
      const { cost } = found.whole, sure = points.filter((/** @type {any} */ point) => point.verified.verified).length;
      this.state.textContent = `${sure} of ${counted(points.length, "fork")} verified, with ${cost.tokens.toLocaleString("en")} tokens`;
    } catch (error) {
      this.state.textContent = this.abort.signal.aborted ? "stopped" : said(error);
    } finally {
      this.abort = null;
      this.stopping.hidden = true;
      this.show();
      this.changed();
    }
  }
}
