const PREFIX = "https://events.jupyter.org/jupyter_volumes/";

/** The server's events about volumes, by family: `volume`, `hydration` and `cull`. */
export class EventFeed {
  #events;

  /** @param events - JupyterLab's event manager */
  constructor(events) {
    this.#events = events;
  }

  /** Call `listener` with the data of every event of a family, version 1. */
  subscribe(family, listener) {
    const schema = `${PREFIX}${family}/v1`;
    this.#events.stream.connect((_, { schema_id: id, ...data }) => {
      if (id === schema) {
        listener(data);
      }
    });
  }
}
