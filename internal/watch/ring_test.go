package watch

import (
	"strconv"
	"strings"
	"testing"
)

// TestTheRingIsASixteenthWhileNobodyWatches, and whoever comes then reads from history what is not in it any more.
func TestTheRingIsASixteenthWhileNobodyWatches(t *testing.T) {
	t.Parallel()
	const most, revisions = 256 << 10, 400
	l := newLab(t, Options{RingBytes: most})
	value := strings.Repeat("v", 1<<10)
	held := func(when string, bound int) int {
		t.Helper()
		for i := range revisions {
			l.write(put("k", value+strconv.Itoa(i)))
			l.hub.mu.Lock()
			l.hub.distribute()
			bytes := l.hub.ring.bytes
			l.hub.mu.Unlock()
			if bytes > bound {
				t.Fatalf("%s %d bytes are kept, want %d at most", when, bytes, bound)
			}
		}
		l.hub.mu.Lock()
		defer l.hub.mu.Unlock()
		return len(l.hub.ring.from(l.hub.ring.first()))
	}
	unwatched := held("while nobody watches", most/16)
	if unwatched == 0 {
		t.Fatal("no revision is kept while nobody watches")
	}
	s := l.hub.NewStream()
	s.Create(Spec{Key: []byte("k"), Start: 2})
	if n := drain(t, s); n != revisions {
		t.Errorf("who watches from the beginning has %d events of %d", n, revisions)
	}
	if watched := held("while somebody watches", most); watched < 8*unwatched {
		t.Errorf("%d revisions are kept while somebody watches, and %d while nobody does", watched, unwatched)
	}
	if n := drain(t, s); n != revisions {
		t.Errorf("who watches has %d events of %d", n, revisions)
	}
	s.Close()
	l.write(put("k", value))
	l.hub.mu.Lock()
	l.hub.distribute()
	bytes := l.hub.ring.bytes
	l.hub.mu.Unlock()
	if bytes > most/16 {
		t.Errorf("%d bytes are kept once nobody watches any more, want %d at most", bytes, most/16)
	}
}
