export const name = "commands";
export const description = "Adds commands for volumes to the palette.";
export const needs = [];

export function optional({ apputils }) {
  return [apputils.ICommandPalette];
}

/** Add the commands: for the notebook in front from the palette, for a row of the panel from its context menu. */
export function activate(context, palette) {
  const { app, trans, current, volumes } = context;
  const category = trans.__("Volumes");
  const inPalette = { isPalette: true };
  for (const [id, command] of Object.entries(commandsOf(context))) {
    app.commands.addCommand(id, {
      label: ({ isPalette }) => {
        const volume = subject(context, isPalette);
        return isPalette ? command.paletteLabel(volume) : command.label(volume);
      },
      isEnabled: ({ isPalette }) => {
        const volume = subject(context, isPalette);
        return volume !== null && (command.isEnabled?.(volume) ?? true);
      },
      isVisible: () => command.isVisible?.() ?? true,
      execute: ({ isPalette }) => command.act(subject(context, isPalette)),
    });
    palette?.addItem({ command: id, category, args: inPalette });
    app.contextMenu?.addItem({ command: id, selector: ".jp-Volumes-item" });
  }
  const changed = () => app.commands.notifyCommandChanged();
  current.changed.connect(changed);
  volumes.changed.connect(changed);
}

/** The volume of a command: that of the notebook in front, or of the row that was clicked. */
function subject({ app, current, volumes }, isPalette) {
  if (isPalette) {
    return current.volume;
  }
  const row = app.contextMenuHitTest((node) =>
    node.classList.contains("jp-Volumes-item"),
  );
  return row ? volumes.find(row.dataset.context) : current.volume;
}

function commandsOf({ trans, actions }) {
  const hasFiles = ({ state }) => state !== "pruned";
  return {
    "jupyter-volumes:back-up": {
      label: () => trans.__("Back Up"),
      paletteLabel: () => trans.__("Back Up This Notebook's Volume"),
      isEnabled: hasFiles,
      act: (volume) => actions.backUp(volume),
    },
    "jupyter-volumes:pin": {
      label: (volume) => (volume?.pinned ? trans.__("Unpin") : trans.__("Pin")),
      paletteLabel: (volume) =>
        volume?.pinned
          ? trans.__("Unpin This Notebook's Volume")
          : trans.__("Pin This Notebook's Volume"),
      act: (volume) => actions.togglePin(volume),
    },
    "jupyter-volumes:copy-path": {
      label: () => trans.__("Copy Volume Path"),
      paletteLabel: () => trans.__("Copy Volume Path"),
      isEnabled: hasFiles,
      act: (volume) => actions.copyPath(volume),
    },
    "jupyter-volumes:open-terminal": {
      label: () => trans.__("Open Terminal in Volume"),
      paletteLabel: () => trans.__("Open Terminal in Volume"),
      isEnabled: hasFiles,
      isVisible: () => actions.hasTerminals,
      act: (volume) => actions.openTerminal(volume),
    },
    "jupyter-volumes:show": {
      label: () => trans.__("Show Details"),
      paletteLabel: () => trans.__("Show Details of This Notebook's Volume"),
      act: (volume) => actions.showDetails(volume),
    },
    "jupyter-volumes:delete": {
      label: () => trans.__("Delete Files…"),
      paletteLabel: () => trans.__("Delete Files of This Notebook's Volume…"),
      isEnabled: ({ state }) => state === "stopped",
      act: (volume) => actions.remove(volume),
    },
  };
}
