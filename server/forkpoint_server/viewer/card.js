// What is known of one token, beside it: its entropy, its alternatives, what the policy did. A click on an alternative goes on there.

import { element, inNats, percent } from "./elements.js";
import { family, sign } from "./families.js";
import { said } from "./frame.js";
import { measured, signalOf, STATE_ACTIONS } from "./signals.js";
import { drawnToken } from "./text.js";
import { drawnAlone, named } from "./visible.js";

/** @typedef {import("./types.js").Token} Token */
/** @typedef {import("./types.js").Point} Point */
/** @typedef {import("./types.js").Alternative} Alternative */

const LEAVE_MILLISECONDS = 220;
const EDGE = 8; // pixels that stay free beside it
const TOUCHED = matchMedia("(hover: none)"); // where the card is at the screen's foot, and would cover what was touched

export class Card {
  constructor() {
    this.element = element("div", {
      class: "card", id: "card", role: "dialog", "aria-label": "Alternatives", hidden: true,
      onpointerenter: () => this.#stay(),
      onpointerleave: () => this.leave(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
    });
    document.body.append(this.element);
    document.addEventListener("pointerdown", (event) => {
      const at = /** @type {Element} */ (event.target);
      if (!this.element.contains(at) && !at.closest?.(".token")) this.close();
    });
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
    addEventListener("resize", () => this.close());
    /** @type {HTMLElement | null} */
    this.origin = null;
    /** @type {number | undefined} */
    this.leaving = undefined;
  }

  /**
   * @param {Token} token
   * @param {number} position
   * @param {HTMLElement} span  beside which it is shown
   * @param {HTMLElement} origin  has the keys again afterwards
   * @param {((alternative: Alternative) => void) | null} go  null where one cannot continue from here
   * @param {(() => Promise<Alternative[]>) | null} look  asks what else could stand here; null where one cannot
   * @param {boolean} shadow  whether the policy's rules only say what they would do
   */
  open(token, position, span, origin, go, look, shadow) {
    this.#stay();
    this.origin = origin;
    const draw = () => this.element.replaceChildren(...inside(token, position, shadow, (alternative) => {
      this.close();
      go?.(alternative);
    }, go !== null, look && (async () => {
      const { element: shown } = this, held = shown.contains(document.activeElement);
      shown.setAttribute("aria-busy", "true");
      try {
        token.likely = await look();
        draw();
        if (held) this.enter();
      } catch (error) {
        shown.append(element("p", { class: "invalid" }, said(error)));
      } finally {
        shown.removeAttribute("aria-busy");
      }
    })));
    draw();
    this.element.hidden = false;
    this.#place(span);
  }

  /** Into the alternatives, by the keys. */
  enter() {
    this.#choices()[0]?.focus();
  }

  /** The pointer has left; back soon, or closed. */
  leave() {
    this.#stay();
    this.leaving = window.setTimeout(() => !this.element.contains(document.activeElement) && this.close(), LEAVE_MILLISECONDS);
  }

  close() {
    this.#stay();
    if (this.element.hidden) return;
    const within = this.element.contains(document.activeElement);
    this.element.hidden = true;
    if (within) this.origin?.focus({ preventScroll: true });
  }

  #stay() {
    clearTimeout(this.leaving);
  }

  /** @returns {HTMLElement[]} */
  #choices() {
    return [...this.element.querySelectorAll("button:not(:disabled)")].map((one) => /** @type {HTMLElement} */ (one));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const choices = this.#choices();
    const at = choices.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    choices[(at + step + choices.length) % choices.length]?.focus();
  }

  /** Below the token, or above it where there is more room. @param {HTMLElement} span */
  #place(span) {
    const beside = span.getClientRects()[0] ?? span.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const left = Math.max(EDGE, Math.min(beside.left, innerWidth - width - EDGE));
    const below = beside.bottom + 6, above = beside.top - height - 6;
    const top = below + height + EDGE <= innerHeight || above < EDGE ? below : above;
    this.element.style.left = `${left + scrollX}px`;
    this.element.style.top = `${top + scrollY}px`;
    const covered = beside.bottom + EDGE - this.element.getBoundingClientRect().top;
    if (covered > 0 && TOUCHED.matches && getComputedStyle(this.element).position === "fixed") scrollBy(0, covered);
  }
}

