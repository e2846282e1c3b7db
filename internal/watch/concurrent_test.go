package watch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// TestManyAtOnce writes and compacts beside streams that come and go, resume, cancel and ask for progress. Every message
// is checked against the model.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{RingBytes: 20_000, QueueBytes: 2000, ResponseBytes: 500})
	l.hub.in.bytesMax = 20_000
	const entries = 1500
	var streams sync.WaitGroup
	for n := range 6 {
		streams.Go(func() { follow(l, uint64(n), 1+entries) })
	}
	for i := range entries {
		k := fmt.Sprintf("k%d", i%7)
		l.write(put(k, fmt.Sprint(i)), put(k+"/more", "x"))
		if i%100 == 99 {
			l.compactTo(l.store.Revision() - 50)
		}
		if i%250 == 0 {
			_ = l.hub.Stats()
		}
	}
	streams.Wait()
}

// follow watches with one stream after the other until it has seen the revision last.
func follow(l *lab, seed, last uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	next := int64(0)
	for next <= int64(last) {
		c := l.open()
		if next == 0 || next < l.store.CompactRevision() {
			next = l.store.CompactRevision() + 1
		}
		f := c.create(all(Spec{ID: 1, Start: max(next, 1), PrevKV: seed%2 == 0, Fragment: seed%3 == 0}))
		c.create(Spec{ID: 2, Key: []byte("k1"), NoDelete: true})
		c.create(Spec{ID: 3, Key: []byte("k2"), End: []byte("k3"), Start: max(next, 1), ProgressNotify: true})
		for n := 10 + rng.IntN(60); n > 0 && !f.canceled && f.last < int64(last); n-- {
			c.next()
			switch rng.IntN(8) {
			case 0:
				c.s.RequestProgress()
			case 1:
				c.s.NotifyProgress()
			case 2:
				c.s.Cancel(2)
			}
		}
		next = max(next, f.last+1)
		if f.canceled {
			next = f.compacted
		}
		if f.fragments {
			next = f.last // the client did not get the whole revision
		}
		c.s.Close()
	}
}

func TestNextEndsWithItsContextStreamAndHub(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	ended := func(s *Stream, end func()) error {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		got := make(chan error, 1)
		go func() {
			_, err := s.Next(ctx)
			got <- err
		}()
		if end == nil {
			end = cancel
		}
		end()
		return <-got
	}
	if err := ended(l.hub.NewStream(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("the context ends: %v", err)
	}
	closed := l.hub.NewStream()
	if err := ended(closed, closed.Close); !errors.Is(err, ErrClosed) {
		t.Errorf("the stream ends: %v", err)
	}
	s := l.hub.NewStream()
	s.Create(all(Spec{}))
	l.hub.Close()
	if _, err := s.Next(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("the hub was closed: %v", err)
	}
	s = l.hub.NewStream()
	s.Create(all(Spec{}))
	l.write(put("k", "v"))
	if _, err := s.Next(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("a stream of a closed hub: %v", err)
	}
	if err := l.hub.WaitDistributed(context.Background(), 99); !errors.Is(err, ErrClosed) {
		t.Errorf("waiting for a closed hub: %v", err)
	}
	if st := l.hub.Stats(); st.Streams != 0 || st.Watchers != 0 || st.Pending != 0 {
		t.Errorf("of a closed hub is left %+v", st)
	}
}

func TestARetiredStoreIsAskedAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	for i := range 5 {
		l.write(put("k", fmt.Sprint(i)))
	}
	l.restart(Options{})
	refusals := 3
	view := l.hub.o.View
	l.hub.o.View = func(rev int64) (*mvcc.View, error) {
		if refusals > 0 {
			refusals--
			return nil, mvcc.ErrRetired
		}
		return view(rev)
	}
	c := l.open()
	c.create(all(Spec{ID: 1, Start: 2}))
	c.expect("1@6 created", "1@6 5 events")
}

func TestAFailingStoreEndsTheStreamThatReads(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken disk")
	l := newLab(t, Options{RingBytes: 1})
	l.write(put("k", "1"))
	l.settled()
	c, other := l.open(), l.open()
	other.create(all(Spec{ID: 1, PrevKV: true}))
	c.create(all(Spec{ID: 1}))
	c.expect("1@2 created")
	other.expect("1@2 created")
	l.hub.mu.Lock()
	l.hub.o.View = func(int64) (*mvcc.View, error) { return nil, broken }
	l.hub.mu.Unlock()
	l.write(put("k", "2"))
	c.expect("1@3 1 events")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := other.s.Next(ctx); !errors.Is(err, broken) {
		t.Errorf("a watcher whose version before cannot be read: %v", err)
	}
}

