package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// hub is all watches of a proxy.
type hub struct {
	upstream etcdserverpb.WatchClient
	space    namespace
	cache    *cache // forgets what watches see changed
	newest   *order // the highest revision that any member has told of
	measures *measures
	clock    clock.Clock
	log      *slog.Logger
	ctx      context.Context // ends with the proxy
	running  sync.WaitGroup  // goroutines of lines

	// mu guards everything below, and the fields of groups, feeds, channels, lines, sessions and watches. It is never held
	// while something is sent or received.
	mu       sync.Mutex
	groups   map[groupKey]*group
	channels map[identity]*channel
}

func newHub(ctx context.Context, upstream etcdserverpb.WatchClient, space namespace, c *cache, newest *order, m *measures, log *slog.Logger) *hub {
	return &hub{upstream: upstream, space: space, cache: c, newest: newest, clock: c.clock, measures: m, log: log, ctx: ctx,
		groups: map[groupKey]*group{}, channels: map[identity]*channel{}}
}

// groupKey says which watches get the same.
type groupKey struct {
	who              identity
	key, end, filter string
	prevKV           bool
}

// group is the watches that get the same events and know all but those to come.
type group struct {
	key     groupKey
	private map[*watch]struct{} // served by themselves
	feed    *feed               // nil while there is none
}

// feed is an upstream watcher that serves many.
//
// Invariants, once it is ready: every event up to revision at was told to all watches of the feed that want it, and no event
// above it was told. Each of the watches wants to be told of events from its next revision on, which is above at.
type feed struct {
	group   *group
	channel *channel
	id      int64
	asked   int64 // questions of its line before upstream was asked for it
	request *etcdserverpb.WatchCreateRequest
	open    bool // upstream was asked to begin with whatever is new, which is above at if nothing was written meanwhile
	ready   bool
	at      int64
	watches map[*watch]struct{}
}

// channel is the feeds of one identity, on one line.
type channel struct {
	hub   *hub
	who   identity
	line  *line
	feeds map[int64]*feed
}

func keyOf(who identity, r *etcdserverpb.WatchCreateRequest) groupKey {
	return groupKey{who: who, key: string(r.Key), end: string(r.RangeEnd), filter: fmt.Sprint(r.Filters), prevKV: r.PrevKv}
}

// settle puts a private watch into its group: into the feed, where there is one that has told what the watch has got, or else
// beside others that wait for one. A watch that begins after the newest revision that is known to exist stays by itself: a
// feed must not be ahead of what there is. REQUIRES: hub.mu is held, the watch is private and created.
func (h *hub) settle(w *watch) {
	if w.request.Fragment || w.ending || w.next > h.newest.seen()+1 { // parts of a revision are not to be told apart
		return
	}
	g := h.groups[w.key]
	if g == nil {
		g = &group{key: w.key, private: map[*watch]struct{}{}}
		h.groups[w.key] = g
	}
	w.group = g
	if g.feed != nil && g.feed.ready && w.next > g.feed.at {
		g.feed.take(w)
		return
	}
	g.private[w] = struct{}{}
	if g.feed == nil && len(g.private) > 1 {
		h.startFeed(g)
	}
}

// startFeed begins a feed where the first of the watches is. REQUIRES: hub.mu is held, the group has private watches.
func (h *hub) startFeed(g *group) {
	c := h.channels[g.key.who]
	if c == nil {
		c = &channel{hub: h, who: g.key.who, feeds: map[int64]*feed{}}
		c.line = h.openLine(c.who, c)
		h.channels[c.who] = c
	}
	var first *watch
	for w := range g.private {
		if first == nil || w.next > first.next {
			first = w
		}
	}
	r := h.space.watch(first.request)
	r.ProgressNotify = true
	g.feed = &feed{group: g, channel: c, request: r, open: true, at: first.next - 1, watches: map[*watch]struct{}{}}
	g.feed.begin(0)
}

// begin asks upstream for the feed's watcher, in place of one that it may have. REQUIRES: hub.mu is held.
func (f *feed) begin(start int64) {
	c := f.channel
	if c.feeds[f.id] == f {
		delete(c.feeds, f.id)
		c.line.drop(f.id)
	}
	r := proto.CloneOf(f.request)
	r.StartRevision = start
	f.id, f.asked = c.line.create(r, f), c.line.questions
	c.feeds[f.id] = f
}

