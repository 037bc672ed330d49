import { element } from "./element.js";

/**
 * Show all properties of a volume and the operations on it.
 *
 * @param context - what all features share
 * @param actions - the operations
 * @param volume - the volume
 */
export async function showDetails({ lab, trans, summary }, actions, volume) {
  const { Dialog, showDialog } = lab.apputils;
  const offered = [
    [trans.__("Copy Path"), volume.state !== "pruned", "copyPath"],
    [trans.__("Restore"), volume.state === "pruned", "restore"],
    [trans.__("Back Up"), volume.state !== "pruned", "backUp"],
    [trans.__("Pin"), !volume.pinned, "togglePin"],
    [trans.__("Unpin"), volume.pinned, "togglePin"],
  ].filter(([, isOffered]) => isOffered);
  const body = new lab.widgets.Widget({
    node: element(
      "dl",
      { class: "jp-Volumes-details" },
      ...summary
        .fields(volume)
        .flatMap(([name, value]) => [
          element("dt", {}, name),
          element("dd", {}, value),
        ]),
    ),
  });
  const { button } = await showDialog({
    title: trans.__("Volume of %1", volume.name),
    body,
    buttons: [
      ...offered.map(([label, , action]) =>
        Dialog.createButton({ label, accept: false, actions: [action] }),
      ),
      Dialog.okButton({ label: trans.__("Close") }),
    ],
    defaultButton: offered.length,
  });
  const [chosen] = button.actions;
  if (chosen) {
    await actions[chosen](volume);
  }
}
