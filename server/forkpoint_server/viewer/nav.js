// The console's navigation: one page at a time, each with an address of its own after `#/`.

import { byId, element } from "./elements.js";

/**
 * @typedef {object} Page
 * @property {(query: URLSearchParams) => void | Promise<void>} show  called whenever the address names the page
 * @property {() => void} [hide]  called when another page is shown: stop what polls
 *
 * @typedef {{name: string, title: string, load: () => Promise<(place: HTMLElement) => Page | Promise<Page>>}} Entry
 */

const HOME = "playground";

/** The page and the query that an address names; `#trace=ID` is a trace, which the playground shows. @param {string} hash */
export function placeOf(hash) {
  const [path, query] = hash.startsWith("#/") ? hash.slice(2).split("?") : [HOME, hash.slice(1)];
  return { name: path || HOME, query: new URLSearchParams(query ?? "") };
}

/**
 * Fill the navigation and show the page that the address names, now and whenever it changes.
 * @param {Entry[]} entries
 * @param {(error: unknown) => void} failed
 * @returns {() => void} shows the current page again
 */
export function navigate(entries, failed) {
  const links = new Map(entries.map(({ name, title }) => [name, element("a", { href: `#/${name}` }, title)]));
  byId("pages").replaceChildren(...[...links.values()].map((link) => element("li", {}, link)));
  /** @type {Map<string, Promise<Page>>} */
  const pages = new Map();
  /** @type {string | null} */
  let current = null;

  const show = async () => {
    const { name, query } = placeOf(location.hash);
    const entry = entries.find((one) => one.name === name) ?? entries.find((one) => one.name === HOME);
    if (!entry) return;
    for (const one of entries) {
      byId(`page-${one.name}`).hidden = one !== entry;
      if (one === entry) links.get(one.name)?.setAttribute("aria-current", "page");
      else links.get(one.name)?.removeAttribute("aria-current");
    }
    document.title = `${entry.title} · Forkpoint`;
    if (current !== null && current !== entry.name) (await pages.get(current))?.hide?.();
    current = entry.name;
    if (!pages.has(entry.name)) pages.set(entry.name, entry.load().then((mount) => mount(byId(`page-${entry.name}`))));
    try {
      const page = await pages.get(entry.name);
      byId("content").setAttribute("aria-busy", "false");
      await page?.show(query);
    } catch (error) {
      failed(error);
    }
  };
  addEventListener("hashchange", show);
  document.querySelector(".skip")?.addEventListener("click", (event) => {
    event.preventDefault(); // the address names the page
    byId("content").focus();
  });
  document.addEventListener("visibilitychange", async () => {
    const page = current === null ? null : await pages.get(current);
    if (document.hidden) page?.hide?.();
    else if (page?.hide) await show();
  });
  show();
  return show;
}
