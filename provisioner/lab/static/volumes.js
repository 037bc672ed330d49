const INTERVAL = 30_000;
const FRESH = 5000;

/** Events that change what a list shows; progress does not. */
const FAMILIES = ["volume", "cull"];

/** The server's volumes as they were a moment ago, looked up again while somebody watches. */
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
        // Those who are told may ask again at once: an answer that took long is fresh nevertheless.
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

  /** Look volumes up every half minute as long as `isWatching()`. */
  watch(isWatching) {
    this.#watchers.push(isWatching);
  }

  /** Look them up now, if somebody watches. */
  refresh() {
    return this.#poll.refresh();
  }

  /** Look them up unless that was just done. */
  freshen() {
    if (Date.now() - this.#asked > FRESH) {
      void this.refresh();
    }
  }

  /** The volume of that id, as it was last seen. */
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
