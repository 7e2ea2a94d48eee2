// Light, dark, or as the system has it.

const KEY = "forkpoint-theme", CHOICES = ["auto", "light", "dark"];
const SIGNS = { auto: "◐ auto", light: "○ light", dark: "● dark" };

/** @param {HTMLElement} button @param {() => void} changed */
export function theming(button, changed) {
  const use = (/** @type {string} */ choice) => {
    document.documentElement.dataset.theme = choice;
    button.textContent = SIGNS[/** @type {keyof typeof SIGNS} */ (choice)];
    button.setAttribute("aria-label", `Theme: ${choice}`);
    localStorage.setItem(KEY, choice);
    changed();
  };
  const stored = localStorage.getItem(KEY) ?? "auto";
  use(CHOICES.includes(stored) ? stored : "auto");
  button.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? "auto";
    use(CHOICES[(CHOICES.indexOf(now) + 1) % CHOICES.length]);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
}
