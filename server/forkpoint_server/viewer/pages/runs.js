// Runs: the results of `forkpoint ab` and `forkpoint findings`, read from the folder's files; nothing is sent anywhere.

import { element, percent } from "../elements.js";
import { button, choice, field } from "../form.js";
import { chip, empty, frame } from "../frame.js";
import { intervalPlot } from "../sparkline.js";
import { DataTable } from "../table.js";

const RESULTS = "results.json", JOURNAL = "journal.jsonl", MOST_QUESTIONS = 200, LONGEST_ANSWER = 6000;

/** @param {HTMLElement} place @returns {import("../nav.js").Page} */
export function mount(place) {
  const input = element("input", { type: "file", multiple: true, accept: ".json,.jsonl", class: "unseen", id: "run-files", onchange: () => open([...input.files]) });
  const page = frame(place, "Runs", "Results of “forkpoint ab” and “forkpoint findings”. Files are read in this page and sent nowhere.",
    button("Open files", () => input.click(), { class: "primary" }), input);
  const drop = empty("Drop a run's folder or its files here", element("p", {}, `${RESULTS}, and ${JOURNAL} for the answers to each question`));
  place.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  place.addEventListener("dragleave", () => drop.classList.remove("over"));
  place.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const items = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
    open((await Promise.all(items.map(filesOf))).flat()).catch(page.fail);
  });
  page.body.append(drop);

  /** @param {File[]} files */
  async function open(files) {
    try {
      const named = (/** @type {string} */ name) => files.find((file) => file.name === name) ?? null;
      const results = named(RESULTS) ?? files.find((file) => file.name.endsWith(".json")) ?? null;
      if (!results) throw new Error(`There is no ${RESULTS} among these files: ${files.map((file) => file.name).join(", ") || "none"}`);
      const found = parsed(await results.text(), results.name), journal = named(JOURNAL);
      const shown = found.object === "findings" ? findings(found) : ab(found, journal ? lines(await journal.text()) : []);
      page.fail(null);
      page.body.replaceChildren(...shown, drop);
    } catch (error) {
      page.fail(error);
    }
    input.value = "";
  }
  return { show: () => {} };
}

/** The files of what was dropped, folders included. @param {any} entry @returns {Promise<File[]>} */
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const all = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    all.push(...some.filter((/** @type {any} */ one) => one.isFile));
  }
  return (await Promise.all(all.map(filesOf))).flat();
}

