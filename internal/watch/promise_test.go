package watch

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// all is every key.
func all(spec Spec) Spec {
	spec.Key, spec.End = []byte{0}, []byte{0}
	return spec
}

// Promises 1 and 2, in step and from history and the ring.
func TestEventsComeInOrderAndOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	c := l.open()
	c.create(all(Spec{ID: 1}))
	for i := range 10 {
		l.write(put("k", fmt.Sprint(i)), put("j", fmt.Sprint(i)))
	}
	past := c.create(all(Spec{ID: 2, Start: 4}))
	l.restart(Options{}) // whose ring is empty
	d := l.open()
	history := d.create(all(Spec{ID: 3, Start: 4}))
	d.finish()
	if past.at != 0 || history.events != 16 {
		t.Errorf("%d and %d events", past.events, history.events)
	}
}

func TestARingServesThoseALittleBehind(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	c := l.open()
	for i := range 10 {
		l.write(put("k", fmt.Sprint(i)))
	}
	c.create(all(Spec{ID: 1, Start: 2, PrevKV: true}))
	c.create(all(Spec{ID: 2, Start: 6}))
	c.expectAll("1@11 created", "1@11 10 events", "2@11 created", "2@11 6 events")
}

// Promise 3.
func TestARevisionIsNeverSplitWithoutFragment(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{ResponseBytes: 10, QueueBytes: 10})
	c := l.open()
	c.create(all(Spec{ID: 1}))
	c.create(all(Spec{ID: 2, Fragment: true}))
	c.expect("1@1 created", "2@1 created")
	l.write(put("a", "1"), put("b", "1"), put("c", "1"))
	l.write(put("a", "2"), put("b", "2"))
	l.settled()
	c.finish()
	l.restart(Options{ResponseBytes: 100})
	d := l.open()
	d.create(all(Spec{ID: 2, Start: 2, Fragment: true}))
	d.create(all(Spec{ID: 1, Start: 2}))
	d.expectAll("2@3 created", "1@3 created", "2@3 5 events", "1@3 5 events")
	l.write(put("a", strings.Repeat("a", 60)), put("b", strings.Repeat("b", 60)))
	d.expectAll("2@4 1 events fragment", "2@4 1 events", "1@4 2 events")
}

// TestAResponseHasNoMoreRevisionsThanEtcds: many clients take no message above 4 MiB.
func TestAResponseHasNoMoreRevisionsThanEtcds(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	s := l.hub.NewStream()
	s.Create(all(Spec{ID: 1}))
	for i := range mergedMax + 1 {
		l.write(put("a", fmt.Sprint(i)), put("b", fmt.Sprint(i)))
	}
	l.settled()
	var got []int
	for m, err := s.Poll(); m != nil; m, err = s.Poll() {
		if err != nil {
			t.Fatal(err)
		}
		if !m.Created {
			got = append(got, len(m.Events))
		}
	}
	if want := []int{2 * mergedMax, 2}; !slices.Equal(got, want) {
		t.Errorf("responses of %d events, want %d", got, want)
	}
}

func TestEachRevisionOfALargeBacklogStaysWhole(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{ResponseBytes: 30})
	c := l.open()
	c.create(all(Spec{ID: 1}))
	for range 5 {
		l.write(put("a", strings.Repeat("a", 60)), put("b", strings.Repeat("b", 60)))
	}
	l.settled()
	c.expect("1@1 created", "1@2 2 events", "1@3 2 events", "1@4 2 events", "1@5 2 events", "1@6 2 events")
}

// Promise 4: those who do not fit in the queue read history, and nobody else notices.
func TestASlowStreamLosesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{QueueBytes: 200, RingBytes: 1000})
	slow, quick := l.open(), l.open()
	slow.create(all(Spec{ID: 1, PrevKV: true}))
	slow.create(all(Spec{ID: 2, NoDelete: true}))
	quick.create(all(Spec{ID: 1}))
	quick.next()
	for i := range 200 {
		l.write(put("k", fmt.Sprint(i)), del("k"), put("k", "again"))
		quick.next()
	}
	l.settled()
	if n := l.hub.Stats().Behind; n != 2 {
		t.Errorf("%d watchers are behind, want the two of the slow stream", n)
	}
	slow.finish()
	if n := l.hub.Stats().Behind; n != 0 {
		t.Errorf("%d watchers are behind after all was read", n)
	}
	if got := slow.watchers[1].events; got != 3*200 {
		t.Errorf("the slow stream got %d events", got)
	}
}

