// What the colours and signs mean, in nats; and which connectors came, to find them by.

import { element } from "./elements.js";
import { family, sign } from "./families.js";
import { fillFrom, fittedShare, fullNats, MOST_NATS } from "./scale.js";

/** @typedef {import("./types.js").Token} Token */

const FIT_KEY = "forkpoint-fit";
/** A fitted scale is full from the 99th percentile on, in steps. */
const FITTED_SHARE = 0.99, STEP_NATS = 0.25, LEAST_NATS = 0.5;
const ALL_SIGNS = { acted: true, given: true, tree: false };

export class Legend {
  /** @param {HTMLElement} place @param {{sought: (family: string | null) => void, rescaled: () => void}} handlers */
  constructor(place, { sought, rescaled }) {
    this.place = place;
    this.sought = sought;
    /** @type {string | null} */
    this.pressed = null;
    this.families = element("div", { class: "families", role: "group", "aria-label": "Connectors" });
    this.fitted = sessionStorage.getItem(FIT_KEY) === "true";
    this.fit = element("button", {
      type: "button", class: "quiet ramp-fit", "aria-pressed": String(this.fitted),
      title: `Full colour from the 99th percentile of these runs on; otherwise from ${MOST_NATS} nats on, so that pages compare`,
      onclick: () => {
        this.fitted = !this.fitted;
        this.fit.setAttribute("aria-pressed", String(this.fitted));
        sessionStorage.setItem(FIT_KEY, String(this.fitted));
        rescaled();
      },
    }, "Fit");
    this.state = "";
    this.counts = "";
  }

  /** @param {Token[]} tokens  of all runs @param {number} threshold @param {boolean} tree  whether a tree is shown */
  show(tokens, threshold, tree) {
    fillFrom(this.fitted ? highest(tokens) : MOST_NATS);
    const acted = tokens.some((token) => token.change), given = tokens.some((token) => token.given);
    const state = [threshold, acted, given, tree, fullNats()].join();
    if (state !== this.state) {
      this.state = state;
      const held = document.activeElement === this.fit;
      this.place.replaceChildren(scale(threshold, this.fit), ...signs({ acted, given, tree }), this.families);
      if (held) this.fit.focus();
    }
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const token of tokens) {
      const name = family(token.id);
      if (name) counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    const sorted = [...counts].sort();
    if (JSON.stringify(sorted) === this.counts) return;
    this.counts = JSON.stringify(sorted);
    this.families.replaceChildren(...sorted.map(([name, count]) => this.#chip(name, count)));
  }

  /** @param {string} name @param {number} count */
  #chip(name, count) {
    return element("button", {
      type: "button", class: "chip", "aria-pressed": String(this.pressed === name), "data-family": name,
      onclick: (/** @type {Event} */ event) => {
        this.pressed = this.pressed === name ? null : name;
        for (const chip of this.families.children) chip.setAttribute("aria-pressed", String(chip === event.currentTarget && this.pressed === name));
        this.sought(this.pressed);
      },
    }, element("span", { class: "chip-sign", "aria-hidden": "true" }, sign(name)), ` ${name} `, element("b", {}, String(count)));
  }
}

/** The legend before there is a run. @param {number} threshold */
export const preview = (threshold) => element("div", { class: "legend" }, scale(threshold), ...signs(ALL_SIGNS));

/** The 99th percentile of the entropies, up to the next step; what is above is rare. @param {Token[]} tokens */
function highest(tokens) {
  const counts = new Uint32Array(MOST_NATS / STEP_NATS + 1);
  let known = 0;
  for (const { nats } of tokens) {
    if (nats === null) continue;
    known++;
    counts[Math.min(Math.ceil(nats / STEP_NATS), counts.length - 1)]++;
  }
  let step = 0;
  for (let below = counts[0]; below < FITTED_SHARE * known && step < counts.length - 1; ) below += counts[++step];
  return known ? Math.max(LEAST_NATS, step * STEP_NATS) : MOST_NATS;
}

/** @param {number} threshold @param {...Node} more */
function scale(threshold, ...more) {
  const full = fullNats(), between = full > 1 ? 0.5 : 0.25;
  const ticks = [...Array.from({ length: Math.ceil(full / between) }, (_, number) => number * between), full];
  const bar = element("div", { class: "ramp-bar" });
  const limit = element("i", { class: "ramp-limit", title: `A fork: above ${threshold} nats` });
  limit.style.left = `${100 * fittedShare(threshold)}%`;
  bar.append(limit);
  const labels = element("div", { class: "ramp-ticks" }, ...ticks.map((tick) => {
    const label = element("span", {}, tick === full ? `${tick}+` : String(tick));
    label.style.left = `${100 * fittedShare(tick)}%`;
    return label;
  }));
  return element("div", { class: "ramp" },
    element("div", { role: "img", "aria-label": `Colour by entropy, 0 to ${full} nats and more; a fork is above ${threshold}` }, bar, labels),
    element("span", { class: "ramp-unit" }, "nats"), ...more);
}

/** @param {{acted: boolean, given: boolean, tree: boolean}} which  of the signs can be seen */
function signs({ acted, given, tree }) {
  /** @param {string} kind @param {string} sample @param {string} text */
  const one = (kind, sample, text) => element("span", { class: "signs" }, element("span", { class: `token ${kind}` }, sample), ` ${text}`);
  return [
    one("fork", "fork", "above the threshold"),
    ...(acted ? [one("acted", "acted", "the policy had an effect")] : []),
    ...(given ? [one("given", "forced", "inserted, not sampled")] : []),
    ...(tree ? [element("span", { class: "signs" }, "● stopped ▮ cut off × aborted ★ chosen ◇ probe")] : []),
  ];
}