/** @param {string} text @param {string} name */
function parsed(text, name) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${name} is not JSON`);
  }
}

/** The answers of a journal; its first line is the configuration. @param {string} text @returns {any[]} */
const lines = (text) => text.split("\n").flatMap((line) => {
  try {
    const one = JSON.parse(line);
    return one.answer ? [one] : [];
  } catch {
    return []; // a last line that a crash left unfinished
  }
});

/** @param {any} found @param {any[]} answers @returns {Node[]} */
function ab(found, answers) {
  if (!Array.isArray(found.arms)) throw new Error("These are the results of neither `forkpoint ab` nor `forkpoint findings`: there are no arms and no findings");
  const first = found.arms[0]?.arm ?? "";
  const most = Math.max(1e-9, ...found.differences.flatMap((/** @type {any} */ one) => [one.correct?.low, one.correct?.high]).map((/** @type {any} */ end) => Math.abs(end ?? 0)));
  const differences = new DataTable(`Differences from ${first}`, [
    { title: "Arm", cell: (row) => row.arm },
    { title: "Right, points", kind: "number", cell: (row) => points(row.correct?.value) },
    { title: "95% interval", cell: (row) => (row.correct?.low == null ? "" : [intervalPlot({ low: row.correct.low, high: row.correct.high, estimate: row.correct.value }, [-most, most], `${row.arm}: ${points(row.correct.low)} to ${points(row.correct.high)} points`), ` ${points(row.correct.low)} to ${points(row.correct.high)}`]) },
    { title: "p (Holm)", kind: "number", cell: (row) => (row.correct_p_holm == null ? "" : row.correct_p_holm < 0.001 ? "< 0.001" : row.correct_p_holm.toFixed(3)) },
    { title: "Tokens", kind: "number", cell: (row) => (row.tokens ? `${row.tokens.value > 0 ? "+" : ""}${row.tokens.value.toFixed(0)}` : "") },
    { title: "At equal mean tokens", kind: "number", cell: (row) => points(row.equal_mean?.difference?.value) },
    { title: "Pairs", kind: "number", cell: (row) => `${row.pairs} of ${row.questions} questions` },
  ], { key: (row) => row.arm });
  differences.show(found.differences);
  const arms = new DataTable("Arms", [
    { title: "Arm", cell: (row) => row.arm },
    { title: "Right", kind: "number", cell: (row) => share(row.correct) },
    { title: "Tokens", kind: "number", cell: (row) => rounded(row.tokens?.value) },
    { title: "Reasoning", kind: "number", cell: (row) => rounded(row.reasoning_tokens?.value) },
    { title: "Cut off", kind: "number", cell: (row) => share(row.truncated) },
    { title: "Effect", kind: "number", cell: (row) => row.effect?.toFixed(2) ?? "" },
    { title: "Effect per token", kind: "number", cell: (row) => row.dose?.toFixed(4) ?? "" },
    { title: "Answers", kind: "number", cell: (row) => `${row.answers}${row.errors + row.failed_scorers ? `, ${row.errors + row.failed_scorers} without a score` : ""}` },
  ], { key: (row) => row.arm });
  arms.show(found.arms);
  return [
    element("div", { class: "sheet" }, element("p", { class: "verdict-line" }, typeof found.verdict === "string" ? found.verdict : verdictLine(found, first)),
      element("p", { class: "hint" }, `${found.answered} of ${found.asked} answers to ${found.questions} questions, scored by ${found.scorer}`)),
    ...(found.warnings ?? []).map((/** @type {string} */ text) => element("p", { class: "notice" }, text)),
    ...(found.differences.length ? [element("h2", {}, `Differences from ${first}, paired by question and seed`), differences.element] : []),
    element("h2", {}, "Arms"), arms.element,
    ...(answers.length ? [questions(answers, found.arms.map((/** @type {any} */ one) => one.arm))] : [element("p", { class: "hint" }, `Add ${JOURNAL} to read the answers.`)]),
    element("details", {}, element("summary", {}, "Configuration"), element("pre", {}, JSON.stringify(found.configuration, null, 2))),
    ...Object.entries(found.cautions ?? {}).map(([arm, text]) => element("p", { class: "caution" }, element("b", {}, arm), ` ${text}`)),
  ];
}

/** @param {any} found @param {string} first */
function verdictLine({ differences, answered, asked }, first) {
  if (!differences.length) return "One arm: nothing to compare";
  const decided = differences.filter((/** @type {any} */ one) => one.correct && one.correct_p_holm <= 0.05)
    .map((/** @type {any} */ one) => `${one.arm} is ${one.correct.value > 0 ? "better" : "worse"} than ${first} by ${points(Math.abs(one.correct.value)).replace("+", "")} points`);
  const line = decided.join("; ") || `No difference from ${first} is shown`;
  return answered < asked ? `${line}; the run is not complete` : line;
}

/** The answers to each question, arms side by side. @param {any[]} answers @param {string[]} arms */
function questions(answers, arms) {
  /** @type {Map<string, Map<string, any>>} */
  const by = new Map();
  for (const { question, sample, arm, answer } of answers) {
    const key = `${question} · sample ${sample}`;
    if (!by.has(key)) by.set(key, new Map());
    by.get(key)?.set(arm, answer);
  }
  const differ = (/** @type {Map<string, any>} */ found) => new Set([...found.values()].map((one) => lastLine(textOf(one)))).size > 1;
  const filter = choice([["differ", "whose answers differ"], ["length", "with a cut-off answer"], ["", "all"]], "differ", { onchange: () => draw() });
  const list = element("div", { class: "page-body" }), count = element("p", { class: "hint" });
  const draw = () => {
    const found = [...by].filter(([, one]) => filter.value === "" || (filter.value === "differ" ? differ(one) : [...one.values()].some((answer) => finishOf(answer) === "length")));
    count.textContent = `${found.length} of ${by.size}${found.length > MOST_QUESTIONS ? `; the first ${MOST_QUESTIONS} are shown` : ""}`;
    list.replaceChildren(...found.slice(0, MOST_QUESTIONS).map(([key, one]) => element("details", { class: "question" },
      element("summary", {}, key, ...arms.map((arm) => element("span", { class: "outcome" }, element("span", { class: "soft" }, `${arm}: `), lastLine(textOf(one.get(arm))) || "–"))),
      element("div", { class: "panels" }, ...arms.filter((arm) => one.has(arm)).map((arm) => answerOf(arm, one.get(arm)))))));
  };
  draw();
  return element("section", { class: "page-body" }, element("h2", {}, "Answers"), element("div", { class: "controls" }, field("Questions", filter), count), list);
}

/** @param {string} arm @param {any} answer */
function answerOf(arm, answer) {
  const id = answer.response_id, text = wholeOf(answer);
  return element("div", {}, element("p", { class: "row" }, element("b", {}, arm), finishOf(answer) === "length" && chip("length", "warn"),
    id && element("a", { class: "button", href: `#trace=${encodeURIComponent(id)}` }, "Trace")),
  answer.error ? element("p", { class: "invalid" }, answer.error) : element("pre", { class: "wrap" }, text.length > LONGEST_ANSWER ? `${text.slice(0, LONGEST_ANSWER)} …` : text));
}

