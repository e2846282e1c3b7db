package watch

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

// drain reads what comes from a stream without waiting and returns how many events that was.
func drain(t *testing.T, s *Stream) (events int) {
	t.Helper()
	for {
		m, err := s.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if m == nil {
			return events
		}
		events += len(m.Events)
	}
}

// TestAllStreamsTogetherHoldNoMoreThanTheBound: clients that do not read fill it; those that read get all their events, in
// step or behind.
func TestAllStreamsTogetherHoldNoMoreThanTheBound(t *testing.T) {
	t.Parallel()
	const total, revisions, slowMax = 64 << 10, 400, 20
	l := newLab(t, Options{TotalBytes: total, RingBytes: 4 << 10})
	value := strings.Repeat("v", 512)
	var slow []*Stream
	for range slowMax {
		s := l.hub.NewStream()
		s.Create(Spec{Key: []byte("k")})
		slow = append(slow, s)
	}
	reader := l.hub.NewStream()
	reader.Create(Spec{Key: []byte("k")})
	got := 0
	for i := range revisions {
		l.write(put("k", value+strconv.Itoa(i)))
		l.hub.mu.Lock()
		l.hub.distribute()
		l.hub.mu.Unlock()
		if held := l.hub.Stats().Held; held > total {
			t.Fatalf("%d bytes are held after %d revisions, want %d at most", held, i, total)
		}
		if i%50 == 0 {
			got += drain(t, reader)
		}
	}
	if st := l.hub.Stats(); st.Behind < slowMax {
		t.Errorf("%d watchers fell behind, want all that do not read", st.Behind)
	}
	late := l.hub.NewStream()
	late.Create(Spec{Key: []byte("k"), Start: 2})
	if got += drain(t, reader); got != revisions {
		t.Errorf("the client that reads has %d events of %d", got, revisions)
	}
	if n := drain(t, late); n != revisions {
		t.Errorf("one that begins in the past has %d events of %d", n, revisions)
	}
	for i, s := range slow[:slowMax/2] {
		if n := drain(t, s); n != revisions {
			t.Errorf("slow client %d has %d events of %d", i, n, revisions)
		}
	}
	for _, s := range slow {
		s.Close()
	}
	reader.Close()
	late.Close()
	if held := l.hub.Stats().Held; held != 0 {
		t.Errorf("%d bytes are held by nobody", held)
	}
}

// TestManyWatchersOfAStreamHoldNoMoreThanTheBound: what comes to them in one turn of the stream's lock counts while it comes.
func TestManyWatchersOfAStreamHoldNoMoreThanTheBound(t *testing.T) {
	t.Parallel()
	const watchers = 3 * deliverMax
	for name, o := range map[string]Options{
		"of the stream":           {QueueBytes: 64 << 10},
		"of all streams together": {TotalBytes: 64 << 10},
		"of about one turn":       {TotalBytes: deliverMax * 1100},
	} {
		l := newLab(t, o)
		s := l.hub.NewStream()
		for range watchers {
			s.Create(Spec{Key: []byte("k")})
		}
		drain(t, s)
		l.hub.mu.Lock()
		l.write(put("k", strings.Repeat("v", 1<<10)))
		l.hub.distribute()
		l.hub.mu.Unlock()
		st := l.hub.Stats()
		if bound := max(o.QueueBytes, o.TotalBytes); st.Held > bound || st.Held < bound-2<<10 {
			t.Errorf("%s: %d bytes are held, want nearly %d", name, st.Held, bound)
		}
		if st.Behind+st.Pending != watchers {
			t.Errorf("%s: %d watchers of %d are behind, and %d have their event", name, st.Behind, watchers, st.Pending)
		}
		if got := drain(t, s); got != watchers {
			t.Errorf("%s: %d events came, want %d", name, got, watchers)
		}
		if held := l.hub.Stats().Held; held != 0 || s.queued != 0 {
			t.Errorf("%s: %d bytes are held by nobody, and the stream has %d of them", name, held, s.queued)
		}
	}
}

// TestLostRevisionsAreReadByEachStreamForItself: the hub only tells the streams, whatever happens to them before they look.
func TestLostRevisionsAreReadByEachStreamForItself(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	s, other := l.hub.NewStream(), l.hub.NewStream()
	s.Create(Spec{ID: 1, Key: []byte("k")})
	s.Create(Spec{ID: 2, Key: []byte("k")})
	s.Create(Spec{ID: 3, Key: []byte("k"), Start: 5}) // in the future
	other.Create(Spec{ID: 1, Key: []byte("k")})
	drain(t, s)
	drain(t, other)
	l.commit(put("k", "1")) // 2, nobody is told
	l.commit(put("k", "2")) // 3
	l.hub.Reset()
	l.hub.mu.Lock()
	l.hub.distribute()
	l.hub.mu.Unlock()
	s.Cancel(2)
	s.Create(Spec{ID: 4, Key: []byte("k")})
	s.RequestProgress() // it would not be true
	other.Close()
	l.write(put("k", "3"), put("k2", "")) // 4
	l.hub.Reset()                         // once more, before anybody has looked
	l.write(put("k", "4"))                // 5
	got := make(map[int64]int)
	for {
		m, err := s.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if m == nil {
			break
		}
		if m.mark() {
			t.Errorf("a progress mark of revision %d while all are behind", m.Revision)
		}
		got[m.WatchID] += len(m.Events)
	}
	for id, want := range map[int64]int{1: 4, 2: 0, 3: 1, 4: 2} {
		if got[id] != want {
			t.Errorf("watcher %d has %d events, want %d", id, got[id], want)
		}
	}
	l.write(put("k", "5")) // 6
	if n := drainDistributed(t, l, s); n != 3 {
		t.Errorf("in step again, they have %d events of a put, want 3", n)
	}
	if st := l.hub.Stats(); st.Behind != 0 {
		t.Errorf("%d are behind", st.Behind)
	}
}

