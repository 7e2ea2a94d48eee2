// The playground: its forms, and the runs that show the responses.

import { offered } from "../requests.js";
import { Card } from "../card.js";
import { Column } from "../column.js";
import { difference, differenceText, dosesText } from "../comparison.js";
import { byId, coded, element } from "../elements.js";
import { learn } from "../families.js";
import { explained, unmark } from "../faults.js";
import { placeOf } from "../nav.js";
import { Legend } from "../legend.js";
import { PolicyChoice } from "../policies.js";
import { Chat } from "../chat.js";
import { RequestCode } from "../code.js";
import { History } from "../history.js";
import { bodyOf } from "../requests.js";
import { SeedRuns } from "../seeds.js";
import { pasted } from "../paste.js";
import { Run } from "../run.js";
import { tabbed } from "../tabs.js";
import { Together } from "../together.js";
import { welcome } from "../welcome.js";

/** @typedef {import("../types.js").Settings} Settings */
/** @typedef {import("../trace.js").Trace} Trace */

const EXAMPLES = { countdown: "Use 3, 7, 2 to make 17." };
const EXAMPLE = "How many of the numbers from 1 to 100 can be divided by 3 or by 5, but not by both?";
const NAMES = ["A", "B"];

const card = new Card();
const policyA = new PolicyChoice(byId("policy-a"), byId("inline-a"), false);
const policyB = new PolicyChoice(byId("policy-b"), byId("inline-b"), true);
const legend = new Legend(byId("legend"), { sought: (family) => columns.forEach((column) => column.text.highlight(family)), rescaled: changed });
const showTab = tabbed(byId("ask").ownerDocument.querySelector("[role=tablist]"), () => {
  problem(null); // it was about the other tab
  outdated();
});
const chat = new Chat(byId("chat"));
const code = new RequestCode(byId("code"), () => ({ body: { ...bodyOf(settings(policyA.value)), messages: chat.messages(byId("prompt").value) }, origin: location.href }));
const together = new Together(() => columns, changed);
byId("difference-tools").append(together.button, together.overlay, element("span", { class: "soft" }, "One answer of each proves nothing: run 8 seeds."));
const past = new History(byId("history"), (entry) => void restore(entry).catch(problem));

/** @type {Column[]} */
let columns = [];
/** @type {any[]} */
let policies = [];
/** @type {any[]} */
let models = [];
let drawing = 0;
/** @type {string | null} the form that the runs are of; null where they are of none */
let ran = null;

/** Draw what has changed, once a frame at most. */
function changed() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    draw();
  });
}

function draw() {
  const threshold = columns.map((column) => column.run.trace?.threshold).find((nats) => nats);
  byId("legend").hidden = threshold === undefined;
  if (threshold !== undefined) legend.show(columns.flatMap((column) => column.run.tokens), threshold, columns.some((column) => column.run.branches.all.length > 1));
  const length = Math.max(0, ...columns.map((column) => column.length));
  const [one, other] = columns.map((column) => column.run);
  const parts = other ? difference(one, other) : null;
  together.check();
  const others = together.others();
  columns.forEach((column, side) => column.show(length, parts, others[side]));
  byId("difference").hidden = !other;
  if (other) byId("difference-text").replaceChildren(...differenceText(one, other, () => columns.forEach((column) => parts !== null && column.go(parts))), ` ${dosesText(one, other)} `);
  byId("difference-tools").hidden = !other || parts === null || Boolean(one.running || other.running);
  const running = columns.some((column) => column.run.running);
  byId("stop").hidden = !running;
  byId("runs").dataset.state = running ? "running" : "done";
}

/** Begin anew with runs of these titles. @param {string[]} titles */
function begin(titles) {
  columns.forEach((column) => column.run.stop());
  together.stop();
  card.close();
  problem(null);
  for (const form of ["ask", "open", "paste"]) unmark(byId(form));
  ran = null;
  outdated();
  const page = {
    say, failed: problem,
    zoomed: (/** @type {import("../positions.js").Part} */ part) => columns.forEach((column) => column.zoom(part)),
    difference: () => (columns.length > 1 ? difference(columns[0].run, columns[1].run) : null),
  };
  const policies = /** @type {const} */ (["policy-a", "policy-b"]);
  columns = titles.map((title, number) => new Column(new Run(NAMES[number], changed), title, card, { ...page, explained: (error) => explained(error, policies[number]) }));
  columns.forEach((column) => (column.run.contextTokens = contextTokens()));
  place(columns);
  return columns;
}