/** @param {Token} token @param {number} position @param {boolean} shadow @param {(alternative: Alternative) => void} go @param {boolean} possible @param {(() => Promise<void>) | null} look */
function inside(token, position, shadow, go, possible, look) {
  const point = token.change ?? token.fork, kind = family(token.id);
  const alternatives = point?.alternatives.length ? point.alternatives : token.likely ?? [];
  const facts = [
    token.nats === null ? "no record" : inNats(token.nats),
    token.fork && "fork",
    kind && `${sign(kind)} ${kind}`,
    !token.reasoning && token.nats !== null && "answer",
    token.given && "forced",
  ];
  return [
    element("div", { class: "card-head" },
      element("span", { class: "card-token" }, ...drawnToken(token, true)),
      element("span", { class: "card-where" }, `token ${position}, id ${token.id}`)),
    element("p", { class: "card-facts" }, facts.filter(Boolean).join(" · ")),
    token.change && intervened(token, token.change),
    ...[...new Set(token.actions)].map((action) => stateAction(action, shadow)),
    token.hidden && signals(token.hidden),
    probabilities(token, alternatives),
    alternatives.length > 0 && element("div", { class: "alternatives", role: "group", "aria-label": possible ? "Continue from here with" : "Alternatives" },
      ...alternatives.map((one) => alternative(one, token, go, possible))),
    !alternatives.length && (look
      ? element("button", { type: "button", onclick: look }, "Show what else could stand here")
      : element("p", { class: "hint" }, "Alternatives are recorded at forks, and where a policy had an effect.")),
    token.fork?.verified && verified(token.fork.verified),
    alternatives.length > 0 && possible && element("p", { class: "hint" }, "Click to continue from here."),
  ].filter((one) => one instanceof Node);
}

/** This token's probability before and after what the policy and the sampling settings did. @param {Token} token @param {Alternative[]} alternatives */
function probabilities(token, alternatives) {
  const before = token.before ?? alternatives.find((one) => one.token_id === token.id)?.probability ?? null;
  if (token.sampled === null || before === null) return null;
  const bar = (/** @type {string} */ name, /** @type {number} */ share) => {
    const filled = element("i", { class: "bar" });
    filled.style.setProperty("--share", String(share));
    return element("span", { class: "before-after" }, filled, element("span", {}, name), element("b", {}, percent(share)));
  };
  return element("div", { class: "probabilities" }, bar("before the policy", before), bar(token.given ? "written" : "as it was sampled", token.sampled));
}

/** @param {string} action @param {boolean} shadow */
function stateAction(action, shadow) {
  const said = STATE_ACTIONS.get(action);
  return said && element("p", { class: "card-act" }, `${action} ${shadow ? said.would : said.did}`);
}

/** The signals of hidden states here. @param {Record<string, number | null>} hidden */
function signals(hidden) {
  return element("dl", { class: "card-signals" }, ...Object.entries(hidden).map(([key, value]) =>
    element("div", {}, element("dt", {}, signalOf(key).name), element("dd", {}, measured(key, value)))));
}

/** What the policy did here. @param {Token} token @param {Point} change */
function intervened(token, change) {
  const likeliest = change.alternatives[0];
  const bar = element("i", { class: "bar" });
  bar.style.setProperty("--share", String(change.effect));
  return element("p", { class: "card-act" }, bar,
    `${change.action ?? "policy"}: ${percent(change.effect)} of the draws changed`,
    likeliest && element("span", {}, " · likeliest without it: ", element("b", {}, ...drawnAlone(likeliest.token)),
      ` ${percent(likeliest.probability)}${likeliest.token_id === token.id ? ", sampled anyway" : ""}`));
}

/** @param {Alternative} one @param {Token} token @param {(alternative: Alternative) => void} go @param {boolean} possible */
function alternative(one, token, go, possible) {
  const drawnHere = one.token_id === token.id;
  const bar = element("span", { class: "bar" });
  bar.style.setProperty("--share", String(one.probability));
  return element("button", {
    type: "button", class: `alternative${drawnHere ? " here" : ""}${one.possible ? "" : " taken"}`, disabled: drawnHere || !possible,
    "data-id": one.token_id, onclick: () => go(one),
    "aria-label": `${named(one.token)}, ${percent(one.probability)}${drawnHere ? ", stands here" : ""}${one.possible ? "" : ", removed by the policy"}`,
  },
  bar, element("span", { class: "alternative-token" }, ...drawnAlone(one.token)),
  element("span", { class: "alternative-note" }, drawnHere ? "here" : one.possible ? "" : "removed"),
  element("span", { class: "alternative-share" }, percent(one.probability)));
}

/** @param {NonNullable<Point["verified"]>} verdict */
function verified(verdict) {
  return element("div", { class: "verified" },
    element("p", {}, `${verdict.verified ? "Verified" : "Not verified"} by resampling, q = ${verdict.q}`),
    ...verdict.outcomes.map((way) => {
      const answers = Object.entries(way.answers).slice(0, 3).map(([answer, count]) => `${named(answer)} ×${count}`);
      return element("p", { class: "hint" }, element("b", {}, ...drawnAlone(way.token)), ` → ${answers.join(", ") || "no answer"}`);
    }));
}
