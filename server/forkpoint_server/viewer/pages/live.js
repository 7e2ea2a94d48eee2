// Live: what the server does now, from /metrics; the browser's `forkpoint watch`.

import { ask } from "../api.js";
import { element, percent } from "../elements.js";
import { empty, frame } from "../frame.js";
import { read, Window } from "../metrics.js";
import { polling } from "../poll.js";
import { sparkline } from "../sparkline.js";
import { DataTable } from "../table.js";

/** @typedef {import("../metrics.js").Delta} Delta */

const EVERY_MILLISECONDS = 2000, WINDOW_SECONDS = 60;
const TOKENS = "forkpoint_tokens_total", ENTROPY = "forkpoint_token_entropy_nats", CHOICES = "forkpoint_requests_total";
const PLANNING = { role: "planning" }, EXECUTION = { role: "execution" };
const UNKNOWN = "–";

/** @param {HTMLElement} place @returns {import("../nav.js").Page} */
export function mount(place) {
  const page = frame(place, "Live", `Rates of the last ${WINDOW_SECONDS} seconds, from /metrics. Grafana shows more of them, for longer.`);
  const history = new Window(WINDOW_SECONDS);
  const over = element("p", { class: "hint", "aria-live": "off" });
  const tiles = element("div", { class: "tiles" });
  const policies = new DataTable("Policies", [
    { title: "Policy", cell: (row) => row.name },
    ...figures("Choices/s", "Tokens/s", "Forks", "Entropy at forks", "Entropy elsewhere", "Fired/1k", "Changed/1k", "Connectors/1k", "Reasoning"),
  ], { key: (row) => row.name });
  const branching = new DataTable("Branching policies", [{ title: "Branching policy", cell: (row) => row.name }, ...figures("Branches/s", "Tokens shared/s", "So far")], { key: (row) => row.name });
  const arms = new DataTable("Arms of experiments", [
    { title: "Experiment", cell: (row) => row.experiment }, { title: "Arm", cell: (row) => row.name },
    ...figures("Requests/s", "Requests so far"), { title: "Outcomes posted here: mean (number)", kind: "wide", cell: (row) => row.outcomes },
  ], { key: (row) => `${row.experiment}/${row.name}` });
  const quiet = element("div", {}, empty("No request with a policy yet", element("p", {}, "Rates appear here as soon as one ends.")));
  page.body.append(over, tiles, policies.element, branching.element, arms.element, quiet);

  async function look() {
    const response = await ask("metrics");
    const delta = history.add(read(await response.text(), performance.now() / 1000));
    page.fail(null);
    over.textContent = delta.seconds > 0 ? `Over the last ${delta.seconds.toFixed(0)} s` : "Measuring …";
    tiles.replaceChildren(...summary(delta));
    const rows = policyRows(delta), branches = branchRows(delta), compared = armRows(delta);
    policies.show(rows);
    branching.show(branches);
    arms.show(compared);
    policies.element.hidden = !rows.length;
    branching.element.hidden = !branches.length;
    arms.element.hidden = !compared.length;
    quiet.hidden = rows.length > 0;
  }

  /** @param {Delta} delta */
  function summary(delta) {
    const planning = delta.rate(TOKENS, PLANNING), execution = delta.rate(TOKENS, EXECUTION), step = delta.mean("forkpoint_step_seconds");
    const lost = delta.current("forkpoint_telemetry_dropped_total");
    const along = (/** @type {Record<string, string>} */ role) => history.along((between) => between.mean(ENTROPY, role));
    return [
      tile("Choices", `${delta.rate(CHOICES).toFixed(1)} /s`, `${delta.current("vllm:num_requests_running")} running, ${delta.current("vllm:num_requests_waiting")} waiting`),
      tile("Tokens observed", `${(planning + execution).toFixed(0)} /s`, `forks: ${share(planning, execution)}`, history.along((between) => between.rate(TOKENS))),
      tile("Entropy at forks", nats(delta.mean(ENTROPY, PLANNING)), "nats", along(PLANNING)),
      tile("Entropy elsewhere", nats(delta.mean(ENTROPY, EXECUTION)), "nats", along(EXECUTION)),
      tile("Kernel", step === null ? UNKNOWN : `${(1000 * step).toFixed(2)} ms`, "a step"),
      tile("Lost records", String(lost), "since the start", undefined, lost > 0),
    ];
  }

  const poll = polling(look, EVERY_MILLISECONDS, page.fail);
  return { show: () => void poll.start(), hide: poll.stop };
}

