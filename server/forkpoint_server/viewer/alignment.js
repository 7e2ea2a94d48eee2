// Two answers beside each other after they differ: which of their sentences both have, in the same order.

/** @typedef {import("./types.js").Token} Token */
/** @typedef {{from: number, to: number, text: string}} Sentence  its first token, the one after its last */

/** Compared are at most so many pairs of sentences: two answers of 4,000 each. */
const MOST_PAIRS = 16e6;

/**
 * @typedef {object} Alignment
 * @property {[Uint8Array, Uint8Array]} common  of each answer's tokens, 1 where the other has the same sentence
 * @property {[number, number][]} pairs  the first tokens of the sentences that both have, in order
 */

/** The longest common subsequence of the sentences; null where there are too many. @param {Token[]} left @param {Token[]} right @returns {Alignment | null} */
export function align(left, right) {
  const one = sentences(left), other = sentences(right);
  if (one.length * other.length > MOST_PAIRS) return null;
  const width = other.length + 1, lengths = new Uint16Array((one.length + 1) * width);
  for (let i = one.length - 1; i >= 0; i--)
    for (let j = other.length - 1; j >= 0; j--)
      lengths[i * width + j] = one[i].text === other[j].text ? lengths[(i + 1) * width + j + 1] + 1 : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
  /** @type {Alignment} */
  const found = { common: [new Uint8Array(left.length), new Uint8Array(right.length)], pairs: [] };
  for (let i = 0, j = 0; i < one.length && j < other.length; ) {
    if (one[i].text === other[j].text) {
      found.common[0].fill(1, one[i].from, one[i].to);
      found.common[1].fill(1, other[j].from, other[j].to);
      found.pairs.push([one[i++].from, other[j++].from]);
    } else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i++;
    else j++;
  }
  return found;
}

/** For each token of an answer, the other's that stands beside it: as far behind the last sentence that both have. @param {Alignment} alignment @param {0 | 1} side @returns {Int32Array} */
export function beside({ common, pairs }, side) {
  const places = new Int32Array(common[side].length);
  let last = /** @type {[number, number]} */ ([0, 0]);
  for (let place = 0, next = 0; place < places.length; place++) {
    while (next < pairs.length && pairs[next][side] <= place) last = pairs[next++];
    places[place] = last[1 - side] + place - last[side];
  }
  return places;
}

/** @param {Token[]} tokens @returns {Sentence[]} */
function sentences(tokens) {
  /** @type {Sentence[]} */
  const found = [];
  for (let from = 0, place = 0; place < tokens.length; place++) {
    const { text } = tokens[place];
    if (place < tokens.length - 1 && !/[.!?,;:]\s*$|\n/.test(text)) continue;
    found.push({ from, to: place + 1, text: tokens.slice(from, place + 1).map((token) => token.text).join("").trim() });
    from = place + 1;
  }
  return found;
}
