package rpc

import (
	"context"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/watch"
)

func TestStreamsPauseBetweenRoundsAboveTheRateOnly(t *testing.T) {
	t.Parallel()
	m := clock.NewManual(time.Unix(1000, 0))
	p := newPace(m)
	event := func(id int64) *watch.Message { return &watch.Message{WatchID: id, Events: [][]byte{{1}}} }

	if d := p.spend(paceBurst); d > 0 {
		t.Errorf("a burst pauses for %v", d)
	}
	const more = 100
	if d, want := p.spend(more), time.Duration(more*p.interval); d != want {
		t.Errorf("after it %d messages pause for %v, want %v", more, d, want)
	}
	if d := p.spend(1 << 30); d != pacePause {
		t.Errorf("very many pause for %v, want %v", d, pacePause)
	}
	m.Advance(pacePause + time.Second)
	if d := p.spend(paceBurst); d > 0 {
		t.Errorf("a second later a burst pauses for %v", d)
	}

	p.spend(1 << 30)
	ctx, cancel := context.WithCancel(t.Context())
	var r round
	for _, m := range []*watch.Message{event(1), event(2), {WatchID: 1}, event(3)} {
		if r.ends(m) {
			t.Errorf("a round ends with %v", m)
		}
	}
	if !r.ends(event(1)) {
		t.Error("a round does not end with its first watcher")
	}
	paused := make(chan struct{})
	go func() {
		r.pause(ctx, p)
		close(paused)
	}()
	m.WaitPending(1)
	select {
	case <-paused:
		t.Error("no pause after a round")
	default:
	}
	m.Advance(pacePause)
	<-paused
	p.spend(1 << 30)
	cancel()
	if r.ends(event(7)) || !r.ends(event(7)) {
		t.Error("a round of one watcher is not one message")
	}
	r.pause(ctx, p) // ends with the context
}