func TestAnInboxThatOverflowsSendsAllToHistory(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	l.hub.in.bytesMax = 2000
	c := l.open()
	c.create(all(Spec{ID: 1}))
	l.hub.mu.Lock() // so that the hub cannot empty its inbox
	for i := range 100 {
		l.write(put("k", fmt.Sprint(i)))
	}
	if n := l.hub.in.waiting(); n > 20 {
		t.Errorf("%d events wait", n)
	}
	l.hub.mu.Unlock()
	l.settled()
	c.finish()
	if got := c.watchers[1].events; got != 100 {
		t.Errorf("%d events", got)
	}
}

// TestWhatIsPublishedTwiceComesOnce publishes so that the hub finds both in its inbox, one behind the other.
func TestWhatIsPublishedTwiceComesOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	c := l.open()
	c.create(all(Spec{ID: 1}))
	l.hub.mu.Lock() // so that the hub cannot empty its inbox
	events := l.commit(put("a", "1"), put("b", "1"))
	l.hub.Publish(events)
	l.hub.Publish(events)
	l.write(put("a", "2"))
	l.hub.mu.Unlock()
	l.settled()
	c.finish()
	if got := c.watchers[1].events; got != 3 {
		t.Errorf("%d events", got)
	}
}

// TestAnEncodedEventHoldsNothingOfTheWriter writes over the memory of a store's versions once a watcher has them, so that whatever still
// is of it shows. Others read the ring then.
func TestAnEncodedEventHoldsNothingOfTheWriter(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]Spec{"alone": {ID: 1}, "with the version before": {ID: 1, PrevKV: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, Options{})
			c := l.open()
			c.create(all(spec))
			events := slices.Concat(l.commit(put("a", "1")), l.commit(put("a", "2"), put("b", "1")), l.commit(del("a"), put("b", "2")))
			l.hub.Publish(events)
			l.settled()
			c.finish()
			for _, e := range events {
				kv, err := e.Load()
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range [][]byte{e.Key, kv.Raw()} {
					for i := range b {
						b[i] = 0xff
					}
				}
			}
			l.hub.mu.Lock()
			l.hub.o.View = func(int64) (*mvcc.View, error) { return nil, errors.New("only the ring is to be read") }
			l.hub.mu.Unlock()
			c.create(all(Spec{ID: 2, Start: 2}))
			c.create(all(Spec{ID: 3, Start: 2, PrevKV: true}))
			c.create(Spec{ID: 4, Start: 2, Key: []byte("a")})
			l.settled()
			c.finish()
		})
	}
}

func TestCompactionEndsThoseWhoNeedWhatItTook(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{QueueBytes: 1, RingBytes: 1})
	c := l.open()
	for i := range 5 {
		l.write(put("k", fmt.Sprint(i)))
	}
	l.compactTo(4)
	c.create(all(Spec{ID: 1, Start: 3}))
	c.create(all(Spec{ID: 2, Start: 4, PrevKV: true}))
	c.expect("1@6 created", "1@0 canceled compacted 4", "2@6 created", "2@6 3 events")
	c.s.RequestProgress()
	c.quiet()
	c.s.Create(all(Spec{ID: 1}))
	c.expect("-1@6 created canceled: mvcc: duplicate watch ID provided on the WatchStream")
	c.s.Cancel(1)
	c.expect("1@6 canceled")
	c.s.RequestProgress()
	c.expect("-1@6")

	for i := range 5 {
		l.write(put("k", fmt.Sprint(i)))
		l.settled()
	}
	l.compactTo(11)
	c.expect("2@7 1 events", "2@0 canceled compacted 11")
}

// Promise 5.
func TestAWatcherResumesBehindTheLastRevision(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{RingBytes: 1500, QueueBytes: 500})
	next, got := int64(2), 0
	for round := range 10 {
		for i := range 20 {
			l.write(put(fmt.Sprint("k", i), "v"), put("both", fmt.Sprint(round)))
		}
		c := l.open()
		f := c.create(all(Spec{ID: 1, Start: next}))
		c.next()
		c.next() // something, not all
		next, got = f.last+1, got+f.events
		c.s.Close()
	}
	c := l.open()
	f := c.create(all(Spec{ID: 1, Start: next}))
	c.finish()
	if got+f.events != 400 {
		t.Errorf("%d events in all", got+f.events)
	}
}

