// What the colours and signs mean, in nats; and which connectors came, to find them by.

import { element } from "./elements.js";
import { family, sign } from "./families.js";
import { MOST_NATS, share } from "./scale.js";

/** @typedef {import("./types.js").Token} Token */

export class Legend {
  /** @param {HTMLElement} place @param {(family: string | null) => void} sought */
  constructor(place, sought) {
    this.place = place;
    this.sought = sought;
    /** @type {string | null} */
    this.pressed = null;
    this.families = element("div", { class: "families", role: "group", "aria-label": "Connectors" });
    this.state = "";
    this.counts = "";
  }

  /** @param {Token[]} tokens  of all runs @param {number} threshold @param {boolean} tree  whether a tree is shown */
  show(tokens, threshold, tree) {
    const acted = tokens.some((token) => token.change), given = tokens.some((token) => token.given);
    const state = [threshold, acted, given, tree].join();
    if (state !== this.state) {
      this.state = state;
      this.place.replaceChildren(scale(threshold), ...signs({ acted, given, tree }), this.families);
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

/** @param {number} threshold */
function scale(threshold) {
  const ticks = [0, 0.5, 1, 1.5, 2, MOST_NATS];
  const bar = element("div", { class: "ramp-bar" });
  const limit = element("i", { class: "ramp-limit", title: `A fork: above ${threshold} nats` });
  limit.style.left = `${100 * share(threshold)}%`;
  bar.append(limit);
  const labels = element("div", { class: "ramp-ticks" }, ...ticks.map((tick) => {
    const label = element("span", {}, tick === MOST_NATS ? `${tick}+` : String(tick));
    label.style.left = `${100 * share(tick)}%`;
    return label;
  }));
  return element("div", { class: "ramp", role: "img", "aria-label": `Colour by entropy, 0 to ${MOST_NATS} nats and more; a fork is above ${threshold}` },
    bar, labels, element("span", { class: "ramp-unit" }, "nats"));
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
