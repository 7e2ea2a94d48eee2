// One run as it is shown: what it is, its plot, its tree, its text.

import { element, counted, inNats } from "./elements.js";
import { chip } from "./frame.js";
import { Plot } from "./plot.js";
import { likeliest } from "./requests.js";
import { STATE_ACTIONS } from "./signals.js";
import { States } from "./states.js";
import { FOLD_RADIUS, Text, spoken } from "./text.js";
import { Tree } from "./tree.js";
import { Verification } from "./verify.js";

/** @typedef {import("./run.js").Run} Run */
/** @typedef {import("./card.js").Card} Card */

const STALL_SECONDS = 5;
const LEAST_FOLDED = 60; // shorter answers are read whole

export class Column {
  /**
   * @param {Run} run
   * @param {string} title
   * @param {Card} card
   * @param {{say: (text: string) => void, explained: (error: unknown) => string, failed: (error: unknown) => void, difference: () => number | null,
   *   zoomed: (part: import("./positions.js").Part) => void}} page
   */
  constructor(run, title, card, page) {
    this.run = run;
    this.card = card;
    this.page = page;
    /** @type {unknown} what it failed with */
    this.error = null;
    const moves = (/** @type {"plot" | "states"} */ by) => ({
      moved: (/** @type {number | null} */ position) => this.#moved(position, by),
      zoomed: page.zoomed,
      opened: (/** @type {number} */ position) => {
        this.text.element.focus({ preventScroll: true });
        this.text.move(position);
        this.#open(position, "keys");
      },
    });
    this.plot = new Plot(`Entropy over position, run ${run.name}`, moves("plot"));
    this.states = new States(run.name, moves("states"));
    this.tree = new Tree(`Answers of run ${run.name}`, (branch) => run.pick(branch));
    this.text = new Text(`Tokens of run ${run.name}`, {
      moved: (position, by) => this.#moved(position, by),
      opened: (position, by) => this.#open(position, by),
      difference: page.difference,
    });
    this.title = element("span", {}, title);
    this.state = element("p", { class: "state" });
    this.ending = element("span", {});
    this.facts = element("p", { class: "facts" });
    this.verification = new Verification(run, run.changed);
    this.prompt = element("details", { class: "prompt", hidden: true }, element("summary", {}, "Prompt as the model sees it"), element("pre", {}));
    this.problem = element("p", { class: "problem", role: "alert", hidden: true });
    this.fold = element("button", {
      type: "button", class: "quiet", hidden: true, "aria-pressed": "false", title: `Fold what is farther than ${FOLD_RADIUS} tokens from any fork`,
      onclick: () => {
        this.text.fold(!this.text.folded);
        this.fold.setAttribute("aria-pressed", String(this.text.folded));
      },
    }, `Forks ± ${FOLD_RADIUS}`);
    this.link = element("button", { type: "button", class: "quiet", hidden: true, onclick: () => this.#copy() }, "Copy link");
    this.save = element("button", { type: "button", class: "quiet", hidden: true, onclick: () => this.#save() }, "Save trace");
    this.element = element("article", { class: "run", "data-run": run.name, "aria-label": `Run ${run.name}: ${title}` },
      element("header", {}, element("h2", {}, element("span", { class: "badge" }, run.name), this.title), this.ending, this.state, element("div", { class: "actions" }, this.fold, this.link, this.save)),
      this.problem, this.facts, this.plot.element, this.states.element, this.tree.element, this.text.element, this.verification.element, this.prompt);
  }

  /** @param {number} length  of the longest answer that is shown @param {number | null} divergence @param {import("./together.js").Other | null} other  which the plot shows, too */
  show(length, divergence, other) {
    const { run } = this, { trace, selected } = run;
    const threshold = trace?.threshold ?? 0;
    if (run.loaded && trace?.id) this.title.textContent = trace.policy ?? "no policy";
    // Of what was refused there is nothing to draw.
    this.plot.element.hidden = this.text.element.hidden = !this.problem.hidden && !run.tokens.length;
    this.text.show(run.tokens, divergence);
    this.plot.show(run.tokens, threshold, length, divergence, other);
    this.states.show(run.tokens, length, selected?.trace.bounds ?? {});
    this.tree.show(run.branches.all, selected, this.plot.shown);
    this.verification.show();
    this.ending.replaceChildren(...(selected && selected.state !== "running" && run.tokens.length ? [endingChip(selected, run)] : []));
    this.state.textContent = run.running ? (run.silent > STALL_SECONDS ? `no token for ${run.silent.toFixed(0)} s` : run.progress ?? "running") : run.loaded ? (trace?.id ?? "") : "";
    this.element.setAttribute("aria-busy", String(run.running > 0));
    this.facts.replaceChildren(...facts(run).map((fact) => element("span", {}, fact)));
    this.link.hidden = this.save.hidden = !trace?.done || !trace.id;
    this.fold.hidden = run.tokens.length < LEAST_FOLDED;
    const prompt = trace?.prompts[0]?.text ?? "";
    this.prompt.hidden = prompt === "";
    const shown = /** @type {HTMLElement} */ (this.prompt.querySelector("pre"));
    if (shown.textContent !== prompt) shown.textContent = prompt;
  }

  /** Show a part of the plots and of the tree. @param {import("./positions.js").Part} part */
  zoom(part) {
    this.plot.zoom(part);
    this.states.zoom(part);
    this.tree.show(this.run.branches.all, this.run.selected, this.plot.shown);
  }

  /** What the server refused, or what went wrong. @param {unknown} error */
  fail(error) {
    this.error = error;
    this.problem.textContent = this.page.explained(error);
    this.problem.hidden = false;
  }

  /** The longest of its answers. */
  get length() {
    return Math.max(0, ...this.run.branches.all.map((branch) => branch.length));
  }

  /** To a position, by the keys. @param {number} position */
  go(position) {
    this.text.element.focus({ preventScroll: true });
    this.text.move(position);
  }

  /** @param {number | null} position @param {"pointer" | "keys" | "plot" | "states"} by */
  #moved(position, by) {
    if (by === "plot" || by === "states") this.text.mark(position, position !== null);
    this.#mark(position);
    const token = this.run.tokens[position ?? -1];
    if (by !== "pointer" && token && position !== null) this.page.say(by === "states" ? this.states.spoken(token, position) : spoken(token, position));
    if (position === null) this.card.leave();
    else if (token && (token.fork || token.change || by === "pointer")) this.#show(position);
    else this.card.close();
  }

  /** @param {number | null} position */
  #mark(position) {
    this.plot.mark(position);
    this.states.mark(position);
  }

  /** @param {number} position @param {"pointer" | "keys"} by */
  #open(position, by) {
    this.#mark(position);
    this.#show(position);
    if (by === "keys") this.card.enter();
  }

  /** @param {number} position */
  #show(position) {
    const { run } = this, branch = run.selected, token = run.tokens[position], span = this.text.spanAt(position);
    if (!branch || !token || !span) return;
    const possible = run.goesOn(branch), model = run.settings?.model ?? "";
    const go = possible ? (/** @type {any} */ one) => run.goOn(branch, position, one).catch(this.page.failed) : null;
    const look = possible ? () => likeliest(model, [...run.promptOf(branch), ...branch.idsBefore(position)]) : null;
    this.card.open(token, position, span, this.text.element, go, look, branch.trace.shadow);
  }

