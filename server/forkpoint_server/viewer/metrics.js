// A server's /metrics page, read in Prometheus' text format, and what was counted between two readings.

/** @typedef {{labels: Record<string, string>, value: number}} Sample */

/** @param {string} page @param {number} seconds  when it was read, on a monotonic clock @returns {Scrape} */
export function read(page, seconds) {
  /** @type {Map<string, Map<string, Sample>>} */
  const samples = new Map();
  for (const line of page.split("\n")) {
    const found = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    if (!found || line.startsWith("#")) continue;
    const [, name, labels = "", value] = found;
    if (!samples.has(name)) samples.set(name, new Map());
    samples.get(name)?.set(labels, { labels: labelsOf(labels), value: Number(value.replace("Inf", "Infinity")) });
  }
  return new Scrape(samples, seconds);
}

/** @param {string} text */
function labelsOf(text) {
  /** @type {Record<string, string>} */
  const found = {};
  for (const [, name, value] of text.matchAll(/([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g))
    found[name] = value.replace(/\\(.)/g, (_, one) => (one === "n" ? "\n" : one));
  return found;
}

class Scrape {
  /** @param {Map<string, Map<string, Sample>>} samples @param {number} seconds */
  constructor(samples, seconds) {
    this.samples = samples;
    this.seconds = seconds;
  }

  /** The samples of a name that have these labels, and perhaps others. @param {string} name @param {Record<string, string>} labels */
  matching(name, labels) {
    const wanted = Object.entries(labels);
    return [...(this.samples.get(name) ?? [])].filter(([, one]) => wanted.every(([label, value]) => one.labels[label] === value));
  }
}

/** The counts between two scrapes, and the gauges of the second. */
export class Delta {
  /** @param {Scrape} before @param {Scrape} now */
  constructor(before, now) {
    this.before = before;
    this.now = now;
  }

  get seconds() {
    return this.now.seconds - this.before.seconds;
  }

  /** The increase of a counter, over all series with these labels. @param {string} name @param {Record<string, string>} [labels] */
  increase(name, labels = {}) {
    const before = this.before.samples.get(name);
    return this.now.matching(name, labels).reduce((sum, [key, { value }]) => sum + value - (before?.get(key)?.value ?? 0), 0);
  }

  /** @param {string} name @param {Record<string, string>} [labels] */
  rate(name, labels) {
    return this.seconds > 0 ? this.increase(name, labels) / this.seconds : 0;
  }

  /** The mean observation of a histogram; null without observations. @param {string} name @param {Record<string, string>} [labels] */
  mean(name, labels) {
    const times = this.increase(`${name}_count`, labels);
    return times > 0 ? this.increase(`${name}_sum`, labels) / times : null;
  }

  /** A gauge, or a counter since the server started. @param {string} name @param {Record<string, string>} [labels] */
  current(name, labels = {}) {
    return this.now.matching(name, labels).reduce((sum, [, { value }]) => sum + value, 0);
  }

  /** The values that a label takes. @param {string} name @param {string} label @param {Record<string, string>} [labels] */
  values(name, label, labels = {}) {
    return [...new Set(this.now.matching(name, labels).map(([, one]) => one.labels[label] ?? ""))].sort();
  }
}

/** The scrapes of the last `seconds`; a restart of the server, at which counters fall, discards the earlier ones. */
export class Window {
  /** @param {number} seconds */
  constructor(seconds) {
    this.seconds = seconds;
    /** @type {Scrape[]} */
    this.scrapes = [];
  }

  /** @param {Scrape} scrape @returns {Delta} from the oldest one */
  add(scrape) {
    const last = this.scrapes.at(-1);
    if (last && restarted(last, scrape)) this.scrapes = [];
    this.scrapes.push(scrape);
    while (this.scrapes.length > 2 && scrape.seconds - this.scrapes[1].seconds >= this.seconds) this.scrapes.shift();
    return new Delta(this.scrapes[0], scrape);
  }

  /** A figure between each scrape and the next, oldest first. @param {(delta: Delta) => number | null} figure */
  along(figure) {
    return this.scrapes.slice(1).map((now, place) => figure(new Delta(this.scrapes[place], now)));
  }
}

/** @param {Scrape} before @param {Scrape} now */
function restarted(before, now) {
  return [...before.samples].some(([name, series]) => name.startsWith("forkpoint_") && /_(total|count)$/.test(name)
    && [...series].some(([key, { value }]) => (now.samples.get(name)?.get(key)?.value ?? value) < value));
}
