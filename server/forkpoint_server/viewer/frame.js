// The frame that pages share: a heading, what the page is for, its actions, and a place for what went wrong.

import { element } from "./elements.js";

/** @typedef {Node | string | null | false | undefined} Child */

/**
 * @param {HTMLElement} place
 * @param {string} title
 * @param {Child} intro
 * @param {...Child} actions
 */
export function frame(place, title, intro, ...actions) {
  const problem = element("p", { class: "problem", role: "alert", hidden: true });
  const body = element("div", { class: "page-body" });
  place.append(
    element("header", { class: "page-head" }, element("div", {}, element("h1", {}, title), element("p", { class: "hint" }, intro)),
      element("div", { class: "page-actions" }, ...actions)),
    problem, body);
  return {
    body,
    /** Say what went wrong; `null` takes it back. @param {unknown} error */
    fail(error) {
      problem.hidden = error === null;
      problem.textContent = error === null ? "" : said(error);
    },
  };
}

/** An error in one line, with the field at fault. @param {any} error */
export function said(error) {
  const { message, field } = error;
  return field && !String(message).startsWith(field) ? `${field}: ${message}` : String(message);
}

/** @param {string} name @param {string} [kind] */
export const chip = (name, kind = "") => element("span", { class: `tag ${kind}` }, name);

/** What a page shows while there is nothing to show. @param {string} title @param {...Child} more */
export const empty = (title, ...more) => element("div", { class: "empty" }, element("h2", {}, title), ...more);