const contextTokens = () => models.find((one) => one.id === byId("model").value)?.max_model_len ?? Infinity;

/** @param {Column[]} shown */
function place(shown) {
  columns = shown;
  byId("runs").replaceChildren(...(columns.length ? columns.map((column) => column.element) : [welcome(policies.map((one) => one.name), tryExample)]));
  byId("runs").classList.toggle("two", columns.length > 1);
  draw();
}

/** Wait for runs; where all of them failed without a token, show what was there before, with the error. @param {Column[]} before @param {Promise<unknown>} work */
async function orBefore(before, work) {
  const mine = columns;
  await work;
  const failed = mine.every((column) => column.error !== null && !column.run.tokens.length);
  if (!failed || columns !== mine || !before.some((column) => column.run.tokens.length)) return !failed;
  const { error } = mine[0];
  place(before);
  problem(error);
  return false;
}

/** @param {Column} column @param {Promise<void>} work */
const shown = (column, work) =>
  work.catch((error) => {
    column.fail(error);
    changed();
  });

/** The form's request, under a policy. @param {any} policy @returns {Settings} */
function settings(policy) {
  const number = (/** @type {string} */ id) => (byId(id).value === "" ? null : Number(byId(id).value));
  return {
    model: byId("model").value, policy, seed: number("seed") ?? 0, temperature: number("temperature"), topP: number("top-p"),
    most: number("most"), answers: number("answers") ?? 1, template: chat.template(),
  };
}

/** How one would go on from a trace: under its policy, where that is one that is known by name. @param {Trace | null} trace */
function settingsOf(trace) {
  const named = policies.find((one) => one.name === trace?.policy && one.digest === trace?.digest)?.name;
  return settings(named && trace?.shadow ? { use: named, shadow: true } : (named ?? "none"));
}

async function run() {
  const choices = [policyA, policyB].filter((choice) => choice.given);
  const values = choices.map((choice) => choice.value), messages = chat.messages(byId("prompt").value);
  const each = values.map((value) => settings(value)), before = columns, form = formValues();
  const runs = begin(choices.map((choice) => choice.title));
  ran = JSON.stringify(form);
  const done = await orBefore(before, Promise.all(runs.map((column, number) => shown(column, column.run.start(each[number], messages)))));
  remember();
  if (done && shownIds().length) past.add({ title: choices.map((choice) => choice.title).join(" | "), prompt: byId("prompt").value, ids: shownIds(), form });
}

/** The same prompt under seeds 1 to 8, as small multiples. */
async function runSeeds() {
  const choices = [policyA, policyB].filter((choice) => choice.given);
  const messages = chat.messages(byId("prompt").value), each = choices.map((choice) => ({ title: choice.title, settings: settings(choice.value) }));
  columns.forEach((column) => column.run.stop());
  problem(null);
  const seeds = new SeedRuns(each, messages, (ids) => void (location.hash = `#${new URLSearchParams(ids.map((id) => ["trace", id]))}`));
  place([]);
  byId("runs").replaceChildren(seeds.element);
  byId("runs").dataset.state = "running";
  byId("stop").hidden = false;
  byId("stop").addEventListener("click", () => seeds.stop(), { once: true });
  await seeds.run();
  byId("stop").hidden = true;
  byId("runs").dataset.state = "done";
}

/** @param {string[]} ids */
async function open(ids) {
  const before = columns;
  await orBefore(before, Promise.all(begin(ids).map((column, number) => shown(column, column.run.load(ids[number], settingsOf)))));
  remember();
}

const FIELDS = ["prompt", "policy-a", "policy-b", "seed", "temperature", "top-p", "most", "answers", "model", "policy-a-inline", "policy-b-inline"];
const FORM_KEY = "forkpoint-form";

/** @returns {Record<string, string>} */
const formValues = () => ({ ...Object.fromEntries(FIELDS.map((id) => [id, byId(id).value])), chat: JSON.stringify(chat.values()) });

/** @param {Record<string, string>} form */
function fill(form) {
  for (const id of FIELDS) if (form[id] !== undefined) byId(id).value = form[id];
  if (form.chat) chat.fill(JSON.parse(form.chat));
  policyA.show();
  policyB.show();
  describe();
}

/** A run of before: its form and its traces. @param {import("../history.js").Entry} entry */
async function restore(entry) {
  fill(entry.form);
  showTab("ask");
  await open(entry.ids);
}

