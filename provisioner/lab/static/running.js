import { icons } from "./icons.js";
import { rowOf } from "./row.js";

export const name = "running";
export const description = "Lists volumes in the panel of what runs.";
export const needs = ["react", "running", "ui"];

export function optional({ running }) {
  return [running.IRunningSessionManagers];
}

/** Add the section. */
export function activate(context, managers) {
  const { lab, app, trans, volumes } = context;
  if (!managers) {
    return;
  }
  const section = new Section(context);
  volumes.watch(() => isPanelVisible(app));
  managers.add({
    name: trans.__("Volumes"),
    supportsMultipleViews: false,
    running: () => section.items(),
    runningChanged: section.changed,
    refreshRunning: () => void volumes.refresh(),
    shutdownAll: () => void section.shutDownAll(),
    shutdownLabel: trans.__("Shut Down Kernel"),
    shutdownAllLabel: trans.__("Shut Down All"),
    shutdownAllConfirmationText: trans.__(
      "Shut down the kernels of all volumes? Their files stay.",
    ),
    toolbarButtons: [section.prunedButton(lab.ui)],
  });
}

/** The items of the section. */
class Section {
  #context;
  #showsPruned = false;

  constructor(context) {
    this.#context = context;
    this.changed = new context.lab.signaling.Signal(this);
    context.volumes.changed.connect(() => this.changed.emit());
  }

  /** Called at each rendering, also when the panel becomes visible: the list is soon up to date. */
  items() {
    const { volumes } = this.#context;
    volumes.freshen();
    return volumes.all
      .filter(({ state }) => this.#showsPruned || state !== "pruned")
      .map((volume) => this.#item(volume));
  }

  async shutDownAll() {
    const { actions, volumes } = this.#context;
    await actions.shutDown({
      kernels: volumes.all.flatMap(({ kernels }) => kernels),
    });
  }

  /** A button that shows volumes without files on disk, too. */
  prunedButton({ ToolbarButton }) {
    const { lab, trans } = this.#context;
    const button = new ToolbarButton({
      icon: icons(lab).pruned,
      tooltip: trans.__("Show Pruned Volumes"),
      pressedTooltip: trans.__("Hide Pruned Volumes"),
      onClick: () => {
        this.#showsPruned = !this.#showsPruned;
        button.pressed = this.#showsPruned;
        this.changed.emit();
      },
    });
    button.id = "jupyter-volumes-pruned";
    return button;
  }

  #item(volume) {
    const { lab, actions, trans, summary } = this.#context;
    return {
      className: `jp-Volumes-item jp-Volumes-${volume.state}`,
      context: volume.id,
      icon: () => icons(lab).volume,
      label: () => rowOf(this.#context, volume),
      labelTitle: () =>
        summary
          .fields(volume)
          .map(([name, value]) => trans.__("%1: %2", name, value))
          .join("\n"),
      ...(volume.notebook && {
        open: () => void actions.openNotebook(volume),
      }),
      ...(volume.kernels.length && {
        shutdown: () => void actions.shutDown(volume),
      }),
    };
  }
}

/** Whether the panel is visible; older versions of JupyterLab have no token for it. */
function isPanelVisible({ shell }) {
  return ["left", "right"].some((area) =>
    [...shell.widgets(area)].some(
      ({ id, isVisible }) => id === "jp-running-sessions" && isVisible,
    ),
  );
}
