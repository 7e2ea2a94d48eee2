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

const MIN_RATIO = 0.8; // as in forkpoint_clients.evaluate.doses

/** The doses of a policy and its placebo, where the two runs are those. @param {Run} one @param {Run} other @returns {string} */
export function dosesText(one, other) {
  if (one.running || other.running) return "";
  const named = [one, other].map((run) => ({ policy: run.trace?.policy ?? "", dose: doseOf(run) }));
  const placebo = named.find(({ policy }) => policy.endsWith(".placebo"));
  const own = placebo && named.find(({ policy }) => `${policy}.placebo` === placebo.policy);
  if (!placebo || !own || placebo.dose === null || own.dose === null) return "";
  const doses = `Doses in changed tokens per token: ${own.policy} ${own.dose.toPrecision(2)}, ${placebo.policy} ${placebo.dose.toPrecision(2)}`;
  if (own.dose === 0) return `${doses}.`;
  const ratio = placebo.dose / own.dose;
  return `${doses}, a ratio of ${ratio.toFixed(2)}.${ratio < MIN_RATIO ? ` Below ${MIN_RATIO} nothing can be concluded of the policy beyond its placebo.` : ""}`;
}

/** The expected number of changed tokens, per token; null before the answer has ended. @param {Run} run @returns {number | null} */
function doseOf(run) {
  const summary = /** @type {any} */ (run.trace?.summary);
  if (!summary?.tokens) return null;
  const effects = Object.values(summary.interventions).map((/** @type {any} */ action) => action.effect);
  return effects.reduce((sum, effect) => sum + effect, 0) / summary.tokens;
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
