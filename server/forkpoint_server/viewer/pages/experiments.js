// Experiments on live traffic: the list, one with its verdict, and what its owner can change.

import { askAsAdmin, confirmed } from "../admin.js";
import { askJson } from "../api.js";
import { coded, element } from "../elements.js";
import { button, choice, field } from "../form.js";
import { chip, empty, frame } from "../frame.js";
import { polling } from "../poll.js";
import { intervalPlot } from "../sparkline.js";
import { DataTable } from "../table.js";
import { definitionForm } from "../definition.js";
import { timelinePlot } from "../timeline.js";

const EVERY_MILLISECONDS = 5000;
const ROLES = { decision: "Decision metrics", guardrail: "Guardrails", information: "For information" };
const GOOD = ["better", "within margin"], BAD = ["worse", "breached"];

/** @param {string} name */
const routeOf = (name) => `v1/experiments/${encodeURIComponent(name)}`;

/** @param {HTMLElement} place @returns {import("../nav.js").Page} */
export function mount(place) {
  const create = button("New experiment", () => void (location.hash = "#/experiments?new"), { class: "primary" });
  const page = frame(place, "Experiments", "Policies compared on live traffic. The analysis is valid whenever you look.", create);
  /** @type {() => Promise<void>} */
  let look = async () => {};
  const poll = polling(() => look(), EVERY_MILLISECONDS, page.fail);

  return {
    async show(query) {
      page.fail(null);
      create.hidden = query.has("new") || query.has("name");
      if (query.has("new")) {
        poll.stop();
        page.body.replaceChildren(back(), await definitionForm(async (definition) => {
          const made = await askAsAdmin("v1/experiments", { body: definition });
          location.hash = `#/experiments?name=${encodeURIComponent(made.name)}`;
        }));
        return;
      }
      look = query.has("name") ? detail(String(query.get("name"))) : list();
      await look();
      poll.start();
    },
    hide: poll.stop,
  };

  function list() {
    const table = new DataTable("Experiments", [
      { title: "Experiment", cell: (row) => element("a", { href: `#/experiments?name=${encodeURIComponent(row.name)}` }, row.name) },
      { title: "Status", cell: (row) => chip(row.status, row.status === "running" ? "busy" : "") },
      { title: "Arms", kind: "wide", cell: (row) => row.arms.map((/** @type {any} */ arm) => `${arm.name} ${share(arm.weight)}`).join(", ") },
      { title: "Unit", cell: (row) => row.unit },
      { title: "Decides on", cell: (row) => row.metrics.filter((/** @type {any} */ one) => one.role === "decision").map((/** @type {any} */ one) => one.name).join(", ") },
      { title: "Created", cell: (row) => new Date(1000 * row.created).toLocaleDateString("en-GB") },
    ], { key: (row) => row.name, opened: (row) => void (location.hash = `#/experiments?name=${encodeURIComponent(row.name)}`) });
    return async () => {
      const { data } = await askJson("v1/experiments");
      table.show(data.reverse());
      const shown = data.length ? table.element : none();
      if (page.body.firstChild !== shown) page.body.replaceChildren(shown);
    };
  }

  /** @param {string} name */
  function detail(name) {
    const head = element("div", { class: "sheet verdict" }), warnings = element("div", {}), arms = armsTable(name);
    const placebos = element("div", { class: "page-body" });
    const metrics = element("div", { class: "page-body" }), timeline = element("div", { class: "sheet", hidden: true });
    /** @type {string | null} */
    let metric = null;
    page.body.replaceChildren(back(), head, warnings, arms.element, placebos, timeline, metrics);

    const change = async (/** @type {any} */ body) => {
      try {
        await askAsAdmin(routeOf(name), { method: "PATCH", body });
        page.fail(null);
        await update();
      } catch (error) {
        page.fail(error);
      }
    };
    arms.changes(change);

    async function update() {
      const found = await askJson(routeOf(name)), { analysis } = found;
      head.replaceChildren(...verdict(found), ...actions(found, change, remove));
      warnings.replaceChildren(...[found.problem, ...analysis.warnings].filter(Boolean).map((text) => element("p", { class: "notice" }, text)));
      arms.show(found);
      if (!placebos.contains(document.activeElement)) placebos.replaceChildren(...besidePlacebos(analysis));
      if (!metrics.contains(document.activeElement)) metrics.replaceChildren(...byRole(analysis));
      const choices = Object.keys(analysis.metrics).filter((one) => analysis.metrics[one].role !== "information");
      await showTimeline(found, choices.length ? choices : Object.keys(analysis.metrics));
    }

    /** @param {any} found @param {string[]} choices */
    async function showTimeline(found, choices) {
      metric ??= choices[0] ?? null;
      timeline.hidden = metric === null || !found.figures.some((/** @type {any} */ one) => one.requests);
      if (metric === null || timeline.hidden || timeline.contains(document.activeElement)) return;
      const asked = await askJson(`${routeOf(name)}/timeline?${new URLSearchParams({ metric, points: "24" })}`);
      const select = choice(choices.map((one) => [one, one]), metric, { onchange: (/** @type {any} */ event) => {
        metric = event.target.value;
        event.target.blur();
        update().catch(page.fail);
      } });
      timeline.replaceChildren(
        element("div", { class: "row" }, element("h2", {}, `Difference from ${found.analysis.control}, over time`), field("Metric", select, { kind: "narrow" })),
        timelinePlot(asked), element("p", { class: "hint" }, "Always-valid intervals: at every moment they hold for the whole experiment. Where one leaves zero, there is a difference."));
    }

    async function remove() {
      if (!(await confirmed(`Delete ${name} with everything recorded for it? This is permanent.`, "Delete"))) return;
      try {
        await askAsAdmin(routeOf(name), { method: "DELETE" });
        location.hash = "#/experiments";
      } catch (error) {
        page.fail(error);
      }
    }
    return update;
  }
}

