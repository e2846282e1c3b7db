package sim

import (
	"context"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/watch"
)

// audienceMax bounds the clients that watch, watchersMax the watchers of each.
const (
	audienceMax = 4
	watchersMax = 3
)

// audience is a client that watches: one stream to a member. When that is lost it goes on at another one, from behind the
// last revision that it knows of.
type audience struct {
	h        *host // nil while there is none
	stream   *watch.Stream
	watchers []*watcher
}

// watcher is what the client knows of one of its watchers.
type watcher struct {
	spec    watch.Spec
	next    int64 // the first revision it does not know of; 0 before it was told where it starts
	created bool
	at      int64 // the member's revision when it was created
	ending  int   // how many answers to a cancel are to come
	got     int
}

// stepWatch opens a stream: of a new client, of one that lost its own, or of one that moves on.
func (w *World) stepWatch() {
	h := w.pick(func(h *host) bool { return running(h) && h.readable() && h.sound() })
	if h == nil {
		return
	}
	var a *audience
	if len(w.audience) < audienceMax {
		a = w.newAudience()
		w.audience = append(w.audience, a)
	} else if a = w.audience[w.rng.Intn(len(w.audience))]; a.stream != nil {
		if w.rng.Intn(4) > 0 {
			return
		}
		a.stream.Close()
	}
	w.open(a, h)
}

func (w *World) newAudience() *audience {
	a := &audience{}
	for i := range 1 + w.rng.Intn(watchersMax) {
		x := &watcher{spec: watch.Spec{
			ID: int64(i + 1), Key: []byte("k"), End: []byte{0},
			NoPut: w.rng.Intn(8) == 0, NoDelete: w.rng.Intn(8) == 0,
			PrevKV: w.rng.Intn(2) == 0, ProgressNotify: w.rng.Intn(2) == 0,
		}}
		switch w.rng.Intn(3) {
		case 0:
			x.spec.Key, x.spec.End = key(w.rng.Intn(keys)), nil
		case 1:
			x.spec.Key, x.spec.End = []byte("k"), []byte("k08")
		}
		if w.rng.Intn(2) == 0 {
			x.next = 1 + w.rng.Int63n(w.history.model.revision+5)
		}
		a.watchers = append(a.watchers, x)
	}
	return a
}

// open begins a new stream to h.
func (w *World) open(a *audience, h *host) {
	a.h, a.stream = h, h.m.Hub().NewStream()
	for _, x := range a.watchers {
		x.ending = 0
		w.create(a, x)
	}
}

func (w *World) create(a *audience, x *watcher) {
	x.created, x.at = false, a.h.m.Store().Revision()
	x.spec.Start = x.next
	a.stream.Create(x.spec)
}

// lose takes the streams to a member away.
func (w *World) lose(h *host) {
	for _, a := range w.audience {
		if a.h == h {
			a.h, a.stream = nil, nil
		}
	}
}

// stepListen lets a client take some messages, or ask for progress.
func (w *World) stepListen() {
	if len(w.audience) == 0 {
		return
	}
	a := w.audience[w.rng.Intn(len(w.audience))]
	if a.stream == nil || a.h.paused {
		return
	}
	switch w.rng.Intn(16) {
	case 0:
		a.stream.RequestProgress()
	case 1:
		a.stream.NotifyProgress()
	}
	w.listen(a, 3)
}

// listen takes n messages at most, and reports whether there was one.
func (w *World) listen(a *audience, n int) (some bool) {
	for range n {
		m, err := a.stream.Poll()
		if err != nil {
			a.h.failedTo("go on with a stream", err)
			a.h, a.stream = nil, nil
			return false
		}
		if m == nil {
			return some
		}
		some = true
		w.received(a, m)
	}
	return some
}

func (w *World) received(a *audience, m *watch.Message) {
	if current := a.h.m.Store().Revision(); m.Revision > current {
		w.fail("a message of member %d tells of revision %d, it is at %d", a.h.n, m.Revision, current)
	}
	if m.WatchID == -1 && !m.Created {
		for _, x := range a.watchers {
			w.told(a, x, m, nil)
		}
		return
	}
	if m.WatchID < 1 || int(m.WatchID) > len(a.watchers) {
		w.fail("a message of member %d for watcher %d, which there is not", a.h.n, m.WatchID)
	}
	x := a.watchers[m.WatchID-1]
	switch {
	case m.Created && m.Canceled && a.h.ailing():
	case m.Created && m.Canceled:
		w.fail("member %d refuses a watcher: %s", a.h.n, m.Reason)
	case m.Created:
		w.begun(a, x, m)
	case m.Canceled && m.CompactRevision == 0:
		if x.ending--; x.ending < 0 && !a.h.ailing() {
			w.fail("member %d ended a watcher by itself: %s", a.h.n, m.Reason)
		}
	case m.Canceled:
		w.cutOff(a, x, m.CompactRevision)
	default:
		w.told(a, x, m, w.decode(m))
	}
}

