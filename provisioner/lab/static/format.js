const BYTES = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
const SPANS = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1000],
];

/** Formats sizes, durations (in milliseconds) and times in a language. */
export class Format {
  #language;

  /** @param language - JupyterLab's code of the language (`fr_FR`), if one is chosen */
  constructor(language) {
    try {
      this.#language = Intl.getCanonicalLocales(language?.replace("_", "-"))[0];
    } catch {
      this.#language = undefined;
    }
  }

  /** Bytes in decimal units, as disks are sold and as the command line shows them. */
  size(bytes) {
    let unit = 0;
    let amount = bytes;
    while (amount >= 999.5 && unit < BYTES.length - 1) {
      amount /= 1000;
      unit += 1;
    }
    const maximumFractionDigits = unit && amount < 9.95 ? 1 : 0;
    return this.#number(amount, BYTES[unit], "short", maximumFractionDigits);
  }

  /** A duration: `2 hours`. */
  span(milliseconds) {
    const [unit, length] = unitOf(milliseconds);
    return this.#number(Math.round(milliseconds / length), unit, "long", 0);
  }

  /** A time relative to now: `in 12 days`, `3 min. ago`. */
  relative(moment, now = Date.now()) {
    const distance = Date.parse(moment) - now;
    const [unit, length] = unitOf(Math.abs(distance));
    const words = new Intl.RelativeTimeFormat(this.#language, {
      style: "short",
    });
    return words.format(Math.round(distance / length), unit);
  }

  /** The time of day, with seconds if it is soon. */
  clock(moment, now = Date.now()) {
    const time = new Date(moment);
    const isSoon = Math.abs(time - now) < 120_000;
    return time.toLocaleTimeString(this.#language, {
      timeStyle: isSoon ? "medium" : "short",
    });
  }

  /** Date and time in full. */
  moment(moment) {
    return new Date(moment).toLocaleString(this.#language, {
      dateStyle: "medium",
      timeStyle: "short",
    });
  }

  #number(amount, unit, unitDisplay, maximumFractionDigits) {
    return new Intl.NumberFormat(this.#language, {
      style: "unit",
      unit,
      unitDisplay,
      maximumFractionDigits,
    }).format(amount);
  }
}

/** Cut a text in its middle, the least informative part of a path. */
export function shortened(text, most) {
  if (text.length <= most) {
    return text;
  }
  const kept = most - 1;
  const tail = Math.ceil(kept / 2);
  return `${text.slice(0, kept - tail)}…${text.slice(-tail)}`;
}

/** A short form of a session: of a path the last part. */
export function shortName(session) {
  return session.replace(/\/+$/, "").split("/").pop() || session;
}

function unitOf(milliseconds) {
  return SPANS.find(([, length]) => milliseconds >= length) ?? SPANS.at(-1);
}
