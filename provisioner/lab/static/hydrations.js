import { shortName, shortened } from "./format.js";
import { Notice } from "./notice.js";

export const name = "hydrations";
export const description =
  "Shows the progress of a kernel's volume while it is restored and hydrated.";
export const needs = [];

/** Milliseconds; a start that ends sooner gets no notification. */
const PATIENCE = 1000;
const LONGEST_NAME = 30;
const LONGEST_MESSAGE = 80;

export function optional() {
  return [];
}

/** Subscribe to the events. */
export function activate(context) {
  const hydrations = new Hydrations(context);
  context.events.subscribe("hydration", (event) => hydrations.onHydration(event));
  context.events.subscribe("volume", (event) => hydrations.onVolume(event));
  // An event announces the end, but a websocket that reconnects misses it.
  context.app.serviceManager.kernels.runningChanged.connect((_, models) => {
    for (const { id, execution_state: state } of models) {
      if (state === "idle" || state === "busy") {
        hydrations.kernelRuns(id);
      }
    }
  });
}

/** The notifications about volumes that are restored and hydrated for a kernel: one for each volume. */
class Hydrations {
  #context;
  #starts = new Map();

  constructor(context) {
    this.#context = context;
  }

  /** Called for each event about a restore or a hydration. */
  onHydration({ action, volume, session, ...event }) {
    if (this.#context.followed.has(volume)) {
      return;
    }
    if (action === "progress") {
      this.#startOf(volume, session).progress(event);
    } else if (action === "failed" && event.code !== "cancelled") {
      this.#startOf(volume, session).fail(event);
      this.#starts.delete(volume);
    } else if (action === "done") {
      this.#end(volume);
    } else {
      this.#forget(volume);
    }
  }

  /** Called for each other event about a volume. */
  onVolume({ action, volume }) {
    const start = this.#starts.get(volume);
    if (action === "released") {
      this.#forget(volume);
    } else if (action === "acquired") {
      start?.goOn();
    } else if (action === "restored") {
      // If the restore was for a kernel, further events follow at once; otherwise it was all.
      start?.endSoon(() => this.#end(volume));
    }
  }

  kernelRuns(kernel) {
    for (const [volume, start] of this.#starts) {
      if (start.kernel === kernel) {
        this.#end(volume);
      }
    }
  }

  #end(volume) {
    this.#starts.get(volume)?.succeed();
    this.#starts.delete(volume);
  }

  #forget(volume) {
    this.#starts.get(volume)?.dismiss();
    this.#starts.delete(volume);
  }

  #startOf(volume, session) {
    if (!this.#starts.has(volume)) {
      this.#starts.set(volume, new Start(this.#context, session));
    }
    return this.#starts.get(volume);
  }
}

/** One volume that is restored and hydrated. */
class Start {
  #trans;
  #format;
  #name;
  #notice;
  #begun = Date.now();
  #last = null;
  #timer = null;
  #pause = null;

  /** The kernel that the volume is for; empty until it is known. */
  kernel = "";

  constructor({ lab, trans, format }, session) {
    this.#trans = trans;
    this.#format = format;
    this.#name = shortened(shortName(session), LONGEST_NAME);
    this.#notice = new Notice(lab, trans);
    this.#timer = setTimeout(() => this.#show(), PATIENCE);
  }

  progress(event) {
    this.goOn();
    this.kernel ||= event.kernel_id;
    this.#last = event;
    if (this.#notice.isShown) {
      this.#show();
    }
  }

  /** Call `end` unless further progress follows at once. */
  endSoon(end) {
    this.#pause = setTimeout(end, PATIENCE);
  }

  goOn() {
    clearTimeout(this.#pause);
  }

  succeed() {
    this.#stop();
    if (this.#notice.isShown) {
      const span = this.#format.span(Date.now() - this.#begun);
      this.#notice.succeed(
        this.#trans.__("The volume of %1 is ready (%2).", this.#name, span),
      );
    }
  }

  fail({ message }) {
    this.#stop();
    // The last line of a program's output tells most; the line above the output says what to do.
    const lines = message.split("\n").filter((line) => line.trim());
    this.#notice.fail(
      message,
      this.#trans.__("%1 is not started.\n%2", this.#name, lines.at(-1)),
    );
  }

  dismiss() {
    this.#stop();
    this.#notice.dismiss();
  }

  #stop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#pause);
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
