// The form that defines an experiment: arms and metrics as rows.

import { askJson } from "./api.js";
import { element } from "./elements.js";
import { button, choice, field, text } from "./form.js";
import { said } from "./frame.js";

/** @param {(definition: any) => Promise<void>} create */
export async function definitionForm(create) {
  const { data } = await askJson("v1/policies");
  /** @type {[string, string][]} */
  const policies = [["", "none"], ...data.map((/** @type {any} */ one) => [one.name, one.name])];
  const name = text("", { required: true, placeholder: "no-wait", pattern: "[a-z0-9._\\-]{1,64}" }), description = text();
  const unit = text("request", { list: "units" }), alpha = element("input", { type: "number", min: 0.001, max: 0.5, step: "any", value: "0.05" });
  const arms = rows("Add an arm", () => armRow(policies)), metrics = rows("Add a metric", metricRow);
  arms.add({ name: "control", weight: 10 });
  arms.add({ name: "treatment", policy: "nowait", weight: 10 });
  metrics.add();
  const status = choice([["running", "start at once"], ["paused", "create paused"]]);
  const problem = element("p", { class: "problem", role: "alert", hidden: true });
  const form = element("form", {
    class: "sheet", "aria-label": "New experiment", onsubmit: async (/** @type {Event} */ event) => {
      event.preventDefault();
      problem.hidden = true;
      const definition = {
        name: name.value, description: description.value, unit: unit.value, alpha: Number(alpha.value), status: status.value,
        arms: arms.values(), metrics: metrics.values().filter((/** @type {any} */ one) => one.name),
      };
      try {
        await create(definition);
      } catch (error) {
        problem.hidden = false;
        problem.textContent = said(error);
      }
    },
  },
  element("h2", {}, "New experiment"),
  element("div", { class: "controls" }, field("Name", name), field("Description", description), field("Unit", unit, { hint: "request, user, a header's name, or body.PATH" }),
    field("Alpha", alpha, { kind: "narrow", hint: "Probability of any wrong verdict" }), field("Status", status)),
  element("datalist", { id: "units" }, ...["request", "user"].map((one) => element("option", { value: one }))),
  element("h3", {}, "Arms; the first is the control"), arms.element,
  element("h3", {}, "Metrics"), metrics.element,
  problem, element("div", { class: "row" }, element("button", { type: "submit", class: "primary" }, "Create")));
  return form;
}

/** Rows that can be added and removed. @param {string} label @param {() => any} make */
function rows(label, make) {
  /** @type {any[]} */
  let all = [];
  const list = element("div", { class: "form-rows" });
  const add = (/** @type {any} */ values = {}) => {
    const row = make();
    row.fill(values);
    const shown = element("div", { class: "controls" }, ...row.fields, button("Remove", () => {
      all = all.filter((one) => one !== row);
      shown.remove();
    }, { class: "quiet" }));
    all.push(row);
    list.append(shown);
  };
  return { element: element("div", { class: "form-rows" }, list, button(label, () => add(), { class: "quiet" })), add, values: () => all.map((row) => row.value()) };
}

/** @param {[string, string][]} policies */
function armRow(policies) {
  const name = text("", { required: true }), policy = choice(policies), weight = element("input", { type: "number", min: 0, max: 100, step: "any", value: "10" });
  const shadow = element("input", { type: "checkbox" });
  return {
    fields: [field("Arm", name, { kind: "narrow" }), field("Policy", policy), field("Share of all units, %", weight, { kind: "narrow" }),
      element("label", { class: "check" }, shadow, "shadow: evaluate, do not act")],
    fill: (/** @type {any} */ values) => {
      name.value = values.name ?? "";
      policy.value = values.policy ?? "";
      weight.value = String(values.weight ?? 10);
    },
    value: () => ({ name: name.value, policy: policy.value || null, weight: Number(weight.value) / 100, shadow: shadow.checked && policy.value !== "" }),
  };
}

function metricRow() {
  const name = text("correct"), direction = choice([["higher", "higher is better"], ["lower", "lower is better"], ["neither", "neither"]]);
  const role = choice([["decision", "decides"], ["guardrail", "guardrail"], ["information", "information"]]);
  const margin = element("input", { type: "number", min: 0, step: "any", value: "0" });
  return {
    fields: [field("Metric", name), field("Direction", direction), field("Role", role), field("Margin", margin, { kind: "narrow", hint: "The harm that a guardrail tolerates" })],
    fill: () => {},
    value: () => ({ name: name.value, direction: direction.value, role: role.value, margin: Number(margin.value) }),
  };
}
