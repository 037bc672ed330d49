/** The contents drives of the server's own files. */
const LOCAL_DRIVES = ["", "RTC"];

/** The volume of the notebook in front. */
export class Current {
  #app;
  #volumes;
  #tracker;
  #kernels = new Set();

  /** The volume, or null. */
  volume = null;

  /**
   * @param lab - the shared modules
   * @param app - the application
   * @param volumes - the volumes
   * @param tracker - the open notebooks, if the application has any
   */
  constructor({ signaling }, app, volumes, tracker) {
    this.#app = app;
    this.#volumes = volumes;
    this.#tracker = tracker;
    this.changed = new signaling.Signal(this);
    volumes.changed.connect(() => this.#look());
    volumes.watch(() => this.#panel() !== null);
    app.shell.currentChanged?.connect(() => this.#moved());
    tracker?.currentChanged.connect(() => this.#moved());
  }

  /** Called when another notebook or another kernel may be in front. */
  #moved() {
    const context = this.#panel()?.sessionContext;
    if (context && !this.#kernels.has(context)) {
      this.#kernels.add(context);
      context.kernelChanged.connect(() => this.#moved());
      context.disposed.connect(() => this.#kernels.delete(context));
    }
    this.#look();
    this.#volumes.freshen();
  }

  #look() {
    const panel = this.#panel();
    this.volume = panel && this.#volumeOf(panel);
    this.changed.emit();
  }

  /** The notebook in front; null if there is none. */
  #panel() {
    const panel = this.#tracker?.currentWidget ?? null;
    return panel !== null && panel === this.#app.shell.currentWidget
      ? panel
      : null;
  }

  #volumeOf({ sessionContext, context }) {
    const { contents } = this.#app.serviceManager;
    const kernel = sessionContext.session?.kernel?.id;
    const isLocal = LOCAL_DRIVES.includes(contents.driveName(context.path));
    const notebook = contents.localPath(context.path);
    const { all } = this.#volumes;
    return (
      all.find(({ kernels }) => kernels.includes(kernel)) ??
      all.find((volume) =>
        isLocal
          ? volume.notebook === notebook
          : volume.session === context.path,
      ) ??
      null
    );
  }
}
