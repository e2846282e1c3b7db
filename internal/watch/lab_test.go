package watch

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// tb is what testing.TB and rapid.T share.
type tb interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// lab is a real store in memory with a hub, and a naive model of what its events are.
type lab struct {
	t     tb
	store *mvcc.Store
	hub   *Hub

	mu      sync.Mutex // guards the model
	state   map[string]*mvccpb.KeyValue
	events  []modelEvent
	rev     int64
	compact int64
}

// modelEvent is one change as the model has it.
type modelEvent struct {
	*mvccpb.Event
	rev int64
	// replaced tells that the same revision has changed the key again.
	replaced bool
}

// change is one change of a test's entry.
type change struct {
	key, end, value string
	del             bool
}

func put(key, value string) change    { return change{key: key, value: value} }
func del(key string) change           { return change{key: key, del: true} }
func delRange(key, end string) change { return change{key: key, end: end, del: true} }

func openDB(t tb, dir string, o storage.Options) *storage.DB {
	t.Helper()
	db, err := storage.OpenState(dir, o)
	if err != nil {
		t.Fatalf("opening the database: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("closing the database: %v", err)
		}
	})
	return db
}

// newLab opens a lab; the options' functions are filled in.
func newLab(t tb, o Options) *lab {
	t.Helper()
	store, err := mvcc.Open(openDB(t, "state", storage.Options{FS: vfs.NewMem()}))
	if err != nil {
		t.Fatalf("opening the store: %v", err)
	}
	l := &lab{t: t, store: store, state: make(map[string]*mvccpb.KeyValue), rev: 1, compact: -1}
	t.Cleanup(func() { l.hub.Close() })
	l.restart(o)
	return l
}

// restart replaces the hub by a new one.
func (l *lab) restart(o Options) {
	if l.hub != nil {
		l.hub.Close()
	}
	o.View, o.Revision, o.Compacted = l.store.View, l.store.Revision, l.store.CompactRevision
	l.hub = NewHub(o)
}

// write writes one entry and publishes it.
func (l *lab) write(changes ...change) int64 {
	l.t.Helper()
	events := l.commit(changes...)
	l.hub.Publish(events)
	clear(events) // the slice is the publisher's
	return l.store.Revision()
}

// commit writes one entry and returns its events.
func (l *lab) commit(changes ...change) []mvcc.Event {
	l.t.Helper()
	w := l.store.NewWriter()
	w.Begin()
	for _, c := range changes {
		var err error
		if c.del {
			_, err = w.DeleteRange([]byte(c.key), []byte(c.end), nil)
		} else {
			_, _, err = w.Put([]byte(c.key), []byte(c.value), 0)
		}
		if err != nil {
			l.t.Fatalf("writing %+v: %v", c, err)
		}
	}
	w.End()
	l.learn(changes)
	if err := w.Commit(); err != nil {
		l.t.Fatalf("committing: %v", err)
	}
	return w.Events()
}

// learn does the same to the model.
func (l *lab) learn(changes []change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, rev, first := make(map[string]*mvccpb.KeyValue), l.rev+1, len(l.events)
	add := func(typ mvccpb.Event_EventType, kv, prev *mvccpb.KeyValue) {
		for i := first; i < len(l.events); i++ {
			l.events[i].replaced = l.events[i].replaced || bytes.Equal(l.events[i].Kv.Key, kv.Key)
		}
		if before, seen := old[string(kv.Key)]; seen {
			prev = before
		} else {
			old[string(kv.Key)] = prev
		}
		if kv.CreateRevision == rev {
			prev = nil
		}
		l.events = append(l.events, modelEvent{Event: &mvccpb.Event{Type: typ, Kv: kv, PrevKv: prev}, rev: rev})
	}
	for _, c := range changes {
		if !c.del {
			kv, prev := &mvccpb.KeyValue{Key: []byte(c.key), CreateRevision: rev, ModRevision: rev, Version: 1}, l.state[c.key]
			if c.value != "" {
				kv.Value = []byte(c.value)
			}
			if prev != nil {
				kv.CreateRevision, kv.Version = prev.CreateRevision, prev.Version+1
			}
			add(mvccpb.Event_PUT, kv, prev)
			l.state[c.key] = kv
			continue
		}
		for _, k := range l.keysIn(c.key, c.end) {
			add(mvccpb.Event_DELETE, &mvccpb.KeyValue{Key: []byte(k), ModRevision: rev}, l.state[k])
			delete(l.state, k)
		}
	}
	if len(l.events) > first {
		l.rev = rev
	}
}

