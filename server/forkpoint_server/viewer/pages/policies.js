// Policies: a card for each, and an editor to write one from another.

import { askAsAdmin, confirmed } from "../admin.js";
import { askJson } from "../api.js";
import { PolicyEditor } from "../editor.js";
import { coded, element } from "../elements.js";
import { button, choice, field, text } from "../form.js";
import { chip, empty, frame } from "../frame.js";
import { groupOf, GROUPS } from "../policies.js";
import { toYaml } from "../yaml.js";

const EXAMPLE = `name: mine
description: Less reflection at forks.
rules:
  - when: {entropy_above: fork, region: reasoning}
    do: {suppress: {connectors: [reflection], bias: -4}}
`;
const WRITTEN = ["name", "description", "shadow", "rules"];

/** @param {HTMLElement} place @returns {import("../nav.js").Page} */
export function mount(place) {
  /** @type {any[]} */
  let policies = [];
  const write = button("Write a policy", () => void (location.hash = "#/policies?edit"), { class: "primary" });
  const page = frame(place, "Policies", "What each does, where it comes from, and what is known against it.", write);
  const search = text("", { type: "search", placeholder: "name or description" });
  const group = choice([["", "all"], ...Object.keys(GROUPS).map((name) => /** @type {[string, string]} */ ([name, name])), ["own", "stored here"]]);
  const placebos = element("input", { type: "checkbox" });
  const cards = element("div", { class: "cards" });
  const filters = element("form", { class: "controls", "aria-label": "Filters", oninput: draw, onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
    field("Search", search), field("Action", group), element("label", { class: "check" }, placebos, "show placebos"));
  const list = element("div", { class: "page-body" }, filters, cards);
  const editing = element("div", { class: "page-body" });
  page.body.append(list, editing);

  function draw() {
    const wanted = search.value.toLowerCase();
    const found = policies.filter((one) => (placebos.checked || !one.name.endsWith(".placebo"))
      && (!group.value || (group.value === "own" ? !one.builtin : groupOf(one) === group.value))
      && `${one.name} ${one.description}`.toLowerCase().includes(wanted));
    cards.replaceChildren(...(found.length ? found.map(card) : [empty("No policy fits these filters")]));
  }

  /** @param {string | null} from  the policy to start from */
  async function edit(from) {
    const stored = policies.find((one) => one.name === from && !one.builtin);
    const name = text(stored?.name ?? "", { required: true, placeholder: "mine" });
    const editor = new PolicyEditor("policy-text", "Policy, in YAML or JSON", { rows: 14 });
    const start = choice([["", "an example"], ...policies.map((one) => /** @type {[string, string]} */ ([one.name, one.name]))], from ?? "", {
      onchange: () => fill(start.value),
    });
    const fill = (/** @type {string} */ chosen) => {
      const policy = policies.find((one) => one.name === chosen);
      editor.text = policy ? toYaml(written(policy, policy.builtin ? `my-${chosen}` : chosen)) : EXAMPLE;
      name.value = policy ? (policy.builtin ? `my-${chosen}`.replace(/\.placebo$/, "-placebo") : chosen) : "mine";
    };
    const done = element("p", { class: "hint", role: "status" });
    const save = async () => {
      done.textContent = "";
      try {
        const policy = editor.value;
        const made = await askAsAdmin(`v1/policies/${encodeURIComponent(name.value)}`, { method: "PUT", body: { ...policy, name: name.value } });
        page.fail(null);
        done.textContent = `Saved as ${made.name}, digest ${made.digest}. Requests can name it now.`;
        policies = (await askJson("v1/policies")).data;
      } catch (error) {
        page.fail(error);
      }
    };
    editing.replaceChildren(
      element("p", {}, element("a", { class: "soft", href: "#/policies" }, "← All policies")),
      element("div", { class: "controls" }, field("Start from", start), field("Save as", name)),
      editor.element,
      element("div", { class: "row" }, button("Save", save, { class: "primary" }),
        button("Try it", () => {
          sessionStorage.setItem("forkpoint-inline", editor.text);
          location.hash = "#/playground?inline";
        }), done),
      element("p", { class: "hint" }, "Completion: ↑ ↓ choose, Tab takes it, Esc closes. The server checks the policy while you write; nothing is stored before you save."));
    fill(from ?? "");
  }

  return {
    async show(query) {
      page.fail(null);
      policies = (await askJson("v1/policies")).data;
      list.hidden = write.hidden = query.has("edit");
      editing.hidden = !query.has("edit");
      if (query.has("edit")) return edit(query.get("edit") || null);
      if (query.has("name")) [search.value, placebos.checked] = [query.get("name"), String(query.get("name")).endsWith(".placebo")];
      draw();
    },
  };

  /** @param {any} policy */
  function card(policy) {
    const { name, description, caution, source, parameters, placebo, builtin, shadow, rules, digest } = policy;
    const remove = async () => {
      if (!(await confirmed(`Delete ${name}? This is permanent.`, "Delete"))) return;
      try {
        await askAsAdmin(`v1/policies/${encodeURIComponent(name)}`, { method: "DELETE" });
        policies = (await askJson("v1/policies")).data;
        draw();
      } catch (error) {
        page.fail(error);
      }
    };
    return element("article", { class: "sheet policy", "data-policy": name },
      element("header", { class: "row" }, element("h2", {}, name), chip(groupOf(policy)), shadow && chip("shadow"), !builtin && chip("stored here", "good")),
      element("p", {}, ...coded(description)),
      caution && element("p", { class: "caution" }, ...coded(caution)),
      source && element("p", { class: "hint" }, `Source: ${source}`),
      Object.keys(parameters).length > 0 && element("details", {}, element("summary", {}, `Parameters: ${Object.keys(parameters).join(", ")}`),
        element("dl", { class: "parameters" }, ...Object.entries(parameters).map(([key, one]) => element("div", {},
          element("dt", {}, element("code", {}, key), ` ${JSON.stringify(one.default)}`), element("dd", {}, one.meaning,
            one.minimum === undefined ? "" : ` (${one.minimum} to ${one.maximum})`, one.one_of ? ` (${one.one_of.join(", ")})` : ""))))),
      element("details", {}, element("summary", {}, `Rules (${rules.length}), digest ${digest}`), element("pre", {}, toYaml({ rules }))),
      element("div", { class: "row" },
        element("a", { class: "button", href: `#/playground?policy=${encodeURIComponent(name)}` }, "Try"),
        placebo && element("a", { class: "button", href: `#/playground?policy=${encodeURIComponent(name)}&beside=${encodeURIComponent(placebo)}` }, "Compare with placebo"),
        element("a", { class: "button", href: `#/policies?edit=${encodeURIComponent(name)}` }, builtin ? "Start from it" : "Edit"),
        !builtin && button("Delete …", remove)));
  }
}

/** What of a policy one writes. @param {any} policy @param {string} name */
const written = (policy, name) => Object.fromEntries(WRITTEN.map((key) => [key, key === "name" ? name.replace(/\.placebo$/, "-placebo") : policy[key]]).filter(([, value]) => value !== undefined && value !== false));
