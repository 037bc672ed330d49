/** An error of the server: one line for people, a stable code for programs. */
export class Refusal extends Error {
  constructor(message, code, status) {
    super(message);
    this.name = "Refusal";
    this.code = code;
    this.status = status;
  }
}

/** The server's REST interface, `/api/volumes`. Every method throws a `Refusal`, or a network error. */
export class VolumesApi {
  #lab;
  #settings;

  /**
   * @param lab - the shared modules
   * @param settings - the server connection's settings: base URL, token, XSRF
   */
  constructor(lab, settings) {
    this.#lab = lab;
    this.#settings = settings;
  }

  /** All volumes. */
  async list() {
    const { volumes } = await this.#ask("GET");
    return volumes;
  }

  /** One volume. */
  find(id) {
    return this.#ask("GET", [id]);
  }

  /** Start a backup; returns the job. */
  backUp(id) {
    return this.#ask("POST", [id, "backup"], {});
  }

  /** Start to restore a volume from its newest backup; returns the job. */
  restore(id) {
    return this.#ask("POST", [id, "restore"], {});
  }

  /** Pin a volume, so that its files are never deleted from disk, or unpin it. */
  pin(id, pinned) {
    return this.#ask("PUT", [id, "pin"], { pinned });
  }

  /** Count a volume's kernels as active now. */
  keep(id) {
    return this.#ask("POST", [id, "keep"], {});
  }

  /** Delete a volume's files; `session` is the name that the user confirmed. Its backups stay. */
  remove(id, session) {
    return this.#ask("DELETE", [id], { session });
  }

  /** The present state of a job. */
  job(id) {
    return this.#ask("GET", ["jobs", id]);
  }

  async #ask(method, path = [], body = undefined) {
    const { ServerConnection } = this.#lab.services;
    const { URLExt } = this.#lab.coreutils;
    const response = await ServerConnection.makeRequest(
      URLExt.join(
        this.#settings.baseUrl,
        "api/volumes",
        ...path.map(encodeURIComponent),
      ),
      { method, ...(body && { body: JSON.stringify(body) }) },
      this.#settings,
    );
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) {
      const { message = response.statusText, code = "unknown" } = answer;
      throw new Refusal(message, code, response.status);
    }
    return answer;
  }
}
