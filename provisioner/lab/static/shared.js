/** The modules of JupyterLab that this extension uses, by the names that it gives them. */
const MODULES = {
  apputils: "@jupyterlab/apputils",
  coreutils: "@jupyterlab/coreutils",
  notebook: "@jupyterlab/notebook",
  running: "@jupyterlab/running",
  services: "@jupyterlab/services",
  statusbar: "@jupyterlab/statusbar",
  translation: "@jupyterlab/translation",
  ui: "@jupyterlab/ui-components",
  polling: "@lumino/polling",
  signaling: "@lumino/signaling",
  tokens: "@lumino/coreutils",
  widgets: "@lumino/widgets",
  react: "react",
};

/**
 * Take modules from the share scope: the same objects that JupyterLab runs, because services are found by the identity of
 * their tokens.
 *
 * @param scope - module name to version to `{get, from}`
 * @returns the modules found, by the names above; one that is missing or fails is left out, and disables only what
 *   needs it
 */
export async function takeShared(scope) {
  const host = Object.values(scope["@jupyterlab/application"] ?? {})[0]?.from;
  const lab = {};
  await Promise.all(
    Object.entries(MODULES).map(async ([name, module]) => {
      try {
        const factory = await provided(scope[module], host).get();
        lab[name] = factory();
      } catch (error) {
        console.warn(`jupyter-volumes does without ${module}: ${error}`);
      }
    }),
  );
  return lab;
}

/** Other extensions bring copies of modules that are no singletons; the application's own is preferred. */
function provided(versions, host) {
  const entries = Object.values(versions ?? {});
  const entry = entries.find(({ from }) => from === host) ?? entries[0];
  if (!entry) {
    throw new Error("nobody provides it");
  }
  return entry;
}
