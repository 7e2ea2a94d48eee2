// The console: its pages, its theme, and the server's key.

import { askJson, KEY_NEEDED, Refusal, useKey } from "./api.js";
import { byId } from "./elements.js";
import { navigate } from "./nav.js";
import { theming } from "./theme.js";

/** The served model, under the navigation. */
async function serve() {
  const { data } = await askJson("v1/models");
  byId("served").textContent = data[0].id;
}

const again = navigate([
  { name: "playground", title: "Playground", load: async () => (await import("./pages/playground.js")).mount },
  { name: "traces", title: "Traces", load: async () => (await import("./pages/traces.js")).mount },
  { name: "policies", title: "Policies", load: async () => (await import("./pages/policies.js")).mount },
  { name: "experiments", title: "Experiments", load: async () => (await import("./pages/experiments.js")).mount },
  { name: "live", title: "Live", load: async () => (await import("./pages/live.js")).mount },
  { name: "runs", title: "Runs", load: async () => (await import("./pages/runs.js")).mount },
  { name: "calibration", title: "Calibration", load: async () => (await import("./pages/calibration.js")).mount },
], failed);

/** A page that could not be shown at all; where only the key is missing, that is asked for. @param {any} error */
function failed(error) {
  if (error.status === 401) return;
  byId("failure").hidden = false;
  byId("failure").textContent = error instanceof Refusal ? error.message : `The page could not be shown: ${error.message}`;
}

addEventListener(KEY_NEEDED, () => {
  byId("key").hidden = false;
  byId("key-value").focus();
});
byId("key").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  useKey(byId("key-value").value);
  byId("key").hidden = byId("failure").hidden = true;
  again();
  serve().catch(failed);
});
theming(byId("theme"), () => dispatchEvent(new Event("forkpoint:theme")));
serve().catch(failed);