const back = () => element("p", {}, element("a", { class: "soft", href: "#/experiments" }, "← All experiments"));

/** The verdict line, and whether the arms can be compared at all. @param {any} found */
function verdict({ name, status, description, analysis }) {
  const { sample_ratio: ratio, verdict: line, until } = analysis;
  const counts = Object.entries(ratio.units).map(([arm, units]) => `${arm} ${units} (expected ${Number(ratio.expected[arm]).toFixed(0)})`).join(", ");
  return [
    element("p", { class: "row" }, element("b", {}, name), chip(status, status === "running" ? "busy" : ""),
      ratio.passed ? chip("sample ratio", "good") : chip("sample ratio mismatch", "bad")),
    element("p", { class: "verdict-line" }, line === null ? "No verdict: units did not arrive in the ratio of the weights, so something is broken" : line),
    element("p", { class: "hint" }, `Units: ${counts}; p = ${Number(ratio.p_value).toPrecision(2)}. `, until ? `Requests until ${new Date(1000 * until).toLocaleTimeString("en-GB")}. ` : "", description),
  ];
}

/** @param {any} found @param {(body: any) => Promise<void>} change @param {() => Promise<void>} remove */
function actions({ name, status }, change, remove) {
  const stop = async () => {
    if (await confirmed(`Stop ${name}? It cannot be started again.`, "Stop")) await change({ status: "stopped" });
  };
  return [element("div", { class: "row" },
    status === "running" && button("Pause", () => void change({ status: "paused" })),
    status === "paused" && button("Resume", () => void change({ status: "running" }), { class: "primary" }),
    status !== "stopped" && button("Stop …", () => void stop()),
    status !== "running" && button("Delete …", () => void remove()))];
}

/** The arms, with what can be changed of each. @param {string} name */
function armsTable(name) {
  /** @type {(body: any) => Promise<void>} */
  let change = async () => {};
  /** @type {any} */
  let experiment = null;
  const ramp = (/** @type {any} */ row) => {
    const input = element("input", { type: "number", min: 0, max: 100, step: "any", value: String(+(100 * row.weight).toFixed(4)), "aria-label": `Weight of ${row.name}, percent` });
    return element("form", {
      class: "inline-form", onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        /** @type {any} */ (document.activeElement)?.blur();
        void change({ arms: [{ name: row.name, weight: Number(input.value) / 100 }] });
      },
    }, input, "%", element("button", { type: "submit", title: "Weights can only be raised" }, "Ramp"));
  };
  const pause = (/** @type {any} */ row) => button(row.status === "running" ? "Pause" : "Resume", () => {
    /** @type {any} */ (document.activeElement)?.blur();
    void change({ arms: [{ name: row.name, status: row.status === "running" ? "paused" : "running" }] });
  });
  const stopped = () => experiment?.status === "stopped";
  const table = new DataTable(`Arms of ${name}`, [
    { title: "Arm", cell: (row) => [row.name, row.name === experiment.control && element("span", { class: "soft" }, " control")] },
    { title: "Policy", cell: (row) => [policyName(row.policy), row.shadow && " (shadow)"] },
    { title: "Weight", cell: (row) => (stopped() ? share(row.weight) : ramp(row)) },
    { title: "Units", kind: "number", cell: (row) => row.figures.units.toLocaleString("en") },
    { title: "Requests", kind: "number", cell: (row) => row.figures.requests.toLocaleString("en") },
    { title: "", cell: (row) => (stopped() ? row.status : pause(row)) },
  ], { key: (row) => row.name });
  return {
    element: table.element,
    /** @param {(body: any) => Promise<void>} changed */
    changes: (changed) => (change = changed),
    /** @param {any} found */
    show(found) {
      experiment = found;
      table.show(found.arms.map((/** @type {any} */ arm) => ({ ...arm, figures: found.figures.find((/** @type {any} */ one) => one.arm === arm.name) })));
    },
  };
}