// Promise 6.
func TestAProgressMarkComesAfterWhatItCovers(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	c := l.open()
	c.s.RequestProgress()
	c.quiet() // without watchers
	c.create(Spec{ID: 1, Key: []byte("a")})
	c.create(Spec{ID: 2, Key: []byte("b"), ProgressNotify: true})
	c.expect("1@1 created", "2@1 created")
	c.s.RequestProgress()
	l.write(put("a", "1"))
	c.s.RequestProgress()
	l.write(put("b", "1"))
	c.s.RequestProgress()
	c.expect("-1@1", "1@2 1 events", "-1@2", "2@3 1 events", "-1@3")

	c.s.NotifyProgress() // the watcher got something
	c.quiet()
	c.s.NotifyProgress()
	c.expect("2@3")
}

// Events that come while a mark waits for the client go behind it, also those of a watcher that stands in front of it.
func TestAProgressMarkComesBeforeWhatIsLater(t *testing.T) {
	t.Parallel()
	later := func(t *testing.T) *client {
		l := newLab(t, Options{})
		c := l.open()
		c.create(Spec{ID: 1, Key: []byte("a")})
		c.create(Spec{ID: 2, Key: []byte("b")})
		c.expect("1@1 created", "2@1 created")
		l.write(put("a", "1"))
		c.s.RequestProgress()
		l.write(put("a", "2"))
		l.write(put("b", "1"))
		l.settled()
		return c
	}
	t.Run("of those that keep up", func(t *testing.T) {
		t.Parallel()
		c := later(t)
		c.s.RequestProgress()
		c.expect("1@2 1 events", "-1@2", "1@3 1 events", "2@4 1 events", "-1@4")
	})
	t.Run("of one that is canceled meanwhile", func(t *testing.T) {
		t.Parallel()
		c := later(t)
		c.s.Cancel(1)
		c.expect("1@2 1 events", "-1@2", "1@3 1 events", "2@4 1 events", "1@4 canceled")
		c.quiet()
	})
}

// A client that asks and does not read gets one mark more, for what stands behind the one that waits is later than that.
func TestAnUnreadProgressMarkIsNotRaisedOverWhatIsBehindIt(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	c := l.open()
	c.create(Spec{ID: 1, Key: []byte("a")})
	c.expect("1@1 created")
	l.write(put("a", "1"))
	l.settled()
	for i := range int64(unreadMax) {
		c.create(Spec{ID: 2 + i, Key: []byte("b")})
	}
	c.s.RequestProgress()
	l.write(put("a", "2"))
	l.settled()
	c.expect("1@2 1 events") // the next one goes behind the mark
	for range 3 {
		c.s.RequestProgress()
	}
	for range unreadMax {
		c.next()
	}
	c.expect("-1@2", "1@3 1 events", "-1@3")
	c.quiet()
}

func TestProgressIsSilentForTheFutureAndThePast(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	l.write(put("a", "1"))
	c := l.open()
	c.create(Spec{ID: 1, Key: []byte("a")})
	c.create(Spec{ID: 2, Key: []byte("a"), Start: 4})
	c.expect("1@2 created", "2@2 created")
	c.s.RequestProgress()
	c.quiet()
	l.write(put("a", "2"))
	c.expect("1@3 1 events")
	c.s.RequestProgress()
	c.quiet()
	l.write(put("a", "3"))
	c.s.RequestProgress()
	c.expectAll("1@4 1 events", "2@4 1 events", "-1@4")
	c.create(Spec{ID: 3, Key: []byte("a"), Start: 2})
	c.s.RequestProgress()
	c.expect("3@4 created", "3@4 3 events")
	c.quiet()
	c.s.RequestProgress()
	c.expect("-1@4")
}

func TestAMarkThatWouldTakeAClientBackWaits(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	c := l.open()
	events := l.commit(put("a", "1"))
	c.create(Spec{ID: 1, Key: []byte("a")})
	c.expect("1@2 created")
	c.s.RequestProgress()
	if c.try() {
		t.Fatal("a mark of a revision that was not published")
	}
	l.hub.Publish(events)
	c.expect("-1@2")
}

