package proxy

import (
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func TestAWatcherBeginsWhereNothingIsMissedAndProgressIsNotHeldBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		told, now, start int64
	}{
		{"something was written meanwhile", 5, 6, 6},
		{"much was written meanwhile", 5, 90, 6},
		{"the member is behind", 5, 4, 5},
		{"the member is far behind", 90, 5, 90},
	} {
		if got := startAfter(c.told, c.now); got != c.start {
			t.Errorf("%s: it begins at %d, want %d", c.name, got, c.start)
		}
	}
}

func TestEventsThatWereToldAreLeftOut(t *testing.T) {
	t.Parallel()
	var events []*mvccpb.Event
	for _, revision := range []int64{3, 5, 5, 8} {
		events = append(events, &mvccpb.Event{Kv: &mvccpb.KeyValue{ModRevision: revision}})
	}
	for from, left := range map[int64]int{0: 4, 3: 4, 4: 3, 5: 3, 6: 1, 8: 1, 9: 0} {
		if got := since(events, from); len(got) != left || left > 0 && got[0].Kv.ModRevision < from {
			t.Errorf("from %d on: %v", from, got)
		}
	}
}

// TestAWatchGoesOnBehindWhatItsFeedWasTold: its last event may be compacted by then, and nothing that it needs.
func TestAWatchGoesOnBehindWhatItsFeedWasTold(t *testing.T) {
	t.Parallel()
	lab := newWatchLab(t)
	idle, other := lab.session(), lab.session()
	f := lab.shared(5, idle, other)
	lab.locked(func() { f.channel.line.question() })
	lab.hear(f.channel.line, &etcdserverpb.WatchResponse{WatchId: unnumbered}, 9)
	lab.hear(f.channel.line, &etcdserverpb.WatchResponse{WatchId: f.id, Canceled: true}, 0)
	for i, s := range []*session{idle, other} {
		lab.hear(s.line, &etcdserverpb.WatchResponse{Created: true}, 12)
		lab.locked(func() {
			asked := s.line.out[len(s.line.out)-1].GetCreateRequest()
			if got := asked.GetStartRevision(); got != 10 {
				t.Errorf("watch %d goes on at %d, want 10", i, got)
			}
		})
	}
}
