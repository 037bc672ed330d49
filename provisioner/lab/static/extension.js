import * as commands from "./commands.js";
import * as core from "./core.js";
import * as culls from "./culls.js";
import * as hydrations from "./hydrations.js";
import * as running from "./running.js";
import { takeShared } from "./shared.js";
import * as status from "./status.js";

/** Set in the page by the server extension; without it this extension sends no request and shows nothing. */
const SERVED = "jupyterVolumes";

/**
 * Return the plugins, as JupyterLab registers them.
 *
 * Each feature is a plugin of its own, so that each can be disabled by its id, and a module of JupyterLab that is
 * missing disables only the features that need it.
 */
export async function plugins(scope) {
  const lab = await takeShared(scope);
  if (
    !has(lab, ["coreutils", ...core.needs]) ||
    !lab.coreutils.PageConfig.getOption(SERVED)
  ) {
    return [];
  }
  const IVolumes = new lab.tokens.Token(
    "jupyter-volumes:IVolumes",
    "The volumes of the server's kernels.",
  );
  const features = [running, status, commands, culls, hydrations];
  return [
    {
      ...described("volumes", core),
      provides: IVolumes,
      optional: core.optional(lab),
      activate: (app, ...services) => core.activate(lab, app, ...services),
    },
    ...features
      .filter((feature) => has(lab, feature.needs))
      .map((feature) => ({
        ...described(feature.name, feature),
        requires: [IVolumes],
        optional: feature.optional(lab),
        activate: (app, context, ...services) =>
          feature.activate(context, ...services),
      })),
  ];
}

function described(name, { description }) {
  return { id: `jupyter-volumes:${name}`, description, autoStart: true };
}

function has(lab, names) {
  return names.every((name) => name in lab);
}