// drainDistributed is drain after all that was published is distributed.
func drainDistributed(t *testing.T, l *lab, s *Stream) int {
	t.Helper()
	l.hub.mu.Lock()
	l.hub.distribute()
	l.hub.mu.Unlock()
	return drain(t, s)
}

// behindBy returns a stream with one watcher that is that many revisions behind, and reads nothing of the ring.
func behindBy(t *testing.T, revisions int) (*lab, *Stream) {
	t.Helper()
	l := newLab(t, Options{RingBytes: 1})
	for i := range revisions {
		l.write(put("k"+strconv.Itoa(i%100), strconv.Itoa(i)))
	}
	s := l.hub.NewStream()
	s.Create(Spec{ID: 1, Key: []byte("k"), End: []byte("l"), Start: 2})
	if m, err := s.Poll(); err != nil || !m.Created {
		t.Fatalf("got %+v, %v", m, err)
	}
	return l, s
}

// TestMessagesOfOthersComeBetweenTheStepsOfAChunk: a watcher in step does not wait for a whole chunk on its stream.
func TestMessagesOfOthersComeBetweenTheStepsOfAChunk(t *testing.T) {
	t.Parallel()
	l, s := behindBy(t, 3*stepLoads)
	s.Create(Spec{ID: 2, Key: []byte("other")})
	if err := s.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := &s.reading.chunk; c.phase != loading || c.loaded != stepLoads {
		t.Fatalf("after two steps %d are loaded in phase %d", c.loaded, c.phase)
	}
	if m, err := s.Poll(); err != nil || !m.Created || m.WatchID != 2 {
		t.Errorf("between two steps came %+v, %v", m, err)
	}
	l.write(put("other", "1"))
	if n := drainDistributed(t, l, s); n != 3*stepLoads+1 {
		t.Errorf("%d events came", n)
	}
}

// TestWhoeverReadsHistoryRestsBetweenTheStepsOfAChunk that read something.
func TestWhoeverReadsHistoryRestsBetweenTheStepsOfAChunk(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ revisions, rests int }{
		"one step":    {100, 0},
		"three steps": {2*stepLoads + 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, s := behindBy(t, c.revisions)
			rests, bytes, want := 0, 0, 0
			s.Rest(func(_ context.Context, n int) {
				rests++
				if bytes += n; n <= 0 {
					t.Errorf("a step has read %d bytes", n)
				}
			})
			for events := 0; events < c.revisions; {
				m, err := s.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				events += len(m.Events)
			}
			for _, e := range l.events {
				want += proto.Size(e.Kv)
			}
			if rests != c.rests || rests > 0 && (bytes < want/2 || bytes > want) {
				t.Errorf("%d rests after %d bytes of %d, want %d", rests, bytes, want, c.rests)
			}
		})
	}
}

// TestAChunkUnderWayMeetsChanges: what happens between two of its steps.
func TestAChunkUnderWayMeetsChanges(t *testing.T) {
	t.Parallel()
	const revisions = 3 * stepLoads
	cases := map[string]struct {
		between func(l *lab, s *Stream)
		events  int
	}{
		"a compaction above its first revision cancels the watcher": {func(l *lab, _ *Stream) { l.compactTo(1000) }, 0},
		"one at its first revision changes nothing":                 {func(l *lab, _ *Stream) { l.compactTo(2) }, revisions},
		"its watcher is canceled":                                   {func(_ *lab, s *Stream) { s.Cancel(1) }, 0},
		"another one falls behind": {func(_ *lab, s *Stream) {
			s.Create(Spec{ID: 2, Key: []byte("k"), End: []byte("l"), Start: 2})
		}, 2 * revisions},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, s := behindBy(t, revisions)
			for range 2 {
				if err := s.catchUp(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if held := l.hub.Stats().Held; held == 0 {
				t.Error("the chunk under way is not counted")
			}
			c.between(l, s)
			if n := drain(t, s); n != c.events {
				t.Errorf("%d events came, want %d", n, c.events)
			}
			if held := l.hub.Stats().Held; held != 0 {
				t.Errorf("%d bytes are held by nobody", held)
			}
		})
	}
}

// TestTheMoreStreamsReadTheSmallerAreTheirChunks, to a bound; who has read all, or is closed, counts no more.
func TestTheMoreStreamsReadTheSmallerAreTheirChunks(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	hold := func(s *Stream, n int64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.setHeld(n)
	}
	first := l.hub.NewStream()
	want := func(n int) {
		t.Helper()
		if got := first.recordsMax(); got != n {
			t.Errorf("a chunk may have %d changes while %d streams read, want %d", got, l.hub.readers.Load(), n)
		}
	}
	want(chunkRecordsMax)
	hold(first, 1)
	hold(first, 100)
	want(chunkRecordsMax)
	others := []*Stream{l.hub.NewStream(), l.hub.NewStream(), l.hub.NewStream(), l.hub.NewStream()}
	for i, n := range []int{chunkRecordsMax / 2, chunkRecordsMax / 3, chunkRecordsMax / 4, chunkRecordsShared} {
		hold(others[i], 1)
		want(n)
	}
	for _, s := range others[:2] {
		hold(s, 0)
	}
	want(chunkRecordsMax / 3)
	others[2].Close()
	want(chunkRecordsMax / 2)
}
