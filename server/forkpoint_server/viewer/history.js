// The runs of this tab, to come back to: their forms and their traces, as long as the server stores these.

import { element } from "./elements.js";

/** @typedef {{title: string, prompt: string, ids: string[], form: Record<string, string>}} Entry */

const KEY = "forkpoint-runs", MOST = 12, LONGEST = 40;

export class History {
  /** @param {HTMLElement} place @param {(entry: Entry) => void} opened */
  constructor(place, opened) {
    this.place = place;
    this.opened = opened;
    /** @type {Entry[]} */
    this.entries = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    this.#show();
  }

  /** @param {Entry} entry */
  add(entry) {
    this.entries = [entry, ...this.entries.filter((one) => one.ids.join() !== entry.ids.join())].slice(0, MOST);
    sessionStorage.setItem(KEY, JSON.stringify(this.entries));
    this.#show();
  }

  #show() {
    this.place.hidden = !this.entries.length;
    this.place.replaceChildren(element("span", { class: "soft" }, "Earlier:"), ...this.entries.map((entry) => element("button", {
      type: "button", class: "chip", title: entry.prompt, onclick: () => this.opened(entry),
    }, `${entry.title} · ${entry.prompt.length > LONGEST ? `${entry.prompt.slice(0, LONGEST - 1)}…` : entry.prompt}`)));
  }
}
