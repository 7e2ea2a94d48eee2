// What a model writes is hostile: control characters, overrides of the direction, nothing at all. Each is shown as a sign.

/** Invisible, or changing how the rest is shown: soft hyphen, zero widths, marks and overrides of direction, tags, selectors. */
const HIDDEN =
  /[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\uffff]|\p{Cs}|\p{Co}|[\u{e0000}-\u{e0fff}]/u;

/**
 * A text in pieces: `sign` is shown in place of `text`; a line's end is shown, and ends the line.
 * @param {string} text
 * @returns {{text: string, sign: string | null}[]}
 */
export function pieces(text) {
  /** @type {{text: string, sign: string | null}[]} */
  const found = [];
  for (const character of text) {
    const sign = signOf(character);
    const last = found.at(-1);
    if (sign === null && last && last.sign === null) last.text += character;
    else found.push({ text: character, sign });
  }
  return found;
}

/** The spaces before a word. They stand outside the token's element, as its colour would hang over a line's end. */
export const LEADING_SPACES = /^ +(?=\S)/;

/**
 * On one line, for labels.
 * @param {string} text
 */
export function named(text) {
  return text === "" ? "∅" : pieces(text).map((piece) => piece.sign ?? piece.text).join("").replaceAll(" ", "␣");
}

/** @param {string} character  @returns {string | null} */
function signOf(character) {
  const code = /** @type {number} */ (character.codePointAt(0));
  if (character === "\n") return "⏎";
  if (character === "\t") return "⇥";
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "␡";
  if (code < 0xa0 && code > 0x7f) return `⟨${hex(code)}⟩`;
  return HIDDEN.test(character) ? `⟨${hex(code)}⟩` : null;
}

/** @param {number} code */
const hex = (code) => code.toString(16).toUpperCase().padStart(4, "0");

/**
 * The pieces as elements. Nothing of a text is ever read as HTML.
 * @param {string} text
 * @returns {(Node | string)[]}
 */
export function drawn(text) {
  return pieces(text).flatMap((piece) => {
    if (piece.sign === null) return [piece.text];
    return piece.text === "\n" || piece.text === "\t" ? [signed(piece.sign), piece.text] : [signed(piece.sign)];
  });
}

/**
 * The same for a token that stands alone: what it starts and ends with is shown, too.
 * @param {string} text
 * @returns {(Node | string)[]}
 */
export function drawnAlone(text) {
  if (text === "") return [signed("∅")];
  const [, before, middle, after] = /** @type {RegExpMatchArray} */ (text.match(/^( *)(.*?)( *)$/s));
  const parts = pieces(middle).map((piece) => (piece.sign === null ? piece.text : signed(piece.sign)));
  return [...(before ? [signed("␣".repeat(before.length))] : []), ...parts, ...(after ? [signed("␣".repeat(after.length))] : [])];
}

/** @param {string} sign */
function signed(sign) {
  const shown = document.createElement("i");
  shown.className = "sign";
  shown.textContent = sign;
  return shown;
}
