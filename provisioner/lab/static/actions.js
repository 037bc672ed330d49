import { confirmed } from "./deletion.js";
import { showDetails } from "./details.js";
import { follow } from "./jobs.js";

/** A volume stays in use for a moment after its kernel has ended. */
const PATIENCE = 15_000;
const LOOK = 300;

/** The operations on volumes. Each shows its own result or error; none rejects. */
export class Actions {
  #context;

  /** @param context - what all features share */
  constructor(context) {
    this.#context = context;
  }

  /** Back a volume up; shut its kernel down first if the user agrees. */
  backUp(volume) {
    const { api, trans } = this.#context;
    const { id, name } = volume;
    return this.#do(async () => {
      if (volume.kernels.length && !(await this.#stopped(volume))) {
        return;
      }
      await follow(this.#context, await api.backUp(id), {
        doing: trans.__("Backing up %1", name),
        done: trans.__("%1 is backed up.", name),
      });
    });
  }

  /** Bring a pruned volume's files back. */
  restore({ id, name }) {
    const { api, trans } = this.#context;
    return this.#do(async () =>
      follow(this.#context, await api.restore(id), {
        doing: trans.__("Restoring %1", name),
        done: trans.__("%1 is back on disk.", name),
      }),
    );
  }

  /** Pin a volume, or unpin it. */
  togglePin({ id, pinned }) {
    return this.#do(() => this.#context.api.pin(id, !pinned));
  }

  /** Keep a volume's kernels from being shut down for idleness. */
  keep(id) {
    return this.#do(() => this.#context.api.keep(id));
  }

  /** Shut down a volume's kernels, as closing their sessions does. */
  shutDown(volume) {
    return this.#do(() => this.#end(volume));
  }

  /** Delete a volume's files, after the user has typed its name. */
  remove(volume) {
    return this.#do(async () => {
      if (await confirmed(this.#context, volume)) {
        await this.#context.api.remove(volume.id, volume.session);
      }
    });
  }

  /** Copy a volume's path to the clipboard. */
  copyPath({ path }) {
    this.#context.lab.apputils.Clipboard.copyToSystem(path);
  }

  /** Whether terminals are available. */
  get hasTerminals() {
    const { app } = this.#context;
    return (
      app.serviceManager.terminals.isAvailable() &&
      app.commands.hasCommand("terminal:open")
    );
  }

  /** Open a terminal in a volume. */
  openTerminal({ path }) {
    const { app } = this.#context;
    return this.#do(async () => {
      // The command that creates terminals takes every path as relative to the server's root.
      const { name } = await app.serviceManager.terminals.startNew({
        cwd: path,
      });
      await app.commands.execute("terminal:open", { name });
    });
  }

  /** Open the notebook of a volume. */
  openNotebook({ notebook }) {
    const { commands } = this.#context.app;
    return this.#do(() =>
      commands.execute("docmanager:open", { path: notebook }),
    );
  }

  /** Show all properties of a volume. */
  showDetails(volume) {
    return this.#do(() => showDetails(this.#context, this, volume));
  }

  async #end({ kernels }) {
    const { sessions, kernels: manager } = this.#context.app.serviceManager;
    const models = [...sessions.running()];
    await Promise.all(
      kernels.map((id) => {
        const session = models.find(({ kernel }) => kernel?.id === id);
        return session ? sessions.shutdown(session.id) : manager.shutdown(id);
      }),
    );
  }

  /** Shut a volume's kernels down if the user agrees; returns whether the volume is then stopped. */
  async #stopped(volume) {
    const { lab, api, trans } = this.#context;
    const { Dialog, showDialog } = lab.apputils;
    const { button } = await showDialog({
      title: trans.__("Shut down the kernel of %1?", volume.name),
      body: trans.__(
        "Only a stopped volume can be backed up. Variables are lost, files stay.",
      ),
      buttons: [
        Dialog.cancelButton(),
        Dialog.warnButton({ label: trans.__("Shut Down and Back Up") }),
      ],
    });
    if (!button.accept) {
      return false;
    }
    await this.#end(volume);
    const deadline = Date.now() + PATIENCE;
    while ((await api.find(volume.id)).state === "active") {
      if (Date.now() > deadline) {
        throw new Error(
          trans.__("%1 is still in use; try again later.", volume.name),
        );
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK));
    }
    return true;
  }

  async #do(work) {
    const { lab, volumes } = this.#context;
    try {
      await work();
    } catch (error) {
      lab.apputils.Notification.error(error.message, { autoClose: false });
    }
    await volumes.refresh();
  }
}
