package main

import (
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Refusal is what stead says when it does not do what was asked.
type Refusal struct {
	Code          codes.Code
	Reason        string            // stable, in docs/errors.md; programs decide by it
	Message       string            // for people
	Metadata      map[string]string // the variables of the message
	Fields        []string          // BadRequest: which fields, and why
	Preconditions []string          // PreconditionFailure: what stands in the way
	Quotas        []string          // QuotaFailure: which limits
}

// RefusalOf reads the error of a call. An error without a Reason came from the road, not from stead.
func RefusalOf(err error) Refusal {
	said := status.Convert(err)
	refusal := Refusal{Code: said.Code(), Message: said.Message()}
	for _, detail := range said.Details() {
		switch found := detail.(type) {
		case *errdetails.ErrorInfo:
			if found.Domain == "stead" {
				refusal.Reason, refusal.Metadata = found.Reason, found.Metadata
			}
		case *errdetails.BadRequest:
			for _, violation := range found.FieldViolations {
				refusal.Fields = append(refusal.Fields, violation.Field+": "+violation.Description)
			}
		case *errdetails.PreconditionFailure:
			for _, violation := range found.Violations {
				refusal.Preconditions = append(
					refusal.Preconditions, violation.Type+" of "+violation.Subject)
			}
		case *errdetails.QuotaFailure:
			for _, violation := range found.Violations {
				refusal.Quotas = append(refusal.Quotas, violation.Subject+": "+violation.Description)
			}
		}
	}
	return refusal
}

func (r Refusal) String() string {
	details := append(append(append([]string{}, r.Fields...), r.Preconditions...), r.Quotas...)
	return fmt.Sprintf("%s %s: %s [%s]", r.Code, r.Reason, r.Message, strings.Join(details, "; "))
}
