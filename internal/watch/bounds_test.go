package watch

import (
	"strconv"
	"testing"
)

// TestManyWatchersOfOneKeyAreServedInBoundedPieces: a stream may have any number of watchers of one key, and what is staged for
// them is events times watchers.
func TestManyWatchersOfOneKeyAreServedInBoundedPieces(t *testing.T) {
	t.Parallel()
	const watchers, revisions = 1000, 600
	l := newLab(t, Options{QueueBytes: 1 << 30})
	inStep := l.hub.NewStream()
	for range watchers {
		inStep.Create(Spec{Key: []byte("k")})
	}
	l.hub.mu.Lock()
	for i := range revisions {
		l.write(put("k", strconv.Itoa(i)))
	}
	l.hub.distribute()
	staged := 0
	for _, st := range l.hub.batch.staging.list[:cap(l.hub.batch.staging.list)] {
		staged += cap(st.events)
	}
	l.hub.mu.Unlock()
	if staged > 2*batchHits {
		t.Errorf("up to %d events were staged for those in step", staged)
	}

	behind := l.hub.NewStream()
	for range watchers {
		behind.Create(Spec{Key: []byte("k"), Start: 2})
	}
	for _, s := range []*Stream{inStep, behind} {
		got := 0
		for {
			m, err := s.Poll()
			if err != nil {
				t.Fatal(err)
			}
			if m == nil {
				break
			}
			got += len(m.Events)
			s.mu.Lock()
			pending := s.pendingN
			s.mu.Unlock()
			if s == behind && pending > chunkHitsMax+watchers {
				t.Fatalf("%d events are pending for those behind", pending)
			}
		}
		if got != watchers*revisions {
			t.Errorf("%d events came, want %d", got, watchers*revisions)
		}
	}
}

// TestEventsAreHandedOverInBoundedPieces: those of one watcher, however many are found at once.
func TestEventsAreHandedOverInBoundedPieces(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	s := l.hub.NewStream()
	s.Create(Spec{ID: 1, Key: []byte("k")})
	l.hub.mu.Lock()
	for i := range 5 * batchEvents {
		l.write(put("k", strconv.Itoa(i)))
	}
	l.hub.distribute()
	staged := cap(l.hub.batch.staging.list[:1][0].events)
	l.hub.mu.Unlock()
	if staged > 2*batchEvents {
		t.Errorf("up to %d events were staged", staged)
	}
	if n := drain(t, s); n != 5*batchEvents {
		t.Errorf("%d events came", n)
	}
}