func (l *lab) keysIn(key, end string) (keys []string) {
	for k := range l.state {
		if holds(key, end, k) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func holds(key, end, k string) bool {
	if end == "" {
		return k == key
	}
	return k >= key && (end == "\x00" || k < end)
}

// compactTo compacts to rev and deletes what can be deleted.
func (l *lab) compactTo(rev int64) {
	l.t.Helper()
	w := l.store.NewWriter()
	w.Begin()
	if err := w.ScheduleCompact(rev); err != nil {
		l.t.Fatalf("compacting to %d: %v", rev, err)
	}
	w.End()
	w.SetApplied(1, 1)
	l.mu.Lock()
	l.compact = rev
	l.mu.Unlock()
	if err := w.Commit(); err != nil {
		l.t.Fatalf("committing: %v", err)
	}
	for done := false; !done; {
		var err error
		if done, err = l.store.CompactStep(context.Background(), 5); err != nil {
			l.t.Fatalf("compacting: %v", err)
		}
	}
}

// client is a stream and what its watchers must get.
type client struct {
	l        *lab
	s        *Stream
	watchers map[int64]*follower
	marks    []int64 // revisions of progress marks with id -1
	refusals []string
	messages int
}

// follower checks what one watcher gets.
type follower struct {
	spec      Spec
	start     int64 // without one in spec, the earliest until it is created
	bookmark  int64 // no event at or below it may come
	at        int   // of the model's events
	last      int64
	events    int
	fragments bool // more of the response must follow
	created   bool
	canceled  bool
	compacted int64
	progress  []int64
}

func (l *lab) open() *client {
	return &client{l: l, s: l.hub.NewStream(), watchers: make(map[int64]*follower)}
}

// create asks for a watcher with an id chosen here.
func (c *client) create(spec Spec) *follower {
	f := &follower{spec: spec, start: spec.Start}
	if spec.Start == 0 {
		f.start = c.l.store.Revision() + 1
	}
	if c.watchers[spec.ID] == nil {
		c.watchers[spec.ID] = f
	}
	c.s.Create(spec)
	return f
}

// try takes the next message without waiting for one; false if there is none.
func (c *client) try() bool {
	c.l.t.Helper()
	for {
		m, work, err := c.s.poll()
		if err == nil && work {
			err = c.s.catchUpInTurn(context.Background())
		}
		if err != nil {
			c.l.t.Fatalf("next message: %v", err)
		}
		if m != nil {
			c.check(m)
			return true
		}
		if !work {
			return false
		}
	}
}

// next waits for the next message.
func (c *client) next() *Message {
	c.l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := c.s.Next(ctx)
	if err != nil {
		c.l.t.Fatalf("next message: %v", err)
	}
	c.check(m)
	return m
}

// finish reads until all watchers have got what they must.
func (c *client) finish() {
	c.l.t.Helper()
	for {
		open := 0
		for _, f := range c.watchers {
			if !f.done(c.l) {
				open++
			}
		}
		if open == 0 {
			return
		}
		c.next()
	}
}

// done tells whether nothing that has happened is missing.
func (f *follower) done(l *lab) bool {
	if f.canceled {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at := f.at
	f.advance(l, &at)
	return f.created && at == len(l.events)
}

// advance moves at to the next event that f must get.
func (f *follower) advance(l *lab, at *int) {
	for ; *at < len(l.events); *at++ {
		e := l.events[*at]
		no := f.spec.NoPut && e.Type == mvccpb.Event_PUT || f.spec.NoDelete && e.Type == mvccpb.Event_DELETE
		if !no && e.rev >= f.start && holds(string(f.spec.Key), string(f.spec.End), string(e.Kv.Key)) {
			return
		}
	}
}

// check checks a message against the promises.
func (c *client) check(m *Message) {
	c.l.t.Helper()
	c.messages++
	if m.WatchID == refusedID {
		c.checkGlobal(m)
		return
	}
	f := c.watchers[m.WatchID]
	if f == nil {
		c.l.t.Fatalf("a message for the unknown watcher %d: %+v", m.WatchID, m)
	}
	switch {
	case f.canceled && (f.compacted == 0 || !m.Canceled || m.CompactRevision != 0):
		c.l.t.Fatalf("watcher %d was canceled and gets %+v", m.WatchID, m)
	case m.Created:
		f.created = true
		if f.spec.Start == 0 { // from what the message tells on, which is not before it was asked for
			if now := c.l.store.Revision(); m.Revision+1 < f.start || m.Revision > now {
				c.l.t.Fatalf("watcher %d begins behind %d, asked for from %d on at %d", m.WatchID, m.Revision, f.start, now)
			}
			f.start = m.Revision + 1
		}
		return
	case !f.created:
		c.l.t.Fatalf("watcher %d was not created and gets %+v", m.WatchID, m)
	case m.Canceled:
		f.canceled, f.compacted = true, max(f.compacted, m.CompactRevision)
		if f.fragments {
			c.l.t.Fatalf("watcher %d is canceled between fragments", m.WatchID)
		}
		return
	case len(m.Events) == 0:
		f.progress = append(f.progress, m.Revision)
	}
	size := 0
	for _, e := range m.Events {
		size += len(e)
		f.event(c.l, e)
	}
	if size != m.Size {
		c.l.t.Fatalf("a message of %d bytes says %d", size, m.Size)
	}
	f.end(c.l, m)
}

func (c *client) checkGlobal(m *Message) {
	c.l.t.Helper()
	if m.Created {
		c.refusals = append(c.refusals, m.Reason)
		return
	}
	if n := len(c.marks); n > 0 && c.marks[n-1] > m.Revision {
		c.l.t.Fatalf("progress goes back from %d to %d", c.marks[n-1], m.Revision)
	}
	c.marks = append(c.marks, m.Revision)
	for _, f := range c.watchers {
		if f.last > m.Revision {
			c.l.t.Fatalf("a progress mark of revision %d behind the event of %d", m.Revision, f.last)
		}
		if f.created {
			f.bookmark = max(f.bookmark, m.Revision)
			f.complete(c.l)
		}
	}
}

// event checks one event against the next one of the model.
func (f *follower) event(l *lab, raw []byte) {
	l.t.Helper()
	num, typ, n := protowire.ConsumeTag(raw)
	if num != 11 || typ != protowire.BytesType {
		l.t.Fatalf("an event with the tag %d, %d", num, typ)
	}
	body, m := protowire.ConsumeBytes(raw[n:])
	if n+m != len(raw) {
		l.t.Fatalf("%d bytes behind an event", len(raw)-n-m)
	}
	got := &mvccpb.Event{}
	if err := proto.Unmarshal(body, got); err != nil {
		l.t.Fatalf("decoding an event: %v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f.advance(l, &f.at)
	for f.at < len(l.events) && !f.same(l, got) && l.mayMiss(f.at) {
		f.at++
		f.advance(l, &f.at)
	}
	if f.at == len(l.events) {
		l.t.Fatalf("%+v got %v, and nothing more was to come", f.spec, got)
	}
	want := l.events[f.at]
	if !f.same(l, got) {
		l.t.Fatalf("%+v (last revision %d, compacted to %d)\ngot  %v\nwant %v", f.spec, f.last, l.compact, got, want.Event)
	}
	if want.rev <= f.bookmark {
		l.t.Fatalf("%+v was told %d and then got %v", f.spec, f.bookmark, got)
	}
	f.at++
	f.last = want.rev
	f.events++
}

// mayMiss tells whether a compaction may have removed an event. Of several changes of a key in one revision it may leave some: of a put, a deletion
// and a put at its own revision the last two.
func (l *lab) mayMiss(at int) bool { return l.events[at].replaced && l.events[at].rev <= l.compact }

// same tells whether got is the model's event.
func (f *follower) same(l *lab, got *mvccpb.Event) bool {
	want := l.events[f.at]
	e := &mvccpb.Event{Type: want.Type, Kv: want.Kv}
	if f.spec.PrevKV && (got.PrevKv != nil || want.rev > l.compact) {
		e.PrevKv = want.PrevKv
	}
	return proto.Equal(e, got)
}

// end checks the end of a message.
func (f *follower) end(l *lab, m *Message) {
	l.t.Helper()
	if m.Revision < f.last {
		l.t.Fatalf("a header of %d behind an event of %d", m.Revision, f.last)
	}
	f.fragments = m.Fragment
	if m.Fragment {
		if !f.spec.Fragment {
			l.t.Fatalf("fragments were not asked for")
		}
		return
	}
	f.bookmark = max(f.bookmark, m.Revision)
	f.complete(l)
}

// complete checks that nothing at or below the bookmark is missing.
func (f *follower) complete(l *lab) {
	l.t.Helper()
	if f.canceled {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f.advance(l, &f.at)
	for f.at < len(l.events) && l.events[f.at].rev <= f.bookmark {
		if !l.mayMiss(f.at) {
			l.t.Fatalf("%+v was told %d without %v", f.spec, f.bookmark, l.events[f.at].Event)
		}
		f.at++
		f.advance(l, &f.at)
	}
}

// settled waits until the hub has distributed everything.
func (l *lab) settled() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.hub.WaitDistributed(ctx, l.store.Revision()); err != nil {
		l.t.Fatalf("waiting for revision %d: %v", l.store.Revision(), err)
	}
}

// text writes a message in few words.
func text(m *Message) string {
	s := fmt.Sprintf("%d@%d", m.WatchID, m.Revision)
	if m.Created {
		s += " created"
	}
	if m.Canceled {
		s += " canceled"
	}
	if m.CompactRevision != 0 {
		s += fmt.Sprintf(" compacted %d", m.CompactRevision)
	}
	if m.Reason != "" {
		s += ": " + m.Reason
	}
	if len(m.Events) > 0 {
		s += fmt.Sprintf(" %d events", len(m.Events))
	}
	if m.Fragment {
		s += " fragment"
	}
	return s
}

// expect reads as many messages and compares them.
func (c *client) expect(want ...string) {
	c.l.t.Helper()
	for _, w := range want {
		if got := text(c.next()); got != w {
			c.l.t.Fatalf("got %q, want %q", got, w)
		}
	}
}

// expectAll is expect for messages of several watchers, whose order among each other is open.
func (c *client) expectAll(want ...string) {
	c.l.t.Helper()
	var got []string
	for range want {
		got = append(got, text(c.next()))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.l.t.Fatalf("got %q, want %q", got, want)
	}
}

// quiet fails if there is a message.
func (c *client) quiet() {
	c.l.t.Helper()
	c.l.settled()
	if n := c.messages; c.try() {
		c.l.t.Fatalf("a message too much (after %d)", n)
	}
}
