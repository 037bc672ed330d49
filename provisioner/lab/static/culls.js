import { shortName, shortened } from "./format.js";
import { ROOM } from "./notice.js";

export const name = "culls";
export const description =
  "Warns before kernels are shut down for idleness, and shows afterwards where their files are.";
export const needs = [];

const LONGEST_NAME = 30;

export function optional() {
  return [];
}

/** Subscribe to the events. */
export function activate(context) {
  const culls = new Culls(context);
  context.events.subscribe("cull", (event) => culls.onCull(event));
  // A busy kernel is kept; the server announces it at its next check, which may be a minute later.
  context.app.serviceManager.kernels.runningChanged.connect((_, models) => {
    for (const { id, execution_state: state } of models) {
      if (state === "busy") {
        culls.withdraw(id);
      }
    }
  });
}

/** The notifications about kernels shut down for idleness: one for each warned kernel. */
class Culls {
  #context;
  #warnings = new Map();

  constructor(context) {
    this.#context = context;
  }

  onCull(event) {
    this.withdraw(event.kernel_id);
    if (event.action === "warning") {
      this.#warn(event);
    } else if (event.action === "culled") {
      this.#inform(event);
    }
  }

  withdraw(kernel) {
    if (this.#warnings.has(kernel)) {
      this.#context.lab.apputils.Notification.dismiss(
        this.#warnings.get(kernel),
      );
      this.#warnings.delete(kernel);
    }
  }

  #warn({ kernel_id: kernel, session, volume, at }) {
    const { lab, trans, format, actions } = this.#context;
    const message = trans.__(
      "%1 is idle: its kernel is shut down at %2. Variables are lost then, files stay.",
      shortened(shortName(session), LONGEST_NAME),
      format.clock(at),
    );
    const keep = {
      label: trans.__("Keep running"),
      caption: trans.__("Keep the kernel of %1 running", session),
      displayType: "accent",
      callback: () => void actions.keep(volume),
    };
    this.#warnings.set(
      kernel,
      lab.apputils.Notification.warning(message, {
        autoClose: false,
        actions: [keep],
      }),
    );
  }

  #inform({ session, path, seconds }) {
    const { lab, trans, format, actions } = this.#context;
    const message = trans.__(
      "%1: idle kernel shut down after %2.\nVariables are gone, files stayed in",
      shortened(shortName(session), LONGEST_NAME),
      format.span(1000 * seconds),
    );
    const copy = {
      label: trans.__("Copy Volume Path"),
      caption: path,
      callback: () => actions.copyPath({ path }),
    };
    const where = shortened(path, ROOM - message.length - 1);
    lab.apputils.Notification.info(`${message}\n${where}`, {
      autoClose: false,
      actions: [copy],
    });
  }
}