func TestAMarkOfItsOwnDoesNotTakeAWatcherBack(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	c := l.open()
	events := l.commit(put("a", "1"))
	c.create(Spec{ID: 1, Key: []byte("b"), Start: 2, ProgressNotify: true})
	c.expect("1@2 created")
	c.s.NotifyProgress()
	if c.try() {
		t.Fatal("a mark of a revision below that of its creation")
	}
	l.hub.Publish(events)
	l.settled()
	c.s.NotifyProgress()
	c.expect("1@2")
}

// Promise 7.
func TestTheVersionBeforeIsThatOfTheRevisionBefore(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{"with a ring": {}, "without a ring": {RingBytes: 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, o)
			c := l.open()
			c.create(all(Spec{ID: 1, PrevKV: true}))
			c.create(all(Spec{ID: 2}))
			l.write(put("b", "1"))
			l.write(delRange("a", "\x00"), put("b", "2"))
			l.write(put("b", "3"), delRange("a", "\x00"))
			l.write(put("c", "1"), put("c", "2"), delRange("a", "\x00"), put("c", "3"), del("c"))
			l.write(put("b", "4"), put("b", "5"))
			l.write(put("b", "6"), put("b", "7"))
			l.settled()
			c.finish()
			c.create(all(Spec{ID: 3, Start: 2, PrevKV: true}))
			c.create(all(Spec{ID: 4, Start: 2, PrevKV: true, NoPut: true}))
			c.finish()
			l.compactTo(6)
			c.create(all(Spec{ID: 5, Start: 6, PrevKV: true}))
			c.finish()
		})
	}
}

// TestTheVersionBeforeIsLeftOutAtTheCompactRevision also if the hub has yet to distribute what the watcher begins with: it is history, and not
// new to it.
func TestTheVersionBeforeIsLeftOutAtTheCompactRevision(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	l.write(put("k", "1"))
	l.settled()
	l.hub.in.put(l.commit(put("k", "2"))) // and the hub's goroutine sleeps on
	l.compactTo(3)
	s := l.hub.NewStream()
	s.Create(all(Spec{ID: 1, Start: 3, PrevKV: true}))
	if m, err := s.Poll(); err != nil || !m.Created {
		t.Fatalf("got %+v, %v", m, err)
	}
	l.hub.mu.Lock()
	l.hub.distribute()
	l.hub.mu.Unlock()
	m, err := s.Poll()
	if err != nil || m == nil || len(m.Events) != 1 {
		t.Fatalf("got %+v, %v", m, err)
	}
	if bytes.Contains(m.Events[0], []byte{tagPrevKV}) {
		t.Errorf("the event is %q", m.Events[0])
	}
}

func TestAnEventIsEncodedOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	var clients []*client
	for range 5 {
		c := l.open()
		for id := range int64(6) {
			c.create(all(Spec{ID: id + 1}))
		}
		clients = append(clients, c)
	}
	l.write(put("a", "1"))
	l.write(put("a", "2"))
	l.settled()
	if n := l.hub.Stats().Encoded; n != 2 {
		t.Errorf("%d encodings of 2 events", n)
	}
	clients[0].create(all(Spec{ID: 9, PrevKV: true}))
	l.write(put("a", "3"))
	l.settled()
	if n := l.hub.Stats().Encoded; n != 4 {
		t.Errorf("%d encodings of 3 events, one of them wanted with and without the version before", n)
	}
	l.write(put("b", "1")) // which has none
	l.settled()
	if n := l.hub.Stats().Encoded; n != 5 {
		t.Errorf("%d encodings of 4 events", n)
	}
	for _, c := range clients {
		c.finish()
	}
}

// Promise 8.
func TestFiltersAndRangesAreExact(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	c := l.open()
	specs := []Spec{
		{Key: []byte("b")},
		{Key: []byte("b"), End: []byte("c")},
		{Key: []byte("b"), End: []byte("b\x00")},
		{Key: []byte("b"), End: []byte{0}},
		{Key: []byte("a"), End: []byte("b")},
		{Key: []byte("b"), End: []byte("c"), NoPut: true},
		{Key: []byte("b"), End: []byte("c"), NoDelete: true},
		{Key: []byte("b"), End: []byte("c"), NoPut: true, NoDelete: true},
	}
	for i, spec := range specs {
		spec.ID = int64(i + 1)
		c.create(spec)
	}
	for _, k := range []string{"a", "a\xff", "b", "b\x00", "bb", "c", "\xff"} {
		l.write(put(k, "1"))
		l.write(put(k, "2"), del(k))
	}
	c.finish()
	for i, spec := range specs {
		spec.ID, spec.Start = int64(i+101), 2
		c.create(spec)
	}
	c.finish()
	for id, f := range c.watchers {
		if id > 100 && f.events != c.watchers[id-100].events {
			t.Errorf("%+v: %d events in step, %d from the past", f.spec, c.watchers[id-100].events, f.events)
		}
	}
}

