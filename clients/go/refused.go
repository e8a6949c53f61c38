package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	stead "stead.example/client/gen/stead/v1"
)

// refusals asks for what stead must refuse, and reads why. The instance is ACTIVE.
func refusals(
	ctx context.Context, cloud *Cloud, wish *stead.CreateInstanceRequest, instance *stead.Instance,
) ([]string, error) {
	var reasons []string
	expect := func(err error, code codes.Code, reason string, details func(Refusal) []string) error {
		refusal := RefusalOf(err)
		fmt.Println("refused:", refusal)
		if refusal.Code != code || refusal.Reason != reason || len(details(refusal)) == 0 {
			return fmt.Errorf("wanted %s %s with its details, got %s", code, reason, refusal)
		}
		reasons = append(reasons, reason)
		return nil
	}
	nameless := proto.Clone(wish).(*stead.CreateInstanceRequest)
	nameless.RequestId, nameless.Name = uuid.NewString(), " "
	_, err := cloud.Instances.CreateInstance(ctx, nameless)
	if err := expect(err, codes.InvalidArgument, "INVALID_FIELD", fields); err != nil {
		return nil, err
	}
	_, err = cloud.Instances.StartInstance(ctx, &stead.StartInstanceRequest{
		RequestId: uuid.NewString(), Id: instance.Id})
	if err := expect(err, codes.FailedPrecondition, "INVALID_INSTANCE_STATE", preconditions); err != nil {
		return nil, err
	}
	_, err = cloud.Instances.UpdateInstance(ctx, &stead.UpdateInstanceRequest{
		RequestId:  uuid.NewString(),
		Id:         instance.Id,
		Labels:     map[string]string{"lost": "update"},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"labels"}},
		Etag:       instance.Etag, // of the version that was just created
	})
	if err := expect(err, codes.Aborted, "ETAG_MISMATCH", anything); err != nil {
		return nil, err
	}
	quota, err := cloud.Quotas.GetQuota(ctx, &stead.GetQuotaRequest{})
	if err != nil {
		return nil, err
	}
	limit, used := quota.Quota.Limits.Instances, quota.Quota.Used.Instances
	if limit >= 0 && used >= limit {
		another := proto.Clone(wish).(*stead.CreateInstanceRequest)
		another.RequestId, another.Name = uuid.NewString(), wish.Name+"-more"
		_, err = cloud.Instances.CreateInstance(ctx, another)
		if err := expect(err, codes.ResourceExhausted, "QUOTA_EXCEEDED", quotas); err != nil {
			return nil, err
		}
	}
	return reasons, nil
}

func fields(r Refusal) []string        { return r.Fields }
func preconditions(r Refusal) []string { return r.Preconditions }
func quotas(r Refusal) []string        { return r.Quotas }
func anything(r Refusal) []string      { return []string{r.Message} }
