/** The texts about a volume, the same wherever it is shown. */
export class Summary {
  #trans;
  #format;

  /**
   * @param trans - the translations
   * @param format - the words for sizes and times
   */
  constructor(trans, format) {
    this.#trans = trans;
    this.#format = format;
  }

  /** `active`, `stopped` or `pruned`. */
  state({ state }) {
    return {
      active: this.#trans.__("active"),
      stopped: this.#trans.__("stopped"),
      pruned: this.#trans.__("pruned"),
    }[state];
  }

  /** The size of its files; empty if it was not measured. */
  size({ bytes }) {
    return bytes === null ? "" : this.#format.size(bytes);
  }

  /** When its files are deleted from disk, or its kernel is shut down. */
  expiry({ state, pinned, prune_due: prune, idle_shutdown_at: idle }) {
    if (state === "pruned") {
      return this.#trans.__("no files on disk");
    }
    if (idle !== null) {
      const when = this.#format.relative(idle);
      return this.#trans.__("kernel shut down %1 if idle", when);
    }
    if (pinned) {
      return this.#trans.__("pinned");
    }
    if (prune !== null) {
      const when = this.#format.relative(prune);
      return this.#trans.__("deleted from disk %1", when);
    }
    return state === "active" ? "" : this.#trans.__("stays on disk");
  }

  /** The age of its newest backup, and whether the backup is complete. */
  backup({ backup, backup_due: due }) {
    if (backup === null) {
      return due === null
        ? this.#trans.__("no backup")
        : this.#trans.__("backup due %1", this.#format.relative(due));
    }
    const when = this.#format.relative(backup.created);
    return backup.current
      ? this.#trans.__("backed up %1", when)
      : this.#trans.__("last backup %1", when);
  }

  /** State and size. */
  short(volume) {
    return joined([this.state(volume), this.size(volume)], " · ");
  }

  /** All of it in one line. */
  line(volume) {
    const fate = joined([this.expiry(volume), this.backup(volume)], ", ");
    return joined([this.short(volume), fate], " · ");
  }

  /** Names and values of all properties. */
  fields(volume) {
    const __ = (...words) => this.#trans.__(...words);
    const { path, kernelspec, note, holder, prune_due: prune } = volume;
    return [
      [__("Session"), volume.session],
      [__("State"), this.short(volume)],
      [__("Held by"), holder],
      [__("Kernel"), kernelspec],
      [__("Backup"), this.backup(volume)],
      [
        __("Files"),
        prune && !volume.pinned
          ? __(
              "deleted from disk %1 (%2); a backup is kept",
              this.#format.relative(prune),
              this.#format.moment(prune),
            )
          : this.expiry(volume),
      ],
      [__("Path"), volume.state === "pruned" ? null : path],
      [__("Note"), note],
    ].filter(([, value]) => value);
  }
}

function joined(parts, separator) {
  return parts.filter(Boolean).join(separator);
}