/** @param {any} answer */
const textOf = (answer) => String(answer?.choices?.[0]?.text ?? "");
/** @param {any} answer */
const wholeOf = (answer) => [answer?.choices?.[0]?.reasoning, textOf(answer)].filter(Boolean).join("\n\n");
/** @param {any} answer */
const finishOf = (answer) => answer?.choices?.[0]?.finish_reason ?? null;
/** @param {string} text */
const lastLine = (text) => text.trim().split("\n").at(-1)?.slice(0, 60) ?? "";

/** @param {any} found @returns {Node[]} */
function findings(found) {
  return [
    element("div", { class: "sheet" }, element("p", { class: "verdict-line" }, found.findings.map((/** @type {any} */ one) => `${one.name}: ${one.verdict}`).join("; ")),
      element("p", { class: "hint" }, found.command)),
    ...found.findings.map((/** @type {any} */ one) => element("article", { class: "sheet" },
      element("header", { class: "row" }, element("h2", {}, one.name), verdictChip(one.verdict)),
      element("p", {}, one.question), element("p", { class: "hint" }, `${one.claim} (${one.source})`),
      one.cannot && element("p", { class: "notice" }, one.cannot),
      ...one.claims.map((/** @type {any} */ claim) => element("div", {},
        element("p", { class: "row" }, element("b", {}, claim.text), verdictChip(claim.verdict), claim.n_needed ? `about ${claim.n_needed} questions would decide it` : ""),
        element("ul", {}, ...claim.parts.map((/** @type {any} */ part) => element("li", {}, `${part.what}: ${plain(part.value)}${part.low == null ? "" : ` (${plain(part.low)} to ${plain(part.high)})`}, ${part.verdict}`))))),
      ...one.notes.map((/** @type {string} */ note) => element("p", { class: "hint" }, note)))),
  ];
}

/** @param {string} word */
const verdictChip = (word) => chip(word, word === "reproduced" ? "good" : /not|contra|refut/.test(word) ? "bad" : "");
/** @param {any} estimate */
const share = (estimate) => (estimate?.value == null ? "" : percent(estimate.value));
/** @param {any} value */
const rounded = (value) => (value == null ? "" : Math.round(value).toLocaleString("en"));
/** @param {any} value */
const points = (value) => (value == null ? "" : `${value > 0 ? "+" : ""}${(100 * value).toFixed(1)}`);
/** @param {any} value */
const plain = (value) => (value == null ? "–" : Number(value.toPrecision(3)).toString());
