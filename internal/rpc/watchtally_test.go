package rpc

import (
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/measure"
	"github.com/ashlar-kv/ashlar/internal/watch"
)

// TestAllThatAWatchWritesIsCounted: what is written at once, and what the codec encodes, in the bytes and by kind.
func TestAllThatAWatchWritesIsCounted(t *testing.T) {
	t.Parallel()
	s, m := newSolo(t), NewMeasures(false)
	w, c := serveWatch(t, s, WatchOptions{Measures: m}, Options{Measures: m})
	stream := openWatch(t, t.Context(), c)
	const watchers = 2*tallyMax + 3
	var sent int
	for range watchers {
		sent += proto.Size(ask(t, stream, &etcdserverpb.WatchCreateRequest{Key: []byte("k")}))
	}
	values := []string{"small", strings.Repeat("large", 10<<10), "small again"}
	for _, v := range values {
		put(t, s, "k", v)
		for range watchers { // a watcher's events of several revisions would be in one response
			sent += proto.Size(answer(t, stream))
		}
	}
	if err := stream.Send(&etcdserverpb.WatchRequest{
		RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{ProgressRequest: &etcdserverpb.WatchProgressRequest{}}}); err != nil {
		t.Fatal(err)
	}
	sent += proto.Size(answer(t, stream))
	w.Stop()
	wantEnd(t, stream, rpctypes.ErrGRPCStopped)
	if got := m.BytesSent.Value(); got != uint64(sent) {
		t.Errorf("%d bytes are counted, %d came", got, sent)
	}
	for what, h := range map[string]struct {
		histogram *measure.Histogram
		want      int
	}{
		"responses of events":               {m.WatchEvents, watchers * len(values)},
		"responses of events, by the event": {m.WatchEventsEach, watchers * len(values)},
		"created watchers":                  {m.WatchControls, watchers},
		"progress":                          {m.WatchProgress, 1},
	} {
		if r := h.histogram.Read(); r.Count != uint64(h.want) || r.Sum <= 0 {
			t.Errorf("%s: %d, want %d", what, r.Count, h.want)
		}
	}
}

// TestATallyTellsMessagesOfOneKind: not more than tallyMax at once, and before others come or there is a rest.
func TestATallyTellsMessagesOfOneKind(t *testing.T) {
	t.Parallel()
	m := NewMeasures(false)
	tally := watchTally{measures: m}
	event, created := &watch.Message{Events: [][]byte{{1}, {2}}}, &watch.Message{Created: true}
	write := func(x *watch.Message, n int) {
		for range n {
			tally.start(x)
			tally.wrote(x, 10)
		}
	}
	told := func(events, controls, bytes uint64) {
		t.Helper()
		if e, c, b := m.WatchEvents.Read().Count, m.WatchControls.Read().Count, m.BytesSent.Value(); e != events || c != controls || b != bytes {
			t.Errorf("%d of events, %d of controls and %d bytes are told, want %d, %d and %d", e, c, b, events, controls, bytes)
		}
	}
	write(event, tallyMax-1)
	told(0, 0, 0)
	write(event, 2)
	told(tallyMax, 0, 10*tallyMax)
	write(created, 1)
	told(tallyMax+1, 0, 10*(tallyMax+1))
	tally.rest()
	told(tallyMax+1, 1, 10*(tallyMax+2))
	if !tally.begin.IsZero() {
		t.Error("the time of rest counts for what comes next")
	}
	tally.rest()
	told(tallyMax+1, 1, 10*(tallyMax+2))
}
