package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	stead "stead.example/client/gen/stead/v1"
)

const (
	bookmarkEvery = 5 * time.Second
	waitFirst     = 100 * time.Millisecond
	waitMost      = 5 * time.Second
)

// Watch follows the instances of the token's project through any number of cut connections.
type Watch struct {
	Doors      []Door // replicas of one cloud; each new connection goes to the next one
	CutEach    bool   // drops the connection after each change, to show that nothing gets lost
	Reconnects int
	resume     string // the token of the last message that was handled
}

// Follow hands over every change exactly once and in order, until the context ends; what exists comes
// again should a snapshot be cut before its end.
func (w *Watch) Follow(
	ctx context.Context, handle func(*stead.WatchInstancesResponse) error,
) error {
	wait := waitFirst
	for {
		before := w.resume
		err := w.connect(ctx, handle)
		if ctx.Err() != nil {
			return nil
		}
		if !mayResume(err) {
			return err
		}
		if RefusalOf(err).Reason == "REVISION_COMPACTED" {
			w.resume = "" // what was missed is not kept any more: a snapshot says what is now
		}
		fmt.Fprintln(os.Stderr, "watch goes on:", err)
		w.Reconnects++
		if w.resume != before {
			wait = waitFirst
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
			wait = min(2*wait, waitMost)
		}
	}
}

// The codes with which a proxy, a broken line or a killed replica ends a stream.
var road = []codes.Code{
	codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Canceled, codes.Unknown,
}

var errCut = errors.New("cut on purpose")

// connect opens one stream on a connection of its own and handles what comes until it ends.
func (w *Watch) connect(
	ctx context.Context, handle func(*stead.WatchInstancesResponse) error,
) error {
	cloud, err := Dial(w.Doors[w.Reconnects%len(w.Doors)])
	if err != nil {
		return ownFault{err} // a file that is not there; nothing was dialled yet
	}
	defer cloud.Close()
	stream, err := cloud.Instances.WatchInstances(ctx, &stead.WatchInstancesRequest{
		ResumeToken:      w.resume,
		BookmarkInterval: durationpb.New(bookmarkEvery),
	})
	if err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := handle(message); err != nil {
			return ownFault{err}
		}
		w.resume = message.ResumeToken
		if w.CutEach && message.GetChange() != nil {
			return errCut
		}
	}
}

type ownFault struct{ error }

// mayResume tells a lost stream from one that would be refused again. What has one of these codes and
// no reason of stead's is a failure of the road: a proxy's timeout, a killed replica, a broken line.
func mayResume(err error) bool {
	var own ownFault
	if errors.As(err, &own) {
		return false
	}
	if errors.Is(err, errCut) || errors.Is(err, io.EOF) {
		return true
	}
	switch refusal := RefusalOf(err); refusal.Reason {
	case "WATCH_TOO_SLOW", "API_STOPPING", "REVISION_COMPACTED", "TOKEN_EXPIRED":
		return true
	case "":
		return slices.Contains(road, refusal.Code)
	default:
		return refusal.Code == codes.Unavailable
	}
}
