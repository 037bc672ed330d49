import { Actions } from "./actions.js";
import { VolumesApi } from "./api.js";
import { Current } from "./current.js";
import { EventFeed } from "./events.js";
import { Format } from "./format.js";
import { Summary } from "./summary.js";
import { Volumes } from "./volumes.js";

export const description =
  "Knows the volumes of the server's kernels and what can be done to them.";
export const needs = [
  "apputils",
  "coreutils",
  "polling",
  "services",
  "signaling",
  "tokens",
  "translation",
  "widgets",
];

export function optional({ notebook, translation }) {
  return [
    translation.ITranslator,
    ...(notebook ? [notebook.INotebookTracker] : []),
  ];
}

/** Create the objects that all features share. */
export function activate(lab, app, translator, tracker) {
  const trans = (translator ?? lab.translation.nullTranslator).load(
    "jupyter_volumes",
  );
  const format = new Format(translator?.languageCode);
  const api = new VolumesApi(lab, app.serviceManager.serverSettings);
  const events = new EventFeed(app.serviceManager.events);
  const volumes = new Volumes(lab, api, events);
  const summary = new Summary(trans, format);
  const current = new Current(lab, app, volumes, tracker);
  /** The volumes of jobs that this page follows: their progress is shown only once. */
  const followed = new Set();
  const context = { lab, app, trans, format, api, events, followed };
  const actions = new Actions({ ...context, volumes, summary });
  return { ...context, volumes, summary, current, actions };
}
