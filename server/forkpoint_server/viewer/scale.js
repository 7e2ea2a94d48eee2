// Colour by entropy. The two ends are in trace.css; in between, equal steps in nats look equally large (they are mixed in Oklab).

/** From here on the colour is full, unless it is fitted to the runs. The same as in the notebooks' version. */
export const MOST_NATS = 2.5;

let full = MOST_NATS;

/** From where on the colour is full now, in nats. */
export const fullNats = () => full;

/** Let the colour be full from here on. Only pages with the same value compare by colour. @param {number} nats  at most MOST_NATS */
export function fillFrom(nats) {
  full = nats;
  document.documentElement.style.setProperty("--stretch", String(MOST_NATS / nats));
}

/**
 * How far along the unfitted scale an entropy is, 0 to 1.
 * @param {number | null} nats
 */
export function share(nats) {
  return nats === null ? 0 : Math.min(Math.max(nats, 0), MOST_NATS) / MOST_NATS;
}

/** How far along the scale as it is now. @param {number | null} nats */
export const fittedShare = (nats) => Math.min(1, (share(nats) * MOST_NATS) / full);

/**
 * The colours as they are now, light or dark, for what is drawn on a canvas.
 * @param {Element} element
 */
export function colours(element) {
  const probe = document.createElement("i");
  element.append(probe);
  /** @param {string} name */
  const read = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const [low, high, mark, act] = ["--bar-low", "--bar-high", "--fork", "--act"].map(read);
  probe.remove();
  return {
    mark,
    act,
    /** @param {number | null} nats */
    of: (nats) => `color-mix(in oklab, ${high} ${(100 * fittedShare(nats)).toFixed(1)}%, ${low})`,
  };
}
