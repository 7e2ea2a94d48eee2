// The same prompt under several seeds, as small multiples: a row for each policy, a panel for each seed.

import { askJson } from "./api.js";
import { element, counted, percent } from "./elements.js";
import { chip, said } from "./frame.js";
import { bodyOf } from "./requests.js";
import { colours } from "./scale.js";

/** @typedef {import("./types.js").Settings} Settings */

const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8], AT_ONCE = 4;
const WIDTH = 150, HEIGHT = 44, MOST_NATS = 2.5;

/** @typedef {{place: HTMLElement, answer: string | null, tokens: number, id: string | null, failed: boolean}} Panel */

export class SeedRuns {
  /** @param {{title: string, settings: Settings}[]} rows @param {any[]} messages @param {(ids: string[]) => void} opened */
  constructor(rows, messages, opened) {
    this.abort = new AbortController();
    this.messages = messages;
    this.opened = opened;
    this.rows = rows.map(({ title, settings }) => ({
      title, settings, summary: element("p", { class: "hint", "aria-live": "polite" }),
      panels: SEEDS.map((seed) => /** @type {Panel} */ ({ place: element("div", { class: "seed", "data-seed": seed }, element("p", { class: "soft" }, `seed ${seed}`)), answer: null, tokens: 0, id: null, failed: false })),
    }));
    this.element = element("section", { class: "seeds", "aria-label": "Seeds 1 to 8" }, ...this.rows.map(({ title, summary, panels }) =>
      element("article", { class: "sheet", "aria-label": title }, element("h2", {}, title), summary, element("div", { class: "seed-row" }, ...panels.map(({ place }) => place)))));
  }

  stop() {
    this.abort.abort();
  }

  async run() {
    const waiting = SEEDS.flatMap((seed, at) => this.rows.map((row) => ({ row, seed, panel: row.panels[at] })));
    const worker = async () => {
      for (let next = waiting.shift(); next && !this.abort.signal.aborted; next = waiting.shift()) await this.#one(next.row, next.seed, next.panel, SEEDS.indexOf(next.seed));
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  }

  /** @param {SeedRuns["rows"][number]} row @param {number} seed @param {Panel} panel @param {number} at */
  async #one(row, seed, panel, at) {
    panel.place.setAttribute("aria-busy", "true");
    try {
      const body = { ...bodyOf({ ...row.settings, seed, answers: 1 }), stream: false, messages: this.messages };
      const response = await askJson("v1/chat/completions", { body, signal: this.abort.signal });
      const trace = await askJson(`v1/forks/${encodeURIComponent(response.id)}`);
      const [{ message, finish_reason: finish }] = response.choices, { forkpoint } = trace;
      Object.assign(panel, { answer: lastLine(message.content ?? ""), tokens: forkpoint.tokens, id: response.id });
      panel.place.replaceChildren(
        element("p", { class: "row" }, element("span", { class: "soft" }, `seed ${seed}`), chip(finish, finish === "stop" ? "" : "warn")),
        strip(trace, panel.place),
        element("p", { class: "seed-answer" }, panel.answer || "no answer"),
        element("p", { class: "hint" }, `${counted(forkpoint.tokens, "token")}, ${counted(forkpoint.forks, "fork")}`),
        element("button", { type: "button", class: "quiet", onclick: () => this.opened(this.rows.flatMap(({ panels }) => panels[at].id ?? [])) }, this.rows.length > 1 ? "Compare" : "Open"));
    } catch (error) {
      if (this.abort.signal.aborted) return;
      panel.failed = true;
      panel.place.replaceChildren(element("p", { class: "soft" }, `seed ${seed}`), element("p", { class: "invalid" }, said(error)));
    } finally {
      panel.place.removeAttribute("aria-busy");
      this.#summarise(row);
    }
  }

  /** @param {SeedRuns["rows"][number]} row */
  #summarise({ summary, panels }) {
    const ended = panels.filter(({ id }) => id !== null), counts = new Map();
    for (const { answer } of ended) if (answer) counts.set(answer, (counts.get(answer) ?? 0) + 1);
    const [most] = [...counts].sort(([, one], [, other]) => other - one);
    const mean = ended.reduce((sum, { tokens }) => sum + tokens, 0) / ended.length;
    summary.textContent = ended.length ? `${ended.length} of ${panels.length} ended: ${mean.toFixed(0)} tokens on average; ${counted(counts.size, "different answer")}${most ? `, most often ${most[0]} (${percent(most[1] / ended.length)})` : ""}` : "";
  }
}

/** The entropies of an answer, the highest of each pixel. @param {any} trace @param {Element} place */
function strip(trace, place) {
  const { entropies } = trace.choices[0], colour = colours(place), ratio = devicePixelRatio || 1;
  const canvas = /** @type {any} */ (element("canvas", { class: "seed-strip", role: "img", "aria-label": `Entropy over ${entropies.length} tokens`, width: WIDTH * ratio, height: HEIGHT * ratio }));
  const paint = canvas.getContext("2d");
  paint.scale(ratio, ratio);
  const step = Math.max(entropies.length, 20) / WIDTH;
  for (let x = 0; x * step < entropies.length; x++) {
    const nats = Math.max(...entropies.slice(Math.floor(x * step), Math.max(Math.floor(x * step) + 1, Math.floor((x + 1) * step))), 0);
    const height = Math.max(1, (HEIGHT * Math.min(nats, MOST_NATS)) / MOST_NATS);
    paint.fillStyle = colour.of(nats);
    paint.fillRect(x, HEIGHT - height, Math.max(1, 1 / step), height);
  }
  return canvas;
}

/** @param {string} text */
const lastLine = (text) => text.trim().split("\n").at(-1)?.trim() ?? "";
