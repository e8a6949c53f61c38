// A watch that cannot work for a fault of one's own ends and says so, instead of trying for ever.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Watch } from "./watch.js";

const serviceConfig = "../../docs/service-config.json";
const door = { endpoint: "127.0.0.1:1", tokenFile: "none.token", serviceConfig, ca: "" };

async function follow(doors) {
  const signal = AbortSignal.timeout(60_000);
  for await (const message of new Watch(doors).follow(signal)) assert.fail(message);
  signal.throwIfAborted();
}

test("a watch without its service config ends", async () => {
  await assert.rejects(follow([{ ...door, serviceConfig: "none.json" }]), { code: "ENOENT" });
});

test("a watch without its certificate ends", async () => {
  await assert.rejects(follow([{ ...door, ca: "none.pem" }]), { code: "ENOENT" });
});

test("a watch without its token ends", async () => {
  await assert.rejects(follow([door]), /none\.token/);
});

test("a watch without a replica goes on until it is told to end", async () => {
  const tokenFile = join(tmpdir(), `token-of-${process.pid}`);
  writeFileSync(tokenFile, "token", { mode: 0o600 });
  const watch = new Watch([{ ...door, tokenFile }]);
  const ending = new AbortController();
  const following = watch.follow(ending.signal).next();
  while (watch.reconnects < 2) await new Promise((resume) => setTimeout(resume, 20));
  ending.abort();
  assert.deepEqual(await following, { value: undefined, done: true });
});
