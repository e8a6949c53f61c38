// A small program that uses stead as a stranger would, with nothing but its contract: it makes an
// instance, follows it through forced reconnects, is refused in four ways, renames it, removes it.
//
// It ends with 0 only if everything was as promised; its last line says in JSON what it saw.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/google/uuid"

	stead "stead.example/client/gen/stead/v1"
)

const patience = 2 * time.Minute

// Seen is what the program prints at its end.
type Seen struct {
	Versions   []int64  `json:"versions"`
	States     []string `json:"states"`
	Reconnects int      `json:"reconnects"`
	Reasons    []string `json:"reasons"`
	Work       []string `json:"work"`
}

func main() {
	endpoints := flag.String("endpoints", os.Getenv("STEAD_ENDPOINT"), "HOST:PORT of each api, by comma")
	tokenFile := flag.String("token-file", os.Getenv("STEAD_TOKEN_FILE"), "holds the token")
	config := flag.String("service-config", "../../docs/service-config.json", "which calls are tried again")
	ca := flag.String("ca", "", "PEM of the proxy's certificate authority; empty without TLS")
	flavor := flag.String("flavor", "tiny", "name of a flavor")
	image := flag.String("image", "guest", "name of an image")
	flag.Parse()
	var doors []Door
	for _, endpoint := range strings.Split(*endpoints, ",") {
		doors = append(doors, Door{endpoint, *tokenFile, *config, *ca})
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	seen, err := live(ctx, doors, *flavor, *image)
	if err != nil {
		fmt.Fprintln(os.Stderr, "not as promised:", err)
		os.Exit(1)
	}
	line, _ := json.Marshal(seen)
	fmt.Println(string(line))
}

// live leads one instance through its life and compares with what was promised.
func live(ctx context.Context, doors []Door, flavorName, imageName string) (*Seen, error) {
	cloud, err := Dial(doors[0])
	if err != nil {
		return nil, err
	}
	defer cloud.Close()
	journal := newJournal(&Watch{Doors: doors, CutEach: true})
	following, stop := context.WithCancel(ctx)
	defer stop()
	go journal.keep(following)
	if err := journal.snapshot(ctx); err != nil {
		return nil, err
	}
	wish, err := wish(ctx, cloud, flavorName, imageName)
	if err != nil {
		return nil, err
	}
	instance, err := create(ctx, cloud, wish)
	if err != nil {
		return nil, err
	}
	if err := journal.until(ctx, instance.Id, stead.InstanceState_INSTANCE_STATE_ACTIVE); err != nil {
		return nil, err
	}
	reasons, err := refusals(ctx, cloud, wish, instance)
	if err != nil {
		return nil, err
	}
	if err := rename(ctx, cloud, instance.Id, wish.Name+"-renamed"); err != nil {
		return nil, err
	}
	if err := remove(ctx, cloud, instance.Id); err != nil {
		return nil, err
	}
	if err := journal.until(ctx, instance.Id, stead.InstanceState_INSTANCE_STATE_DELETED); err != nil {
		return nil, err
	}
	stop()
	seen, err := journal.seen(instance.Id)
	if err != nil {
		return nil, err
	}
	seen.Reasons = reasons
	seen.Work, err = history(ctx, cloud, instance.Id)
	return seen, err
}

// wish looks flavor and image up by name and puts a request together.
func wish(ctx context.Context, cloud *Cloud, flavor, image string) (*stead.CreateInstanceRequest, error) {
	flavors, err := cloud.Flavors.ListFlavors(ctx, &stead.ListFlavorsRequest{
		Filter: fmt.Sprintf("name = %q", flavor)})
	if err != nil {
		return nil, err
	}
	images, err := cloud.Images.ListImages(ctx, &stead.ListImagesRequest{
		Filter: fmt.Sprintf("name = %q", image)})
	if err != nil {
		return nil, err
	}
	if len(flavors.Flavors) != 1 || len(images.Images) != 1 {
		return nil, fmt.Errorf("needs one flavor %q and one image %q", flavor, image)
	}
	return &stead.CreateInstanceRequest{
		RequestId: uuid.NewString(),
		Name:      "go-" + uuid.NewString()[:8],
		FlavorId:  flavors.Flavors[0].Id,
		ImageId:   images.Images[0].Id,
		Labels:    map[string]string{"made-by": "clients/go"},
	}, nil
}

// create sends the wish twice, as one does who lost the first answer: it is one instance.
func create(ctx context.Context, cloud *Cloud, wish *stead.CreateInstanceRequest) (*stead.Instance, error) {
	first, err := cloud.Instances.CreateInstance(ctx, wish)
	if err != nil {
		return nil, err
	}
	again, err := cloud.Instances.CreateInstance(ctx, wish)
	if err != nil {
		return nil, err
	}
	if first.Instance.Id != again.Instance.Id || first.Operation.Id != again.Operation.Id {
		return nil, fmt.Errorf("one request id made two instances: %v, %v", first, again)
	}
	fmt.Printf("created %s (%s)\n", first.Instance.Name, first.Instance.Id)
	return first.Instance, nil
}

// rename reads, changes and writes; should somebody else have written between, it begins again.
func rename(ctx context.Context, cloud *Cloud, id, name string) error {
	for {
		read, err := cloud.Instances.GetInstance(ctx, &stead.GetInstanceRequest{Id: id})
		if err != nil {
			return err
		}
		_, err = cloud.Instances.UpdateInstance(ctx, &stead.UpdateInstanceRequest{
			RequestId:  uuid.NewString(),
			Id:         id,
			Name:       name,
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}},
			Etag:       read.Instance.Etag,
		})
		if err == nil || RefusalOf(err).Reason != "ETAG_MISMATCH" {
			return err
		}
	}
}

// remove deletes and waits for the end of the work, at most 30 s a call.
func remove(ctx context.Context, cloud *Cloud, id string) error {
	deleted, err := cloud.Instances.DeleteInstance(ctx, &stead.DeleteInstanceRequest{
		RequestId: uuid.NewString(), Id: id})
	if err != nil {
		return err
	}
	operation := deleted.Operation
	for operation.State == stead.OperationState_OPERATION_STATE_RUNNING {
		waited, err := cloud.Operations.WaitOperation(ctx, &stead.WaitOperationRequest{
			Id: operation.Id, Timeout: durationpb.New(30 * time.Second)})
		if err != nil {
			return err
		}
		operation = waited.Operation
	}
	if operation.State != stead.OperationState_OPERATION_STATE_DONE {
		return fmt.Errorf("not removed: %v", operation.Error)
	}
	return nil
}

// history lists the work on one instance, oldest first, in pages that are true to one revision.
func history(ctx context.Context, cloud *Cloud, id string) ([]string, error) {
	var actions []string
	page := &stead.ListOperationsResponse{}
	for {
		var err error
		page, err = cloud.Operations.ListOperations(ctx, &stead.ListOperationsRequest{
			Filter:    fmt.Sprintf("resource_id = %q", id),
			PageSize:  1, // 100 if not said, 1,000 at most
			PageToken: page.NextPageToken,
		})
		if err != nil {
			return nil, err
		}
		for _, operation := range page.Operations {
			actions = append(actions, operation.Action.String())
		}
		if page.NextPageToken == "" {
			return actions, nil
		}
	}
}