// begun notes that a watcher is there. One without a start begins behind the revision that it is told.
func (w *World) begun(a *audience, x *watcher, m *watch.Message) {
	if x.created || m.Revision != x.at {
		w.fail("member %d tells that a watcher began at revision %d; it was at %d", a.h.n, m.Revision, x.at)
	}
	x.created = true
	if x.next == 0 {
		x.next = m.Revision + 1
	}
}

// cutOff makes a watcher go on where the history begins.
func (w *World) cutOff(a *audience, x *watcher, compacted int64) {
	if !x.created || x.next >= compacted || compacted > w.history.model.compacted {
		w.fail("member %d says that revision %d is compacted up to %d; the model is so up to %d",
			a.h.n, x.next, compacted, w.history.model.compacted)
	}
	w.note("a watcher at revision %d is told that it is compacted up to %d", x.next, compacted)
	x.next = compacted
	x.ending++
	a.stream.Cancel(x.spec.ID)
	w.create(a, x)
}

// decode reads events as a client does.
func (w *World) decode(m *watch.Message) []*mvccpb.Event {
	var raw []byte
	for _, e := range m.Events {
		raw = append(raw, e...)
	}
	var r etcdserverpb.WatchResponse
	if err := proto.Unmarshal(raw, &r); err != nil {
		w.fail("events cannot be read: %v", err)
	}
	return r.Events
}

// told checks a message of events, or a mark without them: they must be all of the revisions up to the message's that the
// watcher did not know of.
func (w *World) told(a *audience, x *watcher, m *watch.Message, events []*mvccpb.Event) {
	if !x.created && len(events) == 0 {
		return // a mark that was on its way to what the watcher was before
	}
	if !x.created || m.Revision == 0 {
		w.fail("member %d tells a watcher of events before it began", a.h.n)
	}
	want := w.expected(x, x.next, m.Revision)
	var got []string
	for i, e := range events {
		// What a compaction has removed may be left out.
		blind := x.spec.PrevKV && e.GetPrevKv() == nil && e.GetKv().GetModRevision() <= w.history.model.compacted
		got = append(got, eventText(e))
		if blind && i < len(want) {
			want[i] = withoutPrevious(want[i])
		}
	}
	if diff := missing(want, got); diff != "" {
		w.fail("member %d, a watcher of [%s, %q) from %d: up to revision %d: %s", a.h.n, x.spec.Key, x.spec.End, x.next, m.Revision, diff)
	}
	x.got += len(got)
	x.next = max(x.next, m.Revision+1)
}

// expected is what a watcher must be told of revisions in [from, to], as text.
func (w *World) expected(x *watcher, from, to int64) (out []string) {
	for _, e := range w.history.model.between(from, to) {
		deleted := e.now.value == nil
		if !covers(x.spec.Key, x.spec.End, e.key) || deleted && x.spec.NoDelete || !deleted && x.spec.NoPut {
			continue
		}
		text := "delete " + stored(e.key, nil, e.now.revision, 0, 0, 0)
		if !deleted {
			text = "put " + stored(e.key, e.now.value, e.now.revision, e.now.create, e.now.version, e.now.lease)
		}
		if p := e.previous; p != nil && x.spec.PrevKV {
			text += before + stored(e.key, p.value, p.revision, p.create, p.version, p.lease)
		}
		out = append(out, text)
	}
	return out
}

const before = ", before: "

func eventText(e *mvccpb.Event) string {
	text := "put "
	if e.GetType() == mvccpb.Event_DELETE {
		text = "delete "
	}
	text += keyText(e.GetKv())
	if e.GetPrevKv() != nil {
		text += before + keyText(e.GetPrevKv())
	}
	return text
}

func keyText(kv *mvccpb.KeyValue) string {
	return stored(kv.GetKey(), kv.GetValue(), kv.GetModRevision(), kv.GetCreateRevision(), kv.GetVersion(), kv.GetLease())
}

func withoutPrevious(s string) string {
	s, _, _ = strings.Cut(s, before)
	return s
}

// distributeMax is how long a hub's own goroutine may take to tell its streams what was published.
const distributeMax = 10 * time.Second

// CheckWatchers lets every client take all that is there for it: nothing of its member's may be missing. REQUIRES: Settle was
// called.
func (w *World) CheckWatchers() {
	for _, a := range w.audience {
		if a.stream == nil {
			w.open(a, w.pick(func(h *host) bool { return h.m != nil }))
		}
		current := a.h.m.Store().Revision()
		ctx, cancel := context.WithTimeout(context.Background(), distributeMax)
		err := a.h.m.Hub().WaitDistributed(ctx, current)
		cancel()
		if err != nil {
			w.fail("the hub of member %d does not come to revision %d: %v", a.h.n, current, err)
		}
		for w.listen(a, 10) {
		}
		for _, x := range a.watchers {
			if want := w.expected(x, x.next, current); !x.created || len(want) > 0 {
				w.fail("member %d, a watcher of [%s, %q) from %d: created %t, was not told: %v",
					a.h.n, x.spec.Key, x.spec.End, x.next, x.created, want)
			}
		}
	}
}

// events is how many all watchers got.
func (w *World) events() (n int) {
	for _, a := range w.audience {
		for _, x := range a.watchers {
			n += x.got
		}
	}
	return n
}
