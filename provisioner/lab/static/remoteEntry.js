/**
 * The container through which JupyterLab loads this extension: what module federation would generate, written by
 * hand, so that installing needs neither node nor a build.
 *
 * A classic script, since JupyterLab adds it as one; everything else is an ES module beside it.
 */
(() => {
  const here = document.currentScript.src;
  let scope = {};

  const parts = {
    "./extension": async () => {
      const { plugins } = await import(new URL("extension.js", here));
      // JupyterLab assigns to the module object, which fails on a real module.
      return { __esModule: true, default: await plugins(scope) };
    },
    "./style": async () => {
      const link = document.createElement("link");
      link.rel = "stylesheet";
      link.href = new URL("style.css", here);
      document.head.append(link);
      return {};
    },
  };

  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB["jupyter-volumes"] = {
    init(shared) {
      scope = shared;
    },
    async get(part) {
      const module = await parts[part]();
      return () => module;
    },
  };
})();