/** @returns {string[]} the traces that are shown */
const shownIds = () => columns.flatMap((column) => column.run.trace?.id ?? []);

/** The address says what is shown, so that it can be shared as long as the server stores it. */
function remember() {
  if (placeOf(location.hash).name !== "playground") return;
  const hash = new URLSearchParams(shownIds().map((id) => ["trace", id])).toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

/** @param {string} text */
function say(text) {
  byId("said").textContent = text;
}

/** @param {any} error */
function problem(error) {
  byId("problem").hidden = error === null;
  byId("problem").textContent = error === null ? "" : explained(error);
  // Beside it no error of an earlier attempt stands any longer.
  if (error !== null && columns.length && columns.every((column) => column.error !== null && !column.run.tokens.length)) place([]);
}

/** Say so where the runs are not those of the form as it is now. */
function outdated() {
  byId("stale").hidden = ran === null || byId("ask").hidden || ran === JSON.stringify(formValues());
}

/** @param {import("../welcome.js").Example} example */
function tryExample({ policy, beside, answers }) {
  policyA.choose(policy);
  policyB.choose(beside ?? "(nothing)");
  byId("answers").value = String(answers);
  showTab("ask");
  describe();
  run().catch(problem);
}

/** Ask the server what it offers. */
async function load() {
  const { connectors, ...found } = await offered();
  ({ models, policies } = found);
  learn(connectors);
  policyA.offer(policies, "none");
  policyB.offer(policies, policies.some((one) => one.name === "nowait") ? "nowait" : "(nothing)");
  byId("model").replaceChildren(...models.map((one) => new Option(one.id)));
  byId("model-field").hidden = models.length < 2;
  const stored = sessionStorage.getItem(FORM_KEY);
  if (stored) fill(JSON.parse(stored));
  byId("prompt").value ||= EXAMPLES[/** @type {keyof typeof EXAMPLES} */ (models[0].id)] ?? EXAMPLE;
  describe();
  if (!columns.length) place([]);
}

/** What the chosen policies do, and what is known against them, in the server's words. */
function describe() {
  const chosen = [policyA, policyB].map((choice) => choice.named).filter((one) => one);
  byId("described").replaceChildren(...chosen.map((one) => element("span", {}, element("b", {}, one.name), " ", ...coded(one.description),
    one.caution && element("span", { class: "caution-line" }, " Caution: ", ...coded(one.caution)))));
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
byId("seeds").addEventListener("click", () => runSeeds().catch(problem));
byId("ask").addEventListener("input", () => sessionStorage.setItem(FORM_KEY, JSON.stringify(formValues())));
submits("paste", async () => {
  const body = pasted(byId("paste-prompt").value, byId("paste-text").value, byId("model").value);
  const before = columns, [column] = begin(["given text"]);
  await orBefore(before, shown(column, column.run.read(body, settingsOf(null))));
  remember();
});
byId("stop").addEventListener("click", () => columns.forEach((column) => column.run.stop()));
byId("ask").addEventListener("change", describe);
for (const event of ["input", "change"]) byId("ask").addEventListener(event, outdated);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) /** @type {HTMLElement} */ (event.target).closest("form")?.requestSubmit();
});
addEventListener("forkpoint:theme", changed);

/** What other pages ask to try. @param {URLSearchParams} query */
function preset(query) {
  if (query.has("policy")) {
    policyA.choose(query.has("beside") ? String(query.get("policy")) : "none");
    policyB.choose(String(query.get("beside") ?? query.get("policy")));
    showTab("ask");
  }
  const inline = sessionStorage.getItem("forkpoint-inline");
  if (query.has("inline") && inline) {
    policyA.choose("none");
    policyB.choose("(inline)");
    policyB.editor.text = inline;
    showTab("ask");
  }
  describe();
}

/** @returns {Promise<import("../nav.js").Page>} */
export async function mount() {
  await load().catch(() => undefined); // before the form can be used: it fills the form; `show` tries again, and says what failed
  return {
    async show(query) {
      if (!models.length) await load();
      preset(query);
      const ids = query.getAll("trace").slice(0, NAMES.length);
      if (!ids.length) return remember();
      if (ids.join() === shownIds().join()) return;
      showTab("open");
      [byId("open-id").value, byId("open-beside").value] = [ids[0], ids[1] ?? ""];
      await open(ids);
    },
  };
}
