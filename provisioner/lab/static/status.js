import { element } from "./element.js";
import { shortened } from "./format.js";

export const name = "status";
export const description =
  "Shows the volume of the notebook in front in the status bar.";
export const needs = ["statusbar"];

const ROOM = 28;

export function optional({ statusbar }) {
  return [statusbar.IStatusBar];
}

/** Add the item. */
export function activate({ lab, trans, summary, current, actions }, statusBar) {
  if (!statusBar) {
    return;
  }
  const button = element("button", {
    type: "button",
    class: "jp-Volumes-status",
    "aria-haspopup": "dialog",
  });
  button.addEventListener("click", () => {
    if (current.volume !== null) {
      void actions.showDetails(current.volume);
    }
  });
  current.changed.connect(() => {
    const { volume } = current;
    if (volume !== null) {
      button.textContent = trans.__(
        "Volume %1: %2",
        shortened(volume.name, ROOM),
        summary.short(volume),
      );
      button.title = summary
        .fields(volume)
        .map(([field, value]) => trans.__("%1: %2", field, value))
        .join("\n");
    }
  });
  statusBar.registerStatusItem("jupyter-volumes:status", {
    item: new lab.widgets.Widget({
      node: element("div", { class: "jp-Volumes-statusItem" }, button),
    }),
    align: "left",
    rank: 10,
    isActive: () => current.volume !== null,
    activeStateChanged: current.changed,
  });
}
