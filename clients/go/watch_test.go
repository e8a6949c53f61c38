package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	stead "stead.example/client/gen/stead/v1"
)

const config = "../../docs/service-config.json"

// follow is how a watch through that door ends; it fails the test if it goes on and on.
func follow(t *testing.T, door Door) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	watch := &Watch{Doors: []Door{door}}
	err := watch.Follow(ctx, func(*stead.WatchInstancesResponse) error { return nil })
	if ctx.Err() != nil {
		t.Fatalf("the watch went on, %d times", watch.Reconnects)
	}
	return err
}

func TestAWatchWithoutItsServiceConfigEnds(t *testing.T) {
	if err := follow(t, Door{Endpoint: "127.0.0.1:1", ServiceConfig: "none.json"}); err == nil {
		t.Fatal("it ended without a word")
	}
}

func TestAWatchWithoutItsCertificateEnds(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	door := Door{Endpoint: "127.0.0.1:1", ServiceConfig: config, CertificateCA: empty}
	if err := follow(t, door); err == nil {
		t.Fatal("it ended without a word")
	}
}

func TestAWatchWithoutItsTokenEnds(t *testing.T) {
	door := Door{Endpoint: "127.0.0.1:1", TokenFile: "none.token", ServiceConfig: config}
	if err := follow(t, door); err == nil {
		t.Fatal("it ended without a word")
	}
}
