// Follows the instances of the token's project through any number of cut connections.
import { setTimeout as sleep } from "node:timers/promises";

import { ConnectError } from "@connectrpc/connect";

import { dial } from "./cloud.js";
import { refusalOf } from "./refusal.js";

const BOOKMARK_S = 5n;
const WAIT_FIRST_MS = 100;
const WAIT_MOST_MS = 5_000;
const RESUMED = new Set(["WATCH_TOO_SLOW", "API_STOPPING", "REVISION_COMPACTED", "TOKEN_EXPIRED"]);
const ROAD = new Set(["Unavailable", "DeadlineExceeded", "Internal", "Canceled", "Unknown"]);

export class Watch {
  reconnects = 0;
  #resume = ""; // the token of the last message that was handled

  /** `doors` are replicas of one cloud; `cutEach` drops the connection after each change. */
  constructor(doors, { cutEach = false } = {}) {
    this.doors = doors;
    this.cutEach = cutEach;
  }

  /**
   * Yields every change exactly once and in order, until the signal aborts; what exists comes again
   * should a snapshot be cut before its end.
   */
  async *follow(signal) {
    let wait = WAIT_FIRST_MS;
    for (;;) {
      const before = this.#resume;
      try {
        yield* this.#connect(signal);
      } catch (error) {
        if (signal.aborted) return;
        // A fault of one's own, such as a file that is not there.
        if (!(error instanceof ConnectError)) throw error;
        const refusal = refusalOf(error);
        if (!mayResume(refusal)) throw error;
        // What was missed is not kept any more: a snapshot says what is now.
        if (refusal.reason === "REVISION_COMPACTED") this.#resume = "";
        console.error("watch goes on:", error.message);
      }
      if (signal.aborted) return;
      this.reconnects++;
      if (this.#resume !== before) {
        wait = WAIT_FIRST_MS;
        continue;
      }
      await sleep(wait, undefined, { signal }).catch(() => {});
      wait = Math.min(2 * wait, WAIT_MOST_MS);
    }
  }

  // One stream on a connection of its own.
  async *#connect(signal) {
    const cloud = dial(this.doors[this.reconnects % this.doors.length]);
    try {
      const stream = cloud.instances.watchInstances(
        { resumeToken: this.#resume, bookmarkInterval: { seconds: BOOKMARK_S } },
        { signal, timeoutMs: 0 },
      );
      for await (const message of stream) {
        yield message;
        this.#resume = message.resumeToken;
        if (this.cutEach && message.event.case === "change") return;
      }
    } finally {
      cloud.close();
    }
  }
}

// Tells a lost stream from one that would be refused again. What has one of these codes and no reason
// of stead's is a failure of the road: a proxy's timeout, a killed replica, a broken line.
function mayResume({ reason, code }) {
  if (RESUMED.has(reason)) return true;
  return reason === "" ? ROAD.has(code) : code === "Unavailable";
}