func TestIDsAreChosenAndRefusedAsEtcdDoes(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	c := l.open()
	create := func(spec Spec, want string) {
		t.Helper()
		spec.Key = []byte("k")
		c.s.Create(spec)
		m, _, err := c.s.poll()
		if err != nil || text(m) != want {
			t.Fatalf("creating %+v: %s, %v; want %s", spec, text(m), err, want)
		}
	}
	const duplicate = "-1@1 created canceled: mvcc: duplicate watch ID provided on the WatchStream"
	create(Spec{}, "0@1 created")
	create(Spec{}, "1@1 created")
	create(Spec{ID: 3}, "3@1 created")
	create(Spec{ID: 1}, duplicate)
	create(Spec{}, "2@1 created")
	create(Spec{}, "4@1 created")
	create(Spec{ID: -1}, "-1@1 created")
	create(Spec{ID: -5}, "-5@1 created")
	create(Spec{ID: 1<<63 - 1}, "9223372036854775807@1 created")
	create(Spec{Start: -1}, "-1@1 created canceled: etcdserver: mvcc: required revision has been compacted")
	create(Spec{ID: 9, End: []byte("k")}, "-1@1 created canceled: mvcc: watcher range is empty")
	create(Spec{ID: 9, End: []byte("a")}, "-1@1 created canceled: mvcc: watcher range is empty")
	c.s.Cancel(1)
	c.s.Cancel(1)
	c.s.Cancel(77)
	m, _, err := c.s.poll()
	if err != nil || text(m) != "1@1 canceled" {
		t.Fatalf("canceling: %s, %v", text(m), err)
	}
	create(Spec{ID: 1}, "1@1 created")
	create(Spec{}, "5@1 created")
	c.s.Refuse("no")
	if m, _, err := c.s.poll(); err != nil || text(m) != "-1@1 created canceled: no" {
		t.Fatalf("refusing: %s, %v", text(m), err)
	}
}

// A client that asks for progress over and over and reads nothing holds a bounded number of marks; the last one it gets
// tells the newest revision all the same.
func TestMarksThatNobodyReadsAreBounded(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{})
	c := l.open()
	c.create(all(Spec{ID: 1, ProgressNotify: true}))
	for range 3 * unreadMax {
		c.s.RequestProgress()
		c.s.NotifyProgress()
	}
	l.write(put("k", "v"))
	for range 3 * unreadMax {
		c.s.RequestProgress()
		c.s.NotifyProgress()
	}
	marks, last := 0, int64(0)
	for {
		m, err := c.s.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if m == nil {
			break
		}
		marks, last = marks+1, m.Revision
	}
	if marks > 2*unreadMax || last != l.rev {
		t.Errorf("%d messages waited, the last of revision %d", marks, last)
	}
}

// TestAWatcherIsAnnouncedBeforeItsEvents: history is read between the messages that wait before that one.
func TestAWatcherIsAnnouncedBeforeItsEvents(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{RingBytes: 1})
	const revisions = 3 * chunkRecordsMin
	for i := range revisions {
		l.write(put("k", fmt.Sprint(i)))
	}
	l.settled()
	s := l.hub.NewStream()
	s.records = chunkRecordsMin // so that the first chunk is not the last one
	for range 10 {
		s.Create(Spec{ID: 1, Key: []byte("other")})
		s.Cancel(1)
	}
	s.Create(Spec{ID: 2, Key: []byte("k"), Start: 2})
	created, events := false, 0
	for {
		m, err := s.Poll()
		if err != nil {
			t.Fatal(err)
		}
		if m == nil {
			break
		}
		if m.WatchID != 2 {
			continue
		}
		if created = created || m.Created; !created {
			t.Errorf("told of revision %d before it was created", m.Revision)
		}
		events += len(m.Events)
	}
	if events != revisions {
		t.Errorf("%d events came, want %d", events, revisions)
	}
}
