// What stead says when it does not do what was asked.
import { Code, ConnectError } from "@connectrpc/connect";

import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  QuotaFailureSchema,
} from "./gen/google/rpc/error_details_pb.js";

/** Reads the error of a call. An error without a reason came from the road, not from stead. */
export function refusalOf(thrown) {
  const error = ConnectError.from(thrown);
  const info = error.findDetails(ErrorInfoSchema).find((found) => found.domain === "stead");
  const fields = error.findDetails(BadRequestSchema).flatMap((found) => found.fieldViolations);
  const conditions = error.findDetails(PreconditionFailureSchema).flatMap((found) => found.violations);
  const quotas = error.findDetails(QuotaFailureSchema).flatMap((found) => found.violations);
  return {
    code: Code[error.code], // e.g. "FailedPrecondition"
    reason: info?.reason ?? "", // stable, in docs/errors.md; programs decide by it
    message: error.rawMessage, // for people
    metadata: info?.metadata ?? {}, // the variables of the message
    fields: fields.map(({ field, description }) => `${field}: ${description}`),
    preconditions: conditions.map(({ type, subject }) => `${type} of ${subject}`),
    quotas: quotas.map(({ subject, description }) => `${subject}: ${description}`),
  };
}

/** A refusal in one line. */
export function told({ code, reason, message, fields, preconditions, quotas }) {
  return `${code} ${reason}: ${message} [${[...fields, ...preconditions, ...quotas].join("; ")}]`;
}
