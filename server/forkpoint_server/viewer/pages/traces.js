// Traces: the recent requests, live; one opens, two compare.

import { askJson } from "../api.js";
import { counted, element, percent } from "../elements.js";
import { button, choice, field, text } from "../form.js";
import { chip, empty, frame } from "../frame.js";
import { polling } from "../poll.js";
import { DataTable } from "../table.js";

const EVERY_MILLISECONDS = 2000, PAGE_ROWS = 50, MOST_BESIDE = 2, LONGEST_PROMPT = 90;

/** @typedef {any} Row  as `GET /v1/forks` lists it */

/** @param {HTMLElement} place @returns {import("../nav.js").Page} */
export function mount(place) {
  /** @type {Row[]} */
  let rows = [];
  let more = false;
  /** @type {string[]} */
  let picked = [];
  const compare = button("Compare", () => open(picked), { class: "primary", disabled: true });
  const page = frame(place, "Traces", "Recent requests with a policy or “forks”: true, and those that run. Select two to compare them.", compare);

  const filters = {
    text: text("", { type: "search", placeholder: "in the prompt" }),
    policy: choice([["", "any"], ["none", "no policy"]]),
    experiment: text("", { placeholder: "any" }),
    arm: text("", { placeholder: "any" }),
    finish_reason: choice([["", "any"], ["stop", "stop"], ["length", "length"], ["abort", "abort"], ["error", "error"]]),
    running: choice([["", "any"], ["true", "running"], ["false", "ended"]]),
  };
  const form = element("form", { class: "controls", "aria-label": "Filters", onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
    field("Prompt", filters.text), field("Policy", filters.policy), field("Experiment", filters.experiment, { kind: "narrow" }),
    field("Arm", filters.arm, { kind: "narrow" }), field("Finish", filters.finish_reason, { kind: "narrow" }), field("State", filters.running, { kind: "narrow" }));
  form.addEventListener("input", () => {
    rows = [];
    location.replace(`#/traces?${query()}`);
  });

  const table = new DataTable("Recent requests", [
    { title: "", cell: (row) => element("input", { type: "checkbox", checked: picked.includes(row.id), "aria-label": `Select ${row.id}`, onchange: () => pick(row.id) }) },
    { title: "Time", cell: (row) => element("time", { title: new Date(1000 * row.created).toString() }, clock(row.created)) },
    { title: "Policy", cell: (row) => (row.policy ? [row.policy, row.shadow && " (shadow)"] : element("span", { class: "soft" }, "none")) },
    { title: "Arm", cell: (row) => (row.arm ? `${row.experiment}/${row.arm}` : "") },
    { title: "Prompt", kind: "wide", cell: (row) => element("a", { href: `#trace=${encodeURIComponent(row.id)}` }, start(row.prompt)) },
    { title: "Tokens", kind: "number", cell: (row) => [row.tokens.toLocaleString("en"), row.answers > 1 && ` in ${row.answers}`] },
    { title: "Forks", kind: "number", cell: (row) => (row.forks_share === null ? "" : percent(row.forks_share)) },
    { title: "Effect", kind: "number", cell: (row) => (row.effect ? row.effect.toFixed(1) : "") },
    { title: "Finish", cell: (row) => finish(row) },
  ], { key: (row) => row.id, opened: (row) => open([row.id]), described: (row) => `${row.policy ?? "no policy"}: ${start(row.prompt)}` });
  const count = element("p", { class: "hint", "aria-live": "polite" });
  const next = button("Show more", () => load(rows.at(-1)?.id).catch(page.fail), { hidden: true });
  const nothing = element("div", {});
  page.body.append(form, table.element, nothing, element("div", { class: "row" }, count, next));

  function query() {
    return new URLSearchParams(Object.entries(filters).filter(([, input]) => input.value).map(([name, input]) => [name, input.value]));
  }

  /** The first page again, or the one after a row. @param {string} [after] */
  async function load(after) {
    const asked = query();
    const found = await askJson(`v1/forks?${new URLSearchParams([...asked, ["limit", String(PAGE_ROWS)], ...(after ? [["after", after]] : [])])}`);
    if (String(asked) !== String(query())) return;
    const fresh = new Set(found.data.map((/** @type {Row} */ row) => row.id));
    if (after) {
      rows = [...rows.filter((row) => !fresh.has(row.id)), ...found.data];
      more = found.has_more;
    } else {
      const seen = rows.length > PAGE_ROWS;
      rows = [...found.data, ...(found.has_more ? rows.filter((row) => !fresh.has(row.id) && !row.running) : [])];
      if (!seen) more = found.has_more;
    }
    page.fail(null);
    draw();
  }

  function draw() {
    table.show(rows);
    table.element.hidden = !rows.length;
    count.textContent = rows.length ? `${counted(rows.length, "request")}${more ? ", and more" : ""}` : "";
    next.hidden = !more;
    compare.disabled = picked.length !== MOST_BESIDE;
    compare.textContent = picked.length ? `Compare (${picked.length} of ${MOST_BESIDE})` : "Compare";
    nothing.replaceChildren(...(rows.length ? [] : [query().size ? empty("No request fits these filters") : none()]));
  }

  /** @param {string} id */
  function pick(id) {
    picked = picked.includes(id) ? picked.filter((one) => one !== id) : [...picked, id].slice(-MOST_BESIDE);
    for (const [name, row] of table.rows) /** @type {any} */ (row.querySelector("input")).checked = picked.includes(name);
    draw();
  }

  const poll = polling(() => load(), EVERY_MILLISECONDS, page.fail);
  return {
    async show(asked) {
      if (filters.policy.options.length === 2) await offerPolicies(filters.policy);
      for (const [name, input] of Object.entries(filters)) input.value = asked.get(name) ?? "";
      await load();
      poll.start();
    },
    hide: poll.stop,
  };
}

/** @param {string[]} ids */
function open(ids) {
  location.hash = `#${new URLSearchParams(ids.map((id) => ["trace", id]))}`;
}

/** @param {any} select */
async function offerPolicies(select) {
  const { data } = await askJson("v1/policies");
  select.append(...data.map((/** @type {any} */ one) => new Option(one.name)));
}

/** @param {Row} row */
function finish(row) {
  if (row.running) return chip("running", "busy");
  return [...new Set(row.finish_reasons)].map((reason) => chip(String(reason), reason === "stop" ? "" : "warn"));
}

/** @param {string} prompt */
function start(prompt) {
  const line = prompt.replace(/\s+/g, " ").trim();
  return line.length > LONGEST_PROMPT ? `${line.slice(0, LONGEST_PROMPT - 1)}…` : line || "(empty)";
}

/** @param {number} seconds  since 1970 */
function clock(seconds) {
  const at = new Date(1000 * seconds), today = new Date().toDateString() === at.toDateString();
  return today ? at.toLocaleTimeString("en-GB") : at.toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

function none() {
  return empty("No traces yet",
    element("p", {}, "Run a prompt in the ", element("a", { href: "#/playground" }, "playground"), ", or send any request with a policy:"),
    element("pre", {}, `curl ${location.origin}/v1/chat/completions -H 'Content-Type: application/json' \\
  -d '{"model": "…", "policy": "observe", "messages": [{"role": "user", "content": "…"}]}'`));
}
