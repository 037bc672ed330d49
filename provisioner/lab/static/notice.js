import { element } from "./element.js";

const PACE = 500;
const FAREWELL = 5000;

/** JupyterLab cuts messages to this many characters. */
export const ROOM = 140;

/** One notification that follows an operation from its start to its end. */
export class Notice {
  #lab;
  #trans;
  #id = null;
  #waiting = null;
  #timer = null;
  #wasSeen = false;

  /**
   * @param lab - the shared modules
   * @param trans - the translations
   */
  constructor(lab, trans) {
    this.#lab = lab;
    this.#trans = trans;
  }

  /** Whether it was ever shown. */
  get isShown() {
    return this.#id !== null;
  }

  /** Show progress; updates that come too fast to be read are skipped. */
  progress(message) {
    if (this.#timer !== null) {
      this.#waiting = message;
      return;
    }
    this.#show(message, "in-progress", {
      autoClose: this.#isHidden() ? 0 : false,
    });
    this.#timer = setTimeout(() => {
      this.#timer = null;
      const waiting = this.#waiting;
      this.#waiting = null;
      if (waiting !== null) {
        this.progress(waiting);
      }
    }, PACE);
  }

  /** Show success, and close after a while. */
  succeed(message) {
    this.#stop();
    this.#show(message, "success", {
      autoClose: this.#isHidden() ? 0 : FAREWELL,
    });
  }

  /**
   * Show failure, and stay open.
   *
   * @param message - the whole message; the tail of a program's output follows the first line
   * @param line - the part that is shown at once; the rest is on demand
   */
  fail(message, line = message) {
    // A new toast: JupyterLab does not show updates of one that the user has just hidden.
    this.dismiss();
    this.#id = null;
    const isWhole = line === message && line.length <= ROOM;
    const explain = {
      label: this.#trans.__("Show Details"),
      callback: (event) => {
        event.preventDefault();
        void this.#explain(message);
      },
    };
    this.#show(line, "error", {
      autoClose: false,
      actions: isWhole ? [] : [explain],
    });
  }

  /** Close the notification. */
  dismiss() {
    this.#stop();
    if (this.#id !== null) {
      this.#lab.apputils.Notification.dismiss(this.#id);
    }
  }

  #stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#waiting = null;
  }

  #show(message, type, options) {
    const { Notification } = this.#lab.apputils;
    const id = this.#id;
    if (
      id === null ||
      !Notification.update({ id, message, type, ...options })
    ) {
      this.#id = Notification.emit(message, type, options);
    }
  }

  /** By default, JupyterLab shows a toast that the user has hidden again at each update. */
  #isHidden() {
    const isThere =
      this.#id !== null && document.getElementById(this.#id) !== null;
    this.#wasSeen ||= isThere;
    return this.#wasSeen && !isThere;
  }

  #explain(message) {
    const { Dialog, showDialog } = this.#lab.apputils;
    return showDialog({
      title: this.#trans.__("What failed"),
      body: new this.#lab.widgets.Widget({
        node: element("pre", { class: "jp-Volumes-output" }, message),
      }),
      buttons: [Dialog.okButton({ label: this.#trans.__("Close") })],
    });
  }
}
