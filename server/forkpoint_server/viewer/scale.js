// Colour by entropy. The two ends are in trace.css; in between, equal steps in nats look equally large (they are mixed in Oklab).

/** From here on the colour is full. The same as in the notebooks' version. */
export const MOST_NATS = 2.5;

/**
 * How far along the scale an entropy is, 0 to 1.
 * @param {number | null} nats
 */
export function share(nats) {
  return nats === null ? 0 : Math.min(Math.max(nats, 0), MOST_NATS) / MOST_NATS;
}

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
    of: (nats) => `color-mix(in oklab, ${high} ${(100 * share(nats)).toFixed(1)}%, ${low})`,
  };
}
