// What the playground shows before there is a run: examples to start with, the legend, and the latest traces.

import { askJson } from "./api.js";
import { counted, element, percent } from "./elements.js";
import { preview } from "./legend.js";

const MOST_RECENT = 5, LONGEST_PROMPT = 70;

/** @typedef {{title: string, text: string, policy: string, beside: string | null, answers: number}} Example */

/** @type {Example[]} */
const EXAMPLES = [
  { title: "See where it decides", text: "One answer under “observe”, which changes nothing. Forks are underlined.", policy: "observe", beside: null, answers: 1 },
  { title: "Forbid reflection words", text: "The same prompt and seed with and without “nowait”. The first difference is marked.", policy: "none", beside: "nowait", answers: 1 },
  { title: "Branch at forks", text: "Four answers that share their beginnings, as a tree.", policy: "branch-at-forks", beside: null, answers: 4 },
];

/**
 * @param {string[]} policies  the names that the server has
 * @param {(example: Example) => void} run
 */
export function welcome(policies, run) {
  const known = new Set(["none", ...policies]);
  const examples = EXAMPLES.filter(({ policy, beside }) => known.has(policy) && (beside === null || known.has(beside)));
  const scale = element("div", {}), recent = element("section", { class: "recent", "aria-label": "Latest traces", hidden: true });
  void askJson("v1/calibration").then(({ fork_threshold: nats }) => scale.replaceChildren(preview(nats)), () => undefined);
  void askJson(`v1/forks?limit=${MOST_RECENT}`).then(({ data }) => {
    recent.hidden = !data.length;
    recent.replaceChildren(element("h2", {}, "Latest traces"), element("ul", {}, ...data.map(row)),
      element("a", { href: "#/traces" }, "All traces"));
  }, () => undefined);
  return element("div", { class: "welcome" },
    element("p", {}, "A reasoning model is sure of most of its tokens. At a few, the forks, it could continue in several ways. Here each token has the colour ",
      "of its entropy. Point at one to see what else could have stood there, and click an alternative to continue with it."),
    scale,
    element("div", { class: "examples" }, ...examples.map((example) => element("button", { type: "button", class: "example", onclick: () => run(example) },
      element("b", {}, example.title), element("span", {}, example.text)))),
    recent);
}

/** @param {any} listed  a row of `GET /v1/forks` */
function row(listed) {
  const prompt = listed.prompt.replace(/\s+/g, " ").trim();
  const facts = [listed.policy ?? "no policy", counted(listed.tokens, "token"), listed.forks_share !== null && `${percent(listed.forks_share)} forks`];
  return element("li", {},
    element("a", { href: `#trace=${encodeURIComponent(listed.id)}` }, prompt.length > LONGEST_PROMPT ? `${prompt.slice(0, LONGEST_PROMPT - 1)}…` : prompt || "(empty)"),
    element("span", { class: "soft" }, ` ${facts.filter(Boolean).join(" · ")}`));
}
