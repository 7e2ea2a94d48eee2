// The three ways in, as tabs: arrow keys go from one to the next.

/** @param {HTMLElement} list @param {() => void} changed  called when another tab was chosen @returns {(name: string) => void} shows a tab */
export function tabbed(list, changed) {
  const tabs = /** @type {HTMLElement[]} */ ([...list.querySelectorAll("[role=tab]")]);
  const panelOf = (/** @type {HTMLElement} */ tab) => /** @type {HTMLElement} */ (document.getElementById(tab.getAttribute("aria-controls") ?? ""));
  const show = (/** @type {HTMLElement} */ wanted) => {
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab === wanted));
      tab.tabIndex = tab === wanted ? 0 : -1;
      panelOf(tab).hidden = tab !== wanted;
    }
  };
  list.addEventListener("click", (event) => {
    const tab = /** @type {Element} */ (event.target).closest("[role=tab]");
    if (!(tab instanceof HTMLElement)) return;
    show(tab);
    changed();
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(/** @type {HTMLElement} */ (document.activeElement)) + step + tabs.length) % tabs.length];
    show(next);
    next.focus();
    changed();
  });
  return (name) => show(/** @type {HTMLElement} */ (tabs.find((tab) => tab.id === `tab-${name}`)));
}
