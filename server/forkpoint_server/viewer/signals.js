// The signals of hidden states: what they are called, what they mean, and their values as text; and the actions that change the states.

/** @typedef {import("./types.js").Bounds} Bounds */
/** @typedef {{name: string, unit: string, meaning: string, signed: boolean}} Signal  of a `signed` one, 0 is always shown */

const READOUT = "readout.";
const UNIT = "directions";
/** @type {Map<string, Signal>} */
const RANKS = new Map([
  ["effective_rank", { name: "effective rank", unit: UNIT, meaning: "how many directions the latest states span", signed: false }],
  ["effective_rank_velocity", { name: "rank velocity", unit: UNIT, meaning: "the effective rank less the mean of all earlier ones, in directions", signed: true }],
  ["effective_rank_acceleration", { name: "rank acceleration", unit: UNIT, meaning: "the velocity less the one before, in directions", signed: true }],
]);

/** @param {string} key  as a trace names it @returns {Signal} */
export function signalOf(key) {
  const rank = RANKS.get(key);
  if (rank) return rank;
  const name = key.startsWith(READOUT) ? `readout ${key.slice(READOUT.length)}` : key;
  return { name, unit: "", meaning: "what the readout computes from the state at a token", signed: false };
}

/** What actions on hidden states do where their rule fires. Their effect on the logits there is 0, so it is not an intervention point. */
export const STATE_ACTIONS = new Map([
  ["steer", { did: "added a vector to the hidden states", would: "would have added a vector to the hidden states" }],
  ["recycle", { did: "ran a layer again", would: "would have run a layer again" }],
]);

/** @param {number} value */
export const inDigits = (value) => value.toFixed(Math.abs(value) < 1 && value !== 0 ? 4 : 2).replace("-", "−");

/** A bound as its rule has it. @param {number} value */
export const asWritten = (value) => String(value).replace("-", "−");

/** A value with its unit. @param {string} key @param {number | null | undefined} value */
export function measured(key, value) {
  if (value === null || value === undefined) return "not known";
  const { unit } = signalOf(key);
  return unit ? `${inDigits(value)} ${unit}` : inDigits(value);
}

/** What the rules compare a signal with. @param {Bounds | undefined} bounds @returns {{value: number, side: "above" | "below"}[]} */
export const limitsOf = (bounds) =>
  /** @type {const} */ (["above", "below"]).flatMap((side) => (bounds?.[side] ?? []).map((value) => ({ value, side })));
