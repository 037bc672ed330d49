import { shortName, shortened } from "./format.js";
import { Notice } from "./notice.js";

export const name = "hydrations";
export const description =
  "Shows how far a kernel's volume is while it is restored and hydrated.";
export const needs = [];

/** What is done sooner is not worth a notification. */
const PATIENCE = 1000;
const LONGEST_NAME = 30;
const LONGEST_MESSAGE = 80;

export function optional() {
  return [];
}

/** Begin to listen. */
export function activate(context) {
  const hydrations = new Hydrations(context);
  context.events.subscribe("hydration", (event) => hydrations.tell(event));
  context.events.subscribe("volume", ({ action, kernel_id: kernel }) => {
    if (action === "released") {
      hydrations.forget(kernel);
    }
  });
  // The end is told by an event, which a websocket that is reconnecting misses.
  context.app.serviceManager.kernels.runningChanged.connect((_, models) => {
    for (const { id, execution_state: state } of models) {
      if (state === "idle" || state === "busy") {
        hydrations.end(id);
      }
    }
  });
}

/** The notifications about starts under way: one for each kernel. */
class Hydrations {
  #context;
  #starts = new Map();

  constructor(context) {
    this.#context = context;
  }

  tell({ action, kernel_id: kernel, volume, session, ...event }) {
    const key = kernel || volume;
    if (action === "progress") {
      this.#startOf(key, session).progress(event);
    } else if (action === "failed") {
      this.#startOf(key, session).fail(event);
      this.#starts.delete(key);
    } else {
      this.end(key);
    }
  }

  end(key) {
    this.#starts.get(key)?.succeed();
    this.#starts.delete(key);
  }

  forget(key) {
    this.#starts.get(key)?.dismiss();
    this.#starts.delete(key);
  }

  #startOf(key, session) {
    if (!this.#starts.has(key)) {
      this.#starts.set(key, new Start(this.#context, session));
    }
    return this.#starts.get(key);
  }
}

/** The start of one kernel. */
class Start {
  #trans;
  #format;
  #name;
  #notice;
  #begun = Date.now();
  #last = null;
  #timer = null;

  constructor({ lab, trans, format }, session) {
    this.#trans = trans;
    this.#format = format;
    this.#name = shortened(shortName(session), LONGEST_NAME);
    this.#notice = new Notice(lab, trans);
    this.#timer = setTimeout(() => this.#show(), PATIENCE);
  }

  progress(event) {
    this.#last = event;
    if (this.#notice.isShown) {
      this.#show();
    }
  }

  succeed() {
    clearTimeout(this.#timer);
    if (this.#notice.isShown) {
      const span = this.#format.span(Date.now() - this.#begun);
      this.#notice.succeed(
        this.#trans.__("The volume of %1 is ready (%2).", this.#name, span),
      );
    }
  }

  fail({ message }) {
    clearTimeout(this.#timer);
    this.#notice.fail(message);
  }

  dismiss() {
    clearTimeout(this.#timer);
    this.#notice.dismiss();
  }

  #show() {
    const { step, message, fraction } = this.#last;
    const share = fraction === null ? "" : ` ${Math.floor(100 * fraction)} %`;
    this.#notice.progress(
      this.#trans.__(
        "Preparing %1\n%2%3: %4",
        this.#name,
        step,
        share,
        shortened(message, LONGEST_MESSAGE),
      ),
    );
  }
}
