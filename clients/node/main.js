// A small program that uses stead as a stranger would, with nothing but its contract: it makes an
// instance, follows it through forced reconnects, is refused in four ways, renames it, removes it.
//
// It ends with 0 only if everything was as promised; its last line says in JSON what it saw.
import { randomUUID } from "node:crypto";
import { parseArgs } from "node:util";

import { dial } from "./cloud.js";
import { InstanceState } from "./gen/stead/v1/instance_pb.js";
import { OperationAction, OperationState } from "./gen/stead/v1/operation_pb.js";
import { Journal } from "./journal.js";
import { refusalOf, told } from "./refusal.js";
import { Watch } from "./watch.js";

const PATIENCE_MS = 120_000;

const { values: flags } = parseArgs({
  options: {
    endpoints: { type: "string", default: process.env.STEAD_ENDPOINT ?? "" },
    "token-file": { type: "string", default: process.env.STEAD_TOKEN_FILE ?? "" },
    "service-config": { type: "string", default: "../../docs/service-config.json" },
    ca: { type: "string", default: "" },
    flavor: { type: "string", default: "tiny" },
    image: { type: "string", default: "guest" },
  },
});

// Leads one instance through its life and compares with what was promised.
async function live(doors, signal) {
  const cloud = dial(doors[0]);
  const watch = new Watch(doors, { cutEach: true });
  const journal = new Journal();
  const ending = new AbortController();
  const keeping = journal.keep(watch, AbortSignal.any([signal, ending.signal]));
  try {
    await journal.snapshot(signal);
    const wish = await wishFor(cloud);
    const instance = await create(cloud, wish);
    await journal.until(instance.id, InstanceState.ACTIVE, signal);
    const reasons = await refusals(cloud, wish, instance);
    await rename(cloud, instance.id, `${wish.name}-renamed`);
    await remove(cloud, instance.id);
    await journal.until(instance.id, InstanceState.DELETED, signal);
    ending.abort();
    await keeping;
    const seen = journal.seen(instance.id);
    promised(watch.reconnects >= seen.versions.length - 1, "a reconnect after each change");
    return { ...seen, reconnects: watch.reconnects, reasons, work: await history(cloud, instance.id) };
  } finally {
    ending.abort();
    cloud.close();
  }
}

// Looks flavor and image up by name and puts a request together.
async function wishFor(cloud) {
  const { flavors } = await cloud.flavors.listFlavors({ filter: `name = "${flags.flavor}"` });
  const { images } = await cloud.images.listImages({ filter: `name = "${flags.image}"` });
  promised(flavors.length === 1 && images.length === 1, `one flavor ${flags.flavor}, one image ${flags.image}`);
  return {
    requestId: randomUUID(),
    name: `node-${randomUUID().slice(0, 8)}`,
    flavorId: flavors[0].id,
    imageId: images[0].id,
    labels: { "made-by": "clients/node" },
  };
}

// Sends the wish twice, as one does who lost the first answer: it is one instance.
async function create(cloud, wish) {
  const first = await cloud.instances.createInstance(wish);
  const again = await cloud.instances.createInstance(wish);
  promised(first.instance.id === again.instance.id, "one instance for one request id");
  promised(first.operation.id === again.operation.id, "one operation for one request id");
  console.log(`created ${first.instance.name} (${first.instance.id})`);
  return first.instance;
}

// Asks for what stead must refuse, and reads why. The instance is ACTIVE.
async function refusals(cloud, wish, { id, etag }) {
  const reasons = [];
  async function expect(code, reason, details, call) {
    const refusal = await call.then(() => undefined, refusalOf);
    promised(refusal, `to be refused with ${reason}`);
    console.log("refused:", told(refusal));
    promised(refusal.code === code && refusal.reason === reason, `${code} ${reason}`);
    promised(refusal[details].length > 0, `${details} of ${reason}`);
    reasons.push(reason);
  }
  const { instances } = cloud;
  await expect(
    "InvalidArgument", "INVALID_FIELD", "fields",
    instances.createInstance({ ...wish, requestId: randomUUID(), name: " " }),
  );
  await expect(
    "FailedPrecondition", "INVALID_INSTANCE_STATE", "preconditions",
    instances.startInstance({ requestId: randomUUID(), id }),
  );
  const updateMask = { paths: ["labels"] };
  await expect(
    "Aborted", "ETAG_MISMATCH", "message", // the etag is of the version that was just created
    instances.updateInstance({ requestId: randomUUID(), id, labels: { lost: "update" }, updateMask, etag }),
  );
  const { quota } = await cloud.quotas.getQuota({});
  if (quota.limits.instances >= 0n && quota.used.instances >= quota.limits.instances) {
    await expect(
      "ResourceExhausted", "QUOTA_EXCEEDED", "quotas",
      instances.createInstance({ ...wish, requestId: randomUUID(), name: `${wish.name}-more` }),
    );
  }
  return reasons;
}

// Reads, changes and writes; should somebody else have written between, it begins again.
async function rename(cloud, id, name) {
  for (;;) {
    const { instance } = await cloud.instances.getInstance({ id });
    const updateMask = { paths: ["name"] };
    try {
      const wish = { requestId: randomUUID(), id, name, updateMask, etag: instance.etag };
      return await cloud.instances.updateInstance(wish);
    } catch (error) {
      if (refusalOf(error).reason !== "ETAG_MISMATCH") throw error;
    }
  }
}

// Deletes and waits for the end of the work, at most 30 s a call.
async function remove(cloud, id) {
  let { operation } = await cloud.instances.deleteInstance({ requestId: randomUUID(), id });
  while (operation.state === OperationState.RUNNING) {
    const timeout = { seconds: 30n };
    ({ operation } = await cloud.operations.waitOperation({ id: operation.id, timeout }));
  }
  promised(operation.state === OperationState.DONE, `an instance removed: ${operation.error?.message}`);
}

// Lists the work on one instance, oldest first, in pages that are true to one revision.
async function history(cloud, id) {
  const actions = [];
  let pageToken = "";
  do {
    const filter = `resource_id = "${id}"`;
    const pageSize = 1; // 100 if not said, 1,000 at most
    const page = await cloud.operations.listOperations({ filter, pageSize, pageToken });
    actions.push(...page.operations.map(({ action }) => OperationAction[action]));
    pageToken = page.nextPageToken;
  } while (pageToken);
  return actions;
}

function promised(holds, what) {
  if (!holds) throw new Error(`promised was ${what}`);
}

const doors = flags.endpoints.split(",").map((endpoint) => ({
  endpoint,
  tokenFile: flags["token-file"],
  serviceConfig: flags["service-config"],
  ca: flags.ca,
}));
try {
  console.log(JSON.stringify(await live(doors, AbortSignal.timeout(PATIENCE_MS))));
} catch (error) {
  console.error("not as promised:", error);
  process.exitCode = 1;
}
