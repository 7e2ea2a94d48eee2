// Two runs beside each other: where the answers differ, and what each sampled there.

import { element, counted, percent } from "./elements.js";
import { drawnToken } from "./text.js";

/** @typedef {import("./run.js").Run} Run */
/** @typedef {import("./types.js").Token} Token */

/** The first position at which two answers differ, as far as both are known; null where they do not. @param {Run} one @param {Run} other */
export function difference(one, other) {
  const [left, right] = [one.tokens, other.tokens];
  const shared = Math.min(left.length, right.length);
  for (let place = 0; place < shared; place++) if (left[place].id !== right[place].id) return place;
  const ended = !one.running && !other.running && left.length !== right.length;
  return ended && shared > 0 ? shared : null;
}

/** In words. @param {Run} one @param {Run} other @param {() => void} go @returns {(Node | string)[]} */
export function differenceText(one, other, go) {
  const at = difference(one, other);
  if (at === null) {
    const same = Math.min(one.tokens.length, other.tokens.length);
    if (one.running || other.running) return same ? [`Identical so far: ${counted(same, "token")}.`] : [];
    return same ? [`Identical to the end: ${counted(same, "token")}.${unchanged(one, other)}`] : [];
  }
  const button = element("button", { type: "button", class: "link", onclick: go }, `at token ${at}`);
  return [
    at === 0 ? "They differ from the beginning, " : `Identical for ${counted(at, "token")}; they differ `, button, ": ",
    ...side(one, other, at), ", ", ...side(other, one, at), ".",
  ];
}

/** Which policies fired and changed nothing. @param {...Run} runs */
function unchanged(...runs) {
  const idle = runs.filter((run) => run.trace?.policy && run.tokens.some((token) => token.actions.length));
  return idle.map((run) => ` ${run.trace?.policy} fired at ${counted(run.tokens.filter((token) => token.actions.length).length, "token")} and changed no choice.`).join("");
}

/** Up to here both have the same text, so the alternatives of one also hold for the other. */
/** @param {Run} run @param {Run} other @param {number} at @returns {(Node | string)[]} */
function side(run, other, at) {
  const token = run.tokens[at];
  if (!token) return [`${run.name} ended`];
  const offered = [token, other.tokens[at]].flatMap((one) => (one?.change ?? one?.fork)?.alternatives ?? []);
  const share = offered.find((one) => one.token_id === token.id)?.probability;
  return [`${run.name} sampled `, element("code", {}, ...drawnToken(token, true)), ...(share === undefined ? [] : [` (${percent(share)} before any policy)`])];
}
