// Keeps every change that a watch hands over, and complains of a repeated or missing one.
import { EventEmitter, once } from "node:events";

import { InstanceState } from "./gen/stead/v1/instance_pb.js";

export class Journal {
  #heard = new EventEmitter();
  #ready = false;
  #revision = 0n;
  #versions = new Map();
  #failed;

  /** Keeps what the watch yields until the signal aborts. */
  async keep(watch, signal) {
    try {
      for await (const message of watch.follow(signal)) {
        this.#handle(message);
        this.#heard.emit("message");
      }
    } catch (error) {
      this.#failed = error;
      this.#heard.emit("message");
    }
  }

  #handle({ event, revision }) {
    if (revision < this.#revision) throw new Error(`revision ${revision} after ${this.#revision}`);
    if (event.case === "snapshotDone") this.#ready = true;
    if (event.case === "change") {
      if (revision === this.#revision) throw new Error(`revision ${revision} twice`);
      const { instance } = event.value;
      this.#versions.set(instance.id, [...(this.#versions.get(instance.id) ?? []), instance]);
      console.log(`version ${instance.version} ${InstanceState[instance.state]} at revision ${revision}`);
    }
    this.#revision = revision;
  }

  async #until(signal, holds) {
    while (!holds()) {
      if (this.#failed) throw this.#failed;
      await once(this.#heard, "message", { signal });
    }
  }

  /** Resolves when the snapshot is complete. */
  snapshot(signal) {
    return this.#until(signal, () => this.#ready);
  }

  /** Resolves when the newest version of an instance has that state. */
  until(id, state, signal) {
    return this.#until(signal, () => this.#versions.get(id)?.at(-1).state === state);
  }

  /** What was seen of one instance, if that was every version once. */
  seen(id) {
    const versions = this.#versions.get(id) ?? [];
    versions.forEach(({ version }, index) => {
      if (version !== BigInt(index + 1)) throw new Error(`version ${version} came in place of ${index + 1}`);
    });
    return {
      versions: versions.map(({ version }) => Number(version)),
      states: versions.map(({ state }) => InstanceState[state]),
    };
  }
}