// take makes a private watch one of the feed. REQUIRES: hub.mu is held, the feed is ready and w.next is above f.at.
func (f *feed) take(w *watch) {
	delete(f.group.private, w)
	f.watches[w] = struct{}{}
	w.feed = f
	w.session.voidAsks()
	w.session.leaveLine(w)
	f.channel.hub.measures.coalesced.Add(1)
}

// leave takes a watch out of its group, which ends with the last one. REQUIRES: hub.mu is held.
func (h *hub) leave(w *watch) {
	g := w.group
	if g == nil {
		return
	}
	w.group = nil
	delete(g.private, w)
	if f := w.feed; f != nil {
		w.feed = nil
		delete(f.watches, w)
		w.session.voidAsks()
		h.measures.coalesced.Add(-1)
	}
	if f := g.feed; f != nil && len(f.watches) == 0 && len(g.private) < 2 {
		f.end()
	}
	if len(g.private) == 0 && g.feed == nil {
		delete(h.groups, g.key)
	}
}

// end cancels a feed without watches, and the channel with its last feed. REQUIRES: hub.mu is held.
func (f *feed) end() {
	c := f.channel
	f.group.feed = nil
	delete(c.feeds, f.id)
	c.line.drop(f.id)
	c.closeIfIdle()
}

func (c *channel) closeIfIdle() {
	if len(c.feeds) == 0 && c.hub.channels[c.who] == c {
		delete(c.hub.channels, c.who)
		c.line.close()
	}
}

// receive implements user.
func (c *channel) receive(l *line, r *etcdserverpb.WatchResponse) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if l.closed {
		return
	}
	if r.Created {
		f, _ := l.created().(*feed)
		if f == nil || c.feeds[f.id] != f {
			return // it was cancelled meanwhile
		}
		if r.Canceled {
			c.lose(f)
			return
		}
		if now := r.GetHeader().GetRevision(); f.open && now != f.at {
			f.open = false
			f.begin(startAfter(f.at, now))
			return
		}
		f.ready = true
		for w := range f.group.private {
			if w.next > f.at {
				f.take(w)
			}
		}
		return
	}
	if r.WatchId < 0 { // everything up to the revision was told, whichever feed it is of that was there when this was asked
		to, late := l.answered()
		for _, f := range c.feeds {
			if to > f.asked {
				f.at = max(f.at, r.GetHeader().GetRevision())
			}
		}
		l.answer(r, to, late)
		return
	}
	if f := c.feeds[r.WatchId]; f != nil {
		f.receive(r)
	}
}

// receive tells the watches what upstream has told. REQUIRES: hub.mu is held.
func (f *feed) receive(r *etcdserverpb.WatchResponse) {
	if r.Canceled {
		f.channel.line.drop(f.id) // after a compaction upstream knows it still, and answers no questions for progress
		f.channel.lose(f)
		return
	}
	// Whoever falls behind leaves while the others are told.
	for w := range f.watches {
		w.tell(r)
	}
	if n := len(r.Events); n > 0 {
		f.at = max(f.at, r.Events[n-1].Kv.ModRevision)
		f.channel.hub.measures.events.Add(uint64(max(len(f.watches)-1, 0) * n))
	} else {
		f.at = max(f.at, r.GetHeader().GetRevision())
	}
}

// lose is for a feed that upstream has ended: each watch goes on by itself, and is told by upstream what was wrong.
// REQUIRES: hub.mu is held.
func (c *channel) lose(f *feed) {
	delete(c.feeds, f.id)
	f.group.feed = nil
	for w := range f.watches {
		w.session.goOn(w)
	}
	if g := f.group; len(g.private) == 0 && c.hub.groups[g.key] == g {
		delete(c.hub.groups, g.key)
	}
	c.closeIfIdle()
}

// insists implements user: a feed that begins reads history that its watches know.
func (c *channel) insists() bool { return true }

// ended implements user.
func (c *channel) ended(_ *line, err error) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.hub.log.Debug("a shared watch stream has ended; its watches go on by themselves", "error", err)
	if c.hub.channels[c.who] == c {
		delete(c.hub.channels, c.who)
	}
	for _, f := range c.feeds {
		c.lose(f)
	}
	c.line.abandon()
}