  async #copy() {
    const link = new URL(location.href);
    link.hash = new URLSearchParams({ trace: /** @type {string} */ (this.run.trace?.id) }).toString();
    try {
      await navigator.clipboard.writeText(link.href);
      this.page.say("Copied");
      this.link.textContent = "Copied";
    } catch {
      history.replaceState(null, "", link); // where there is no clipboard, the address bar has it
      this.link.textContent = "In the address bar";
    }
    setTimeout(() => (this.link.textContent = "Copy link"), 2000);
  }

  #save() {
    const { trace } = this.run;
    const file = URL.createObjectURL(new Blob([JSON.stringify(trace?.whole, null, 1)], { type: "application/json" }));
    element("a", { href: file, download: `${trace?.id}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(file), 1000);
  }
}

/** How the selected answer ended. @param {import("./branches.js").Branch} branch @param {Run} run */
function endingChip({ state }, run) {
  if (state === "length") return chip(`length: cut off at ${run.tokens.length.toLocaleString("en")} tokens`, "warn");
  return chip(state, state === "stop" ? "" : "warn");
}

/** The figures of the selected answer. @param {Run} run @returns {string[]} */
function facts(run) {
  const tokens = run.tokens, known = tokens.filter((token) => token.nats !== null);
  if (!known.length) return run.running ? ["waiting for the first token"] : [];
  const forks = tokens.filter((token) => token.fork).length, changed = tokens.filter((token) => token.change);
  const mean = known.reduce((sum, token) => sum + /** @type {number} */ (token.nats), 0) / known.length;
  const expected = changed.reduce((sum, token) => sum + /** @type {any} */ (token.change).effect, 0);
  const answers = run.branches.all.filter((branch) => !branch.probe).length;
  const named = run.trace?.policy, fired = tokens.filter((token) => token.actions.some((action) => action !== "observe")).length;
  const states = tokens.filter((token) => token.actions.some((action) => STATE_ACTIONS.has(action))).length;
  const { forced = 0 } = run.trace?.summary ?? {}, { generated, shared } = run.trace?.whole?.tree ?? {};
  return [
    counted(tokens.length, "token"),
    `${counted(forks, "fork")} (${((100 * forks) / tokens.length).toFixed(0)}%)`,
    `mean ${inNats(mean)}`,
    ...(named && changed.length ? [`${run.trace?.shadow ? "would have acted" : "acted"} at ${changed.length}, about ${expected.toFixed(1)} tokens changed`] : []),
    ...(named && states ? [`${run.trace?.shadow ? "would have changed" : "changed"} hidden states at ${counted(states, "token")}`] : []),
    ...(named && fired && !changed.length && !generated && !states ? [`fired at ${counted(fired, "token")} and changed nothing`] : []),
    ...(forced ? [`forced ${counted(forced, "token")}`] : []),
    ...(answers > 1 ? [counted(answers, "answer")] : []),
    ...(generated ? [`whole tree: ${counted(generated, "token")} generated, ${shared.toLocaleString("en")} shared`] : []),
    ...(run.trace?.summary?.complete === false ? ["some records were lost"] : []),
  ];
}
