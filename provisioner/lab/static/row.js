import { icons } from "./icons.js";

/**
 * Return a volume's row in the panel as a React element.
 *
 * JupyterLab's search finds it by the texts in `children`; `Row` renders the visible row from the other properties.
 */
export function rowOf(context, volume) {
  return context.lab.react.createElement(Row, {
    context,
    volume,
    children: [volume.name, volume.session],
  });
}

function Row({ context, volume }) {
  const { createElement } = context.lab.react;
  const { summary } = context;
  return createElement(
    "span",
    { className: "jp-Volumes-row" },
    createElement("span", { className: "jp-Volumes-name" }, volume.name),
    createElement(
      "span",
      { className: "jp-Volumes-actions" },
      ...buttonsOf(context, volume).map((button) =>
        createElement(ActionButton, { ...button, context, key: button.icon }),
      ),
    ),
    createElement(
      "span",
      { className: "jp-Volumes-line" },
      summary.line(volume),
    ),
  );
}

function buttonsOf({ trans, actions }, volume) {
  const { name, state, pinned } = volume;
  return [
    {
      icon: "pin",
      label: pinned ? trans.__("Unpin %1", name) : trans.__("Pin %1", name),
      pressed: pinned,
      act: () => actions.togglePin(volume),
    },
    state === "pruned"
      ? {
          icon: "restore",
          label: trans.__("Restore %1", name),
          act: () => actions.restore(volume),
        }
      : {
          icon: "backup",
          label: trans.__("Back up %1", name),
          act: () => actions.backUp(volume),
        },
    state === "stopped" && {
      icon: "remove",
      label: trans.__("Delete the files of %1", name),
      act: () => actions.remove(volume),
    },
  ].filter(Boolean);
}

function ActionButton({ context, icon, label, pressed, act }) {
  const { createElement, useEffect, useRef } = context.lab.react;
  const ref = useRef(null);
  useEffect(() => {
    const button = ref.current;
    // The surrounding tree handles Enter and clicks itself, before React's listeners at the root receive them.
    const click = (event) => {
      event.stopPropagation();
      void act();
    };
    const keep = (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.stopPropagation();
      }
    };
    button.addEventListener("click", click);
    button.addEventListener("keydown", keep);
    return () => {
      button.removeEventListener("click", click);
      button.removeEventListener("keydown", keep);
    };
  });
  return createElement(
    "button",
    {
      ref,
      type: "button",
      className: "jp-Volumes-action",
      title: label,
      "aria-label": label,
      "aria-pressed": pressed,
    },
    createElement(icons(context.lab)[icon].react, { tag: "span" }),
  );
}
