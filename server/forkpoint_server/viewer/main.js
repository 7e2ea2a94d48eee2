// The page: its forms, and the runs that show the responses.

import { Refusal, useKey } from "./api.js";
import { offered } from "./requests.js";
import { Card } from "./card.js";
import { Column } from "./column.js";
import { difference, differenceText } from "./comparison.js";
import { byId, element } from "./elements.js";
import { learn } from "./families.js";
import { Legend } from "./legend.js";
import { PolicyChoice } from "./policies.js";
import { pasted } from "./paste.js";
import { Run } from "./run.js";
import { tabbed } from "./tabs.js";
import { theming } from "./theme.js";

/** @typedef {import("./types.js").Settings} Settings */
/** @typedef {import("./trace.js").Trace} Trace */

const EXAMPLES = { countdown: "Use 3, 7, 2, 11 to make 17." };
const NAMES = ["A", "B"];

const card = new Card();
const policyA = new PolicyChoice(byId("policy-a"), byId("inline-a"), false);
const policyB = new PolicyChoice(byId("policy-b"), byId("inline-b"), true);
const legend = new Legend(byId("legend"), (family) => columns.forEach((column) => column.text.highlight(family)));
const showTab = tabbed(byId("ask").ownerDocument.querySelector("[role=tablist]"));

/** @type {Column[]} */
let columns = [];
/** @type {any[]} */
let policies = [];
/** @type {any[]} */
let models = [];
let drawing = 0;

/** Draw what has changed, once a frame at most. */
function changed() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    draw();
  });
}

function draw() {
  const length = Math.max(0, ...columns.map((column) => column.length));
  const [one, other] = columns.map((column) => column.run);
  const parts = other ? difference(one, other) : null;
  columns.forEach((column) => column.show(length, parts));
  byId("difference").hidden = !other;
  if (other) byId("difference").replaceChildren(...differenceText(one, other, () => columns.forEach((column) => parts !== null && column.go(parts))));
  const threshold = columns.map((column) => column.run.trace?.threshold).find((nats) => nats);
  byId("legend").hidden = threshold === undefined;
  if (threshold !== undefined) legend.show(columns.flatMap((column) => column.run.tokens), threshold);
  const running = columns.some((column) => column.run.running);
  byId("stop").hidden = !running;
  byId("runs").dataset.state = running ? "running" : "done";
}

/** Begin anew with runs of these titles. @param {string[]} titles */
function begin(titles) {
  columns.forEach((column) => column.run.stop());
  card.close();
  problem(null);
  const page = { say, failed: problem, difference: () => (columns.length > 1 ? difference(columns[0].run, columns[1].run) : null) };
  columns = titles.map((title, number) => new Column(new Run(NAMES[number], changed), title, card, page));
  columns.forEach((column) => (column.run.contextTokens = models.find((one) => one.id === byId("model").value)?.max_model_len ?? Infinity));
  byId("runs").replaceChildren(...columns.map((column) => column.element));
  byId("runs").classList.toggle("two", columns.length > 1);
  draw();
  return columns;
}

/** @param {Column} column @param {Promise<void>} work */
const shown = (column, work) =>
  work.catch((error) => {
    if (error.status === 401) problem(error);
    else column.fail(error);
    changed();
  });

/** The form's request, under a policy. @param {any} policy @returns {Settings} */
function settings(policy) {
  const number = (/** @type {string} */ id) => (byId(id).value === "" ? null : Number(byId(id).value));
  return {
    model: byId("model").value, policy, seed: number("seed") ?? 0, temperature: number("temperature"), most: number("most"),
    answers: number("answers") ?? 1,
  };
}

/** How one would go on from a trace: under its policy, where that is one that is known by name. @param {Trace | null} trace */
function settingsOf(trace) {
  const named = policies.find((one) => one.name === trace?.policy && one.digest === trace?.digest)?.name;
  return settings(named && trace?.shadow ? { use: named, shadow: true } : (named ?? "none"));
}

async function run() {
  const choices = [policyA, policyB].filter((choice) => choice.given);
  const values = choices.map((choice) => choice.value);
  const messages = [{ role: "user", content: byId("prompt").value }];
  const runs = begin(choices.map((choice) => choice.title));
  await Promise.all(runs.map((column, number) => shown(column, column.run.start(settings(values[number]), messages))));
  remember();
}

/** @param {string[]} ids */
async function open(ids) {
  await Promise.all(begin(ids).map((column, number) => shown(column, column.run.load(ids[number], settingsOf))));
  remember();
}

/** The address says what is shown, so that it can be shared as long as the server remembers it. */
function remember() {
  const ids = columns.map((column) => column.run.trace?.id).filter((id) => id);
  const hash = new URLSearchParams(ids.map((id) => ["trace", String(id)])).toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

/** @param {string} text */
function say(text) {
  byId("said").textContent = text;
}

/** @param {any} error */
function problem(error) {
  byId("problem").hidden = error === null;
  byId("problem").textContent = error?.message ?? "";
  byId("key").hidden = error?.status !== 401;
  if (error?.status === 401) byId("key-value").focus();
}

/** Ask the server what it offers, then show what the address names. */
async function load() {
  const { connectors, ...found } = await offered();
  ({ models, policies } = found);
  learn(connectors);
  policyA.offer(policies, "none");
  policyB.offer(policies, "(nothing)");
  byId("model").replaceChildren(...models.map((one) => new Option(one.id)));
  byId("model-field").hidden = models.length < 2;
  byId("served").textContent = models[0].id;
  byId("prompt").value ||= EXAMPLES[/** @type {keyof typeof EXAMPLES} */ (models[0].id)] ?? "";
  describe();
  const ids = new URLSearchParams(location.hash.slice(1)).getAll("trace").slice(0, NAMES.length);
  if (ids.length) {
    showTab("open");
    [byId("open-id").value, byId("open-beside").value] = [ids[0], ids[1] ?? ""];
    await open(ids);
  }
}

/** What the chosen policies do, in the server's words. */
function describe() {
  const chosen = [policyA, policyB].map((choice) => policies.find((one) => one.name === choice.select.value)).filter((one) => one);
  byId("described").replaceChildren(...chosen.flatMap((one, number) => {
    const parts = String(one.description ?? "").split("`").map((part, at) => (at % 2 ? element("code", {}, part) : part));
    return [number ? " — " : "", element("b", {}, one.name), " ", ...parts];
  }));
}

/** @param {string} id @param {() => Promise<void>} work */
function submits(id, work) {
  byId(id).addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    work().catch(problem);
  });
}

submits("ask", run);
submits("open", () => open([byId("open-id").value.trim(), byId("open-beside").value.trim()].filter((id) => id)));
submits("paste", async () => {
  const body = pasted(byId("paste-prompt").value, byId("paste-text").value, byId("model").value);
  const [column] = begin(["given text"]);
  await shown(column, column.run.read(body, settingsOf(null)));
  remember();
});
submits("key", async () => {
  useKey(byId("key-value").value);
  problem(null);
  await load();
});
byId("stop").addEventListener("click", () => columns.forEach((column) => column.run.stop()));
byId("ask").addEventListener("change", describe);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) /** @type {HTMLElement} */ (event.target).closest("form")?.requestSubmit();
});
addEventListener("hashchange", () => load().catch(problem));
theming(byId("theme"), changed);
load().catch((error) => problem(error instanceof Refusal ? error : new Error(`The page could not be set up: ${error.message}`)));