// TestACanceledWatcherIsNotToldOfWhatItDoesNotGet: what it was given before comes, and its header tells no more, though the history that it was to
// read goes further.
func TestACanceledWatcherIsNotToldOfWhatItDoesNotGet(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{RingBytes: 1, QueueBytes: 1})
	c := l.open()
	c.create(all(Spec{ID: 1}))
	c.expect("1@1 created")
	l.write(put("k", "1"))
	l.write(put("k", "2")) // does not fit beside the first
	l.settled()
	if m, work, err := c.s.poll(); m != nil || !work || err != nil {
		t.Fatalf("%+v, work %t, %v", m, work, err)
	}
	if err := c.s.catchUp(t.Context()); err != nil || c.s.reading.chunk.phase == idle {
		t.Fatalf("the chunk is read in one step, %v", err)
	}
	c.s.Cancel(1)
	for c.s.reading.chunk.phase != idle {
		if err := c.s.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.expect("1@2 1 events", "1@3 canceled")
}

// TestAMarkDoesNotComeAfterLaterEvents: a watcher falls behind while a mark waits behind the events of another one. Its own mark is left out,
// as what it reads comes before them; one of the whole stream was asked for, and comes before what it reads.
func TestAMarkDoesNotComeAfterLaterEvents(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ask  func(*Stream)
		want int
	}{
		"its own":                 {(*Stream).NotifyProgress, 0},
		"one of the whole stream": {(*Stream).RequestProgress, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := marksOfOneBehind(t, c.ask); got != c.want {
				t.Errorf("%d marks are told, want %d", got, c.want)
			}
		})
	}
}

// marksOfOneBehind returns how many marks come.
func marksOfOneBehind(t *testing.T, ask func(*Stream)) int {
	l := newLab(t, Options{RingBytes: 1, ResponseBytes: 1, QueueBytes: 5000})
	c := l.open()
	c.s.records = 1
	c.create(Spec{ID: 1, Key: []byte("a")})
	c.create(Spec{ID: 2, Key: []byte("b"), ProgressNotify: true})
	c.expect("1@1 created", "2@1 created")
	for i := range 30 {
		l.write(put("a", fmt.Sprint(i)))
	}
	l.settled()
	ask(c.s)
	l.write(put("b", strings.Repeat("x", 5000)))
	for i := range 3 * chunkRecordsMin { // several chunks
		l.write(put("b", fmt.Sprint(i)))
	}
	l.settled()
	c.finish() // which checks the headers, and what a mark stands behind
	return len(c.watchers[2].progress) + len(c.marks)
}

// A client that catches up alone must not keep the messages of the stream's other watchers waiting.
func TestCatchingUpAndNewEventsAlternate(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{RingBytes: 1, ResponseBytes: 50})
	for i := range 300 {
		l.write(put("old", fmt.Sprint(i)))
	}
	l.settled()
	c := l.open()
	c.create(Spec{ID: 1, Key: []byte("old"), Start: 2})
	c.create(Spec{ID: 2, Key: []byte("new")})
	c.expect("1@301 created")
	for i := range 10 {
		l.write(put("new", fmt.Sprint(i)))
		l.settled()
		for n := 0; c.watchers[2].events <= i; n++ {
			if c.next(); n > 4 {
				t.Fatalf("%d new events and %d old ones", c.watchers[2].events, c.watchers[1].events)
			}
		}
	}
	if got := c.watchers[1].events; got == 0 || got == 300 {
		t.Errorf("%d old events came meanwhile", got)
	}
	c.finish()
}

// Catching up from the ring may need a version before that the ring has lost. What is opened for that must be closed at
// once, or the database cannot be.
func TestCatchingUpFromTheRingLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{RingBytes: 2 * eventOverhead})
	l.write(put("k", "1"))
	l.write(put("x", "1"), put("y", "1"))
	l.write(put("k", "2"))
	l.settled()
	c := l.open()
	c.create(Spec{ID: 1, Key: []byte("k"), Start: 4, PrevKV: true})
	c.expect("1@4 created", "1@4 1 events")
}
