package watch

import (
	"fmt"
	"testing"
)

// TestWhatAStreamUsesAgainIsBounded: neither many watchers nor many events of one leave more than the bounds, and nothing is left of
// what was given out.
func TestWhatAStreamUsesAgainIsBounded(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	s := l.hub.NewStream()
	for range 2 * spareLists {
		s.Create(Spec{Key: []byte("k")})
	}
	drain(t, s)
	for _, revisions := range []int{1, 3, 2 * spareEvents, 1} {
		for i := range revisions {
			l.write(put("k", fmt.Sprint(i)))
		}
		l.settled()
		if got, want := drain(t, s), 2*spareLists*revisions; got != want {
			t.Errorf("%d events came, want %d", got, want)
		}
		s.mu.Lock()
		lists, last := s.spare.lists, s.spare.last.Events
		s.mu.Unlock()
		if len(lists) > spareLists || len(lists) == 0 && revisions < spareEvents || len(last) > 0 || cap(last) > spareEvents {
			t.Errorf("after %d revisions: %d lists, a message with %d of %d events", revisions, len(lists), len(last), cap(last))
		}
		for _, list := range append(lists[:len(lists):len(lists)], nil) {
			for _, e := range list[:cap(list)] {
				if e != nil || cap(list) > spareEvents {
					t.Fatalf("a list for %d events holds %v", cap(list), e)
				}
			}
		}
		for _, e := range last[:cap(last)] {
			if e != nil {
				t.Fatal("the message holds an event still")
			}
		}
	}
}
