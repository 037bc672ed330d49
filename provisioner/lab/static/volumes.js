const INTERVAL = 30_000;
const FRESH = 5000;

/** Events that change what a list shows; progress does not. */
const FAMILIES = ["volume", "cull"];

/** The server's volumes, fetched again while a view shows them. */
export class Volumes {
  #watchers = [];
  #poll;
  #asked = 0;

  /** All of them, in the order in which they are shown. */
  all = [];

  /**
   * @param lab - the shared modules
   * @param api - the REST interface
   * @param events - the server's events
   */
  constructor({ polling, signaling }, api, events) {
    this.changed = new signaling.Signal(this);
    this.#poll = new polling.Poll({
      name: "jupyter-volumes:volumes",
      factory: async () => {
        this.#asked = Date.now();
        this.all = (await api.list()).sort(byLiveliness);
        // Listeners may refresh at once: an answer that took long counts as fresh nevertheless.
        this.#asked = Date.now();
        this.changed.emit();
      },
      frequency: { interval: INTERVAL, backoff: true, max: 10 * INTERVAL },
      standby: () =>
        this.#watchers.some((isWatching) => isWatching())
          ? "when-hidden"
          : true,
    });
    for (const family of FAMILIES) {
      events.subscribe(family, () => this.refresh());
    }
  }

  /** Fetch volumes every half minute as long as `isWatching()`. */
  watch(isWatching) {
    this.#watchers.push(isWatching);
  }

  /** Fetch them now, if a view shows them. */
  refresh() {
    return this.#poll.refresh();
  }

  /** Fetch them unless that was just done. */
  freshen() {
    if (Date.now() - this.#asked > FRESH) {
      void this.refresh();
    }
  }

  /** The volume with an id, as last fetched. */
  find(id) {
    return this.all.find((volume) => volume.id === id) ?? null;
  }
}

function byLiveliness(a, b) {
  const order = ["active", "stopped", "pruned"];
  return (
    order.indexOf(a.state) - order.indexOf(b.state) ||
    a.name.localeCompare(b.name) ||
    a.session.localeCompare(b.session)
  );
}
