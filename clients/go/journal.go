package main

import (
	"context"
	"fmt"
	"sync"

	stead "stead.example/client/gen/stead/v1"
)

// journal keeps every change that the watch hands over, and complains of a repeated or missing one.
type journal struct {
	watch    *Watch
	lock     sync.Mutex
	changed  chan struct{} // closed and replaced at each change
	ready    bool
	revision int64
	versions map[string][]*stead.Instance
	failed   error
	ended    chan struct{}
}

func newJournal(watch *Watch) *journal {
	return &journal{
		watch:    watch,
		changed:  make(chan struct{}),
		versions: map[string][]*stead.Instance{},
		ended:    make(chan struct{}),
	}
}

func (j *journal) keep(ctx context.Context) {
	defer close(j.ended)
	err := j.watch.Follow(ctx, j.handle)
	j.lock.Lock()
	defer j.lock.Unlock()
	j.failed = err
	j.tell()
}

func (j *journal) tell() {
	close(j.changed)
	j.changed = make(chan struct{})
}

func (j *journal) handle(message *stead.WatchInstancesResponse) error {
	j.lock.Lock()
	defer j.lock.Unlock()
	defer j.tell()
	if message.Revision < j.revision {
		return fmt.Errorf("revision %d after %d", message.Revision, j.revision)
	}
	switch event := message.Event.(type) {
	case *stead.WatchInstancesResponse_SnapshotDone:
		j.ready = true
	case *stead.WatchInstancesResponse_Change:
		if message.Revision == j.revision {
			return fmt.Errorf("revision %d twice", j.revision)
		}
		instance := event.Change.Instance
		j.versions[instance.Id] = append(j.versions[instance.Id], instance)
		fmt.Printf("version %d %s at revision %d\n", instance.Version, instance.State, message.Revision)
	}
	j.revision = message.Revision
	return nil
}

// wait returns once `holds` does, looking again after each message.
func (j *journal) wait(ctx context.Context, what string, holds func() bool) error {
	for {
		j.lock.Lock()
		done, failed, changed := holds(), j.failed, j.changed
		j.lock.Unlock()
		if done || failed != nil {
			return failed
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the watch never showed %s", what)
		case <-changed:
		}
	}
}

func (j *journal) snapshot(ctx context.Context) error {
	return j.wait(ctx, "the end of its snapshot", func() bool { return j.ready })
}

func (j *journal) until(ctx context.Context, id string, state stead.InstanceState) error {
	return j.wait(ctx, state.String(), func() bool {
		known := j.versions[id]
		return len(known) > 0 && known[len(known)-1].State == state
	})
}

// seen gives what was seen of one instance, if that was every version once. The watch has ended.
func (j *journal) seen(id string) (*Seen, error) {
	<-j.ended
	seen := &Seen{Reconnects: j.watch.Reconnects}
	for number, instance := range j.versions[id] {
		if instance.Version != int64(number)+1 {
			return nil, fmt.Errorf("version %d came in place of %d", instance.Version, number+1)
		}
		seen.Versions = append(seen.Versions, instance.Version)
		seen.States = append(seen.States, instance.State.String())
	}
	if seen.Reconnects < len(seen.Versions)-1 {
		return nil, fmt.Errorf("%d reconnects for %d changes", seen.Reconnects, len(seen.Versions))
	}
	return seen, nil
}