/** @param {string} name @param {string} value @param {string} note @param {(number | null)[]} [along] @param {boolean} [wrong] */
export function tile(name, value, note, along, wrong = false) {
  return element("div", { class: `tile${wrong ? " wrong" : ""}` }, element("span", { class: "soft" }, name), element("b", {}, value), element("span", { class: "soft" }, note),
    along && along.length > 1 && sparkline(along, `${name} over time`));
}

/** @param {...string} titles  @returns {any[]} columns of a row's `values`, in their order */
const figures = (...titles) => titles.map((title, at) => ({ title, kind: "number", cell: (/** @type {any} */ row) => row.values[at] }));

/** @param {Delta} delta */
function policyRows(delta) {
  const names = [...new Set([...delta.values(CHOICES, "policy"), ...delta.values(TOKENS, "policy")])];
  return names.map((policy) => {
    const here = { policy }, planning = delta.rate(TOKENS, { ...here, ...PLANNING }), execution = delta.rate(TOKENS, { ...here, ...EXECUTION });
    const thousands = delta.increase(TOKENS, here) / 1000;
    const per = ["forkpoint_interventions_total", "forkpoint_intervention_effect_total", "forkpoint_connectors_total"]
      .map((name) => (thousands ? (delta.increase(name, here) / thousands).toFixed(1) : UNKNOWN));
    const reasoning = delta.mean("forkpoint_reasoning_tokens", here);
    return {
      name: policy, number: delta.current(CHOICES, here),
      values: [
        delta.rate(CHOICES, here).toFixed(1), planning + execution ? (planning + execution).toFixed(0) : UNKNOWN, share(planning, execution),
        nats(delta.mean(ENTROPY, { ...here, ...PLANNING })), nats(delta.mean(ENTROPY, { ...here, ...EXECUTION })), ...per,
        reasoning === null ? UNKNOWN : reasoning.toFixed(0),
      ],
    };
  }).sort((one, other) => other.number - one.number);
}

/** @param {Delta} delta */
function branchRows(delta) {
  const name = "forkpoint_branches_total";
  return delta.values(name, "policy").map((policy) => {
    const outcomes = delta.values(name, "outcome", { policy }).map((outcome) => `${delta.current(name, { policy, outcome })} ${outcome}`);
    return { name: policy, values: [delta.rate(name, { policy }).toFixed(1), delta.rate("forkpoint_branch_shared_tokens_total", { policy }).toFixed(0), outcomes.join(", ")] };
  });
}

/** @param {Delta} delta */
function armRows(delta) {
  const requests = "forkpoint_experiment_requests_total", outcomes = "forkpoint_experiment_outcome";
  return delta.values(requests, "experiment").flatMap((experiment) => delta.values(requests, "arm", { experiment }).map((arm) => {
    const here = { experiment, arm };
    const means = delta.values(`${outcomes}_count`, "metric", here).map((metric) => {
      const number = delta.current(`${outcomes}_count`, { ...here, metric });
      return number ? `${metric} ${(delta.current(`${outcomes}_sum`, { ...here, metric }) / number).toFixed(3)} (${number})` : "";
    });
    return { experiment, name: arm, values: [delta.rate(requests, here).toFixed(1), delta.current(requests, here)], outcomes: means.filter(Boolean).join(", ") };
  }));
}

/** @param {number | null} value */
const nats = (value) => (value === null ? UNKNOWN : value.toFixed(2));

/** @param {number} planning @param {number} execution */
const share = (planning, execution) => (planning + execution ? percent(planning / (planning + execution)) : UNKNOWN);