/** Each arm beside its placebo: doses, differences in the decision metrics, and what may be concluded. @param {any} analysis */
function besidePlacebos({ placebos, metrics }) {
  if (!placebos.length) return [];
  const decisive = (/** @type {string} */ metric) => metrics[metric].role === "decision";
  const table = new DataTable("Policies beside their placebos", [
    { title: "Arm", cell: (row) => row.arm },
    { title: "Its placebo", cell: (row) => row.placebo },
    { title: "Effect per token", kind: "number", cell: (row) => number(row.dose) },
    { title: "That of the placebo", kind: "number", cell: (row) => number(row.placebo_dose) },
    { title: "Dose ratio, placebo / policy", kind: "number", cell: (row) => row.ratio?.toFixed(2) ?? "unknown" },
    { title: "Arm less placebo", kind: "wide", cell: (row) => Object.entries(row.metrics).filter(([metric]) => decisive(metric)).map(([metric, found]) => element("div", {}, `${metric}: ${apart(found)}`)) },
    { title: "Conclusion", kind: "wide", cell: (row) => row.conclusion ?? "" },
  ], { key: (row) => `${row.arm}/${row.placebo}` });
  table.show(placebos);
  return [element("section", { class: "page-body" }, element("h2", {}, "Beside placebos"), table.element,
    element("p", { class: "hint" }, "Doses are expected changed tokens per token. A placebo that changes less than 0.8 of what its policy changes supports no conclusion."))];
}

/** A difference with its interval. @param {any} found */
function apart({ estimate, interval, reason }) {
  if (estimate === null) return reason ?? "";
  const [low, high] = interval ?? [null, null];
  return low === null ? `${signed(estimate)}, ${reason ?? "no interval yet"}` : `${signed(estimate)} [${signed(low)}, ${signed(high)}]`;
}

/** The metrics of each role, in a table each. @param {any} analysis */
function byRole(analysis) {
  return Object.entries(ROLES).flatMap(([role, title]) => {
    const rows = Object.entries(analysis.metrics).filter(([, one]) => one.role === role).flatMap(([metric, one]) => rowsOf(metric, one, analysis.control));
    if (!rows.length) return [];
    const table = new DataTable(title, [
      { title: "Metric", cell: (row) => [row.first && row.metric, row.first && element("span", { class: "soft" }, aim(row.direction))] },
      { title: "Arm", cell: (row) => row.arm },
      { title: "Mean", kind: "number", cell: (row) => number(row.mean) },
      { title: "Difference", kind: "number", cell: (row) => (row.difference ? signed(row.difference.estimate) : "") },
      { title: "Always-valid interval", cell: (row) => plotted(row) },
      { title: "Verdict", kind: "wide", cell: (row) => (row.difference ? verdictOf(row.difference) : "") },
    ], { key: (row) => `${row.metric}/${row.arm}` });
    table.show(rows);
    const notes = [...new Set(rows.map((row) => row.warning).filter(Boolean))];
    return [element("section", { class: "page-body" }, element("h2", {}, title), table.element, ...notes.map((note) => element("p", { class: "hint" }, ...coded(`${note[0].toUpperCase()}${note.slice(1)}.`))))];
  });
}

/** @param {string} metric @param {any} found @param {string} control @returns {any[]} */
function rowsOf(metric, found, control) {
  const arms = Object.entries(found.arms).sort(([one], [other]) => Number(other === control) - Number(one === control));
  const ends = arms.flatMap(([, arm]) => [...(arm.difference?.interval ?? []), arm.difference?.estimate ?? 0]).map(Math.abs);
  const most = Math.max(...ends, 1e-9);
  return arms.map(([arm, figures], at) => ({ metric, arm, first: at === 0, range: [-most, most], direction: found.direction, warning: found.warning, ...figures }));
}

/** @param {any} row */
function plotted({ arm, metric, difference, range }) {
  if (!difference) return "";
  const [low, high] = difference.interval ?? [null, null];
  if (low === null) return element("span", { class: "soft" }, difference.reason ?? "not yet finite");
  return [intervalPlot({ low, high, estimate: difference.estimate }, range, `${metric}, ${arm}: ${signed(low)} to ${signed(high)}`), ` ${signed(low)} to ${signed(high)}`];
}

/** @param {any} difference */
function verdictOf({ verdict: word, text, p_value_holm: holm, interval, reason }) {
  if (!word) return "";
  const kind = GOOD.includes(word) ? "good" : BAD.includes(word) ? "bad" : "";
  return [kind ? chip(word, kind) : null, " ", kind && holm !== null ? `p = ${Number(holm).toPrecision(2)} (Holm)` : kind ? "" : interval || !reason ? text : "not yet decided"];
}

/** @param {string} direction */
const aim = (direction) => ({ higher: " ↑ is better", lower: " ↓ is better" })[direction] ?? "";
/** @param {number | null} value */
const number = (value) => (value === null ? "" : Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 }));
/** @param {number | null} value */
const signed = (value) => (value === null ? "" : `${value > 0 ? "+" : ""}${number(value)}`);
/** @param {number} weight */
const share = (weight) => `${+(100 * weight).toFixed(2)}%`;
/** @param {any} policy */
const policyName = (policy) => (policy === null ? "none" : typeof policy === "string" ? policy : policy.use ?? policy.name ?? "inline");

function none() {
  return empty("No experiments", element("p", {}, "An experiment gives each arm a policy and a share of the traffic, and keeps each unit, a user say, in one arm."),
    element("p", {}, element("a", { href: "#/experiments?new" }, "Define one")));
}
