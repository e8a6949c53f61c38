// How a cloud is reached and as whom: one connection, the token on every call, UNAVAILABLE tried again.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { FlavorService } from "./gen/stead/v1/flavor_pb.js";
import { ImageService } from "./gen/stead/v1/image_pb.js";
import { InstanceService } from "./gen/stead/v1/instance_pb.js";
import { OperationService } from "./gen/stead/v1/operation_pb.js";
import { QuotaService } from "./gen/stead/v1/quota_pb.js";

const CALL_MS = 60_000;
const PING_MS = 60_000;

/** Opens a connection; the first call on it connects. `ca` is a PEM for TLS, empty without. */
export function dial({ endpoint, tokenFile, serviceConfig, ca }) {
  const baseUrl = `${ca ? "https" : "http"}://${endpoint}`;
  const sessionManager = new Http2SessionManager(
    baseUrl,
    { pingIntervalMs: PING_MS },
    ca ? { ca: readFileSync(ca) } : {},
  );
  const transport = createGrpcTransport({
    baseUrl,
    sessionManager,
    defaultTimeoutMs: CALL_MS,
    interceptors: [withToken(tokenFile), withRetries(JSON.parse(readFileSync(serviceConfig, "utf8")))],
  });
  return {
    instances: createClient(InstanceService, transport),
    operations: createClient(OperationService, transport),
    flavors: createClient(FlavorService, transport),
    images: createClient(ImageService, transport),
    quotas: createClient(QuotaService, transport),
    close: () => sessionManager.abort(),
  };
}

// The file is read anew for each call: a token expires, and whoever renews it replaces the file.
function withToken(file) {
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${tokenIn(file)}`);
    return next(request);
  };
}

function tokenIn(file) {
  try {
    return readFileSync(file, "utf8").trim();
  } catch (error) {
    // Connect would make it "Unknown", as which a broken line may come too.
    throw new ConnectError(error.message, Code.Unauthenticated);
  }
}

// gRPC's own libraries read the service config by themselves; this one has to be told.
function withRetries(config) {
  const policies = new Map();
  for (const { name, retryPolicy } of config.methodConfig) {
    for (const { service, method } of name) policies.set(`${service}/${method}`, retryPolicy);
  }
  return (next) => async (request) => {
    const policy = policies.get(`${request.service.typeName}/${request.method.name}`);
    if (request.stream || !policy) return await next(request);
    let wait = seconds(policy.initialBackoff);
    for (let attempt = 1; ; attempt++) {
      try {
        return await next(request);
      } catch (error) {
        const tryAgain = ConnectError.from(error).code === Code.Unavailable;
        if (!tryAgain || attempt === policy.maxAttempts || request.signal.aborted) throw error;
      }
      await sleep(1000 * wait * (0.8 + 0.4 * Math.random()), undefined, { signal: request.signal });
      wait = Math.min(wait * policy.backoffMultiplier, seconds(policy.maxBackoff));
    }
  };
}

const seconds = (duration) => Number.parseFloat(duration);
