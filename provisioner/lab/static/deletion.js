import { element } from "./element.js";

/**
 * Ask for confirmation before a volume's files are deleted: the user types its name.
 *
 * @returns whether the user confirmed
 */
export async function confirmed({ lab, trans, summary }, volume) {
  const { Dialog } = lab.apputils;
  const field = element("input", {
    class: "jp-mod-styled",
    type: "text",
    autocomplete: "off",
    spellcheck: "false",
    required: "",
    pattern: [volume.name, volume.session].map(escaped).join("|"),
    "aria-label": trans.__("Name of the volume"),
  });
  const body = new lab.widgets.Widget({
    node: element(
      "div",
      { class: "jp-Volumes-deletion" },
      element("p", {}, loss(trans, summary, volume)),
      element("label", {}, trans.__("Type %1 to confirm:", volume.name), field),
    ),
  });
  body.getValue = () => field.value;
  const dialog = new Dialog({
    title: trans.__("Delete the files of %1?", volume.name),
    body,
    buttons: [
      Dialog.cancelButton(),
      Dialog.warnButton({ label: trans.__("Delete") }),
    ],
    focusNodeSelector: "input",
  });
  const answer = dialog.launch();
  // JupyterLab validates the field only at the first input; until then its button would be enabled.
  requestAnimationFrame(() =>
    field.dispatchEvent(new Event("input", { bubbles: true })),
  );
  const { button, value } = await answer;
  return button.accept && [volume.name, volume.session].includes(value);
}

function loss(trans, summary, { backup, path }) {
  if (backup === null) {
    return trans.__(
      "%1 is deleted from disk. There is no backup: all of it is lost.",
      path,
    );
  }
  const when = summary.backup({ backup });
  return backup.current
    ? trans.__(
        "%1 is deleted from disk. Its backup stays and holds all of it (%2).",
        path,
        when,
      )
    : trans.__(
        "%1 is deleted from disk. What has changed since its backup is lost (%2).",
        path,
        when,
      );
}

function escaped(text) {
  // For the pattern of an input element, which has the flag v.
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}
