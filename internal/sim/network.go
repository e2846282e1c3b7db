package sim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing/iotest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

type message = raftpb.Message

// network carries messages in no order, loses some, and can be cut.
type network struct {
	w     *World
	byID  map[uint64]*host
	queue []packet
	cut   map[[2]int]bool // from, to: lost

	keeps bool     // some of what is under way when a member ends arrives nevertheless
	late  []packet // what is under way for long: the member that has sent it, or is to get it, has ended meanwhile, and may have started again

	breaks bool // the next state that a member asks another one for comes in part

	received  int // snapshots that arrived
	databases int // those of them that were files of etcd
	outlived  int // messages that arrived although their sender had ended
	outlasted int // those of them whose sender had started again
}

// packet is a message on its way; state is set for a snapshot.
type packet struct {
	from, to *host
	sender   *member.Member // which of those that the host has started, one after another
	m        *message
	state    []byte
	database bool // the state is a database file of etcd
}

// queueMax bounds the network: above it the oldest packets are lost. So does lateMax what is under way for long.
const (
	queueMax = 2_000
	lateMax  = 300
)

func (n *network) init(w *World, size int) {
	n.w, n.byID, n.cut = w, make(map[uint64]*host, size), map[[2]int]bool{}
}

func (n *network) up(id uint64, h *host) { n.byID[id] = h }

// activeSince is that of a transport: zero while what a member says does not arrive.
func (n *network) activeSince(at *host, id uint64) time.Time {
	other := n.byID[id]
	if other == nil || other.m == nil || n.cut[[2]int{other.n, at.n}] {
		return time.Time{}
	}
	return n.w.clock.Now()
}

// down loses what is on its way to and from a host, or it keeps it: what is sent is out of the member's hands, and what others have not sent yet they
// send the next one. A connection that carries a state to the host breaks. What one has sent whose disk has failed is kept: others count on that.
func (n *network) down(h *host) {
	from, to := n.keeps && n.w.rng.Intn(2) == 0, n.keeps && n.w.rng.Intn(2) == 0
	kept := n.queue[:0]
	for _, p := range n.queue {
		switch {
		case p.to != h && (p.from != h || h.ailing()):
			kept = append(kept, p)
		case p.to == h && (!to || p.state != nil), p.from == h && !from:
			n.lose(p)
		case n.w.rng.Intn(2) == 0:
			n.delay(p)
		default:
			kept = append(kept, p)
		}
	}
	n.queue = kept
}

// clear loses everything.
func (n *network) clear() {
	for _, p := range slices.Concat(n.queue, n.late) {
		n.lose(p)
	}
	n.queue, n.late = nil, nil
}

// delay has a packet arrive long after, if ever.
func (n *network) delay(p packet) {
	if len(n.late) >= lateMax {
		n.lose(n.late[0])
		n.late = n.late[1:]
	}
	n.late = append(n.late, p)
}

// catchUp puts a packet that is under way for long where it may arrive next. It may do so more than once.
func (n *network) catchUp() {
	i := n.w.rng.Intn(len(n.late))
	p := n.late[i]
	if p.state != nil || n.w.rng.Intn(4) > 0 {
		n.late = slices.Delete(n.late, i, i+1)
	} else {
		p.m = copyMessage(p.m)
	}
	n.queue = slices.Insert(n.queue, 0, p)
}

func (n *network) send(from *host, ms []*message) {
	for _, m := range ms {
		from.promised(m)
		if from.power.failed() {
			continue
		}
		n.put(packet{from: from, sender: from.m, to: n.byID[m.GetTo()], m: copyMessage(m)})
	}
}

func (n *network) sendSnapshot(from *host, m *message, state io.ReadCloser) {
	if n.w.etcdFiles && n.w.rng.Intn(2) == 0 {
		n.sendDatabase(from, m, state)
		return
	}
	if from.m.Trusted() != nil {
		n.w.fail("member %d sends its state, which it knows to be wrong", from.n)
	}
	if from.fault.generation != 0 {
		if err := state.Close(); err != nil {
			n.w.fail("member %d: close its own snapshot: %v", from.n, err)
		}
		from.m.Node().ReportSnapshot(m.GetTo(), false)
		return
	}
	b, err := io.ReadAll(state)
	if err = errors.Join(err, state.Close()); err != nil {
		from.failedTo("read its own snapshot", err)
		from.m.Node().ReportSnapshot(m.GetTo(), false)
		return
	}
	n.put(packet{from: from, sender: from.m, to: n.byID[m.GetTo()], m: copyMessage(m), state: b})
}

// sendDatabase sends a snapshot as a member of etcd would.
func (n *network) sendDatabase(from *host, m *message, state io.ReadCloser) {
	file, _, data, err := state.(peer.Database).Database(context.Background())
	var b []byte
	if err == nil {
		b, err = io.ReadAll(file)
		err = errors.Join(err, file.Close())
	}
	if err = errors.Join(err, state.Close()); err != nil {
		from.failedTo("read the database of its snapshot", err)
		from.m.Node().ReportSnapshot(m.GetTo(), false)
		return
	}
	m = copyMessage(m)
	m.Snapshot.Data = data
	n.put(packet{from: from, sender: from.m, to: n.byID[m.GetTo()], m: m, state: b, database: true})
}

func (n *network) put(p packet) {
	if p.to == nil {
		n.lose(p)
		return
	}
	if len(n.queue) >= queueMax {
		n.lose(n.queue[0])
		n.queue = n.queue[1:]
	}
	n.queue = append(n.queue, p)
}

// copyMessage makes sure that members share no memory.
func copyMessage(m *message) *message { return proto.Clone(m).(*message) }

// deliver takes a packet out of the queue, mostly an early one, and loses,
// repeats or delivers it.
func (n *network) deliver() {
	if len(n.late) > 0 && n.w.rng.Intn(16) == 0 {
		n.catchUp()
	}
	if len(n.queue) == 0 {
		return
	}
	i := 0
	if n.w.rng.Intn(4) == 0 {
		i = n.w.rng.Intn(len(n.queue))
	}
	n.hand(i, 50)
}

// deliverMessage is deliver for the first packet that is no state. More of them are repeated.
func (n *network) deliverMessage() {
	if i := slices.IndexFunc(n.queue, func(p packet) bool { return p.state == nil }); i >= 0 {
		n.hand(i, 4)
	}
}

// hand loses, repeats or delivers a packet. It repeats one in so many.
func (n *network) hand(i, repeats int) {
	p := n.queue[i]
	n.queue = append(n.queue[:i], n.queue[i+1:]...)
	switch lost := n.cut[[2]int{p.from.n, p.to.n}] || n.w.rng.Intn(50) == 0; {
	case lost:
		n.lose(p)
		return
	case n.w.rng.Intn(repeats) == 0 && p.state == nil:
		n.put(packet{from: p.from, sender: p.sender, to: p.to, m: copyMessage(p.m)})
	}
	if p.to.m == nil {
		if n.keeps && p.state == nil && !p.to.dismissed && n.w.rng.Intn(2) == 0 {
			n.delay(p)
			return
		}
		n.lose(p)
		return
	}
	if p.sender != p.from.m {
		if n.outlived++; p.from.m != nil {
			n.outlasted++
		}
	}
	if p.state == nil {
		p.to.m.Node().Step(p.m)
		return
	}
	n.w.note("member %d receives a snapshot at entry %d", p.to.n, p.m.GetSnapshot().GetMetadata().GetIndex())
	n.received++
	state := p.state
	if n.w.rng.Intn(4) == 0 {
		state = state[:n.w.rng.Intn(len(state))] // the connection broke
	}
	receive, body := p.to.m.Answers().ReceiveSnapshot, io.Reader(bytes.NewReader(state))
	if p.database {
		receive = p.to.m.Answers().ReceiveDatabase
		n.databases++
		if len(state) < len(p.state) { // a file tells nothing of its length, the request that carries it does
			body = io.MultiReader(body, iotest.ErrReader(io.ErrUnexpectedEOF))
		}
	}
	err := receive(p.m, body)
	if err == nil && len(state) < len(p.state) && p.m.GetSnapshot().GetMetadata().GetIndex() > p.to.m.Node().Applied() {
		n.w.fail("member %d took a snapshot that was cut short", p.to.n)
	}
	p.report(err == nil)
}

// lose drops a packet. The sender of a snapshot notices, as a connection that breaks
// is noticed.
func (n *network) lose(p packet) {
	if p.m.GetType() == raftpb.MsgSnap {
		p.report(false)
	}
}

// report tells the sender of a snapshot how that has ended, unless it has ended itself.
func (p packet) report(ok bool) {
	if p.from.m != nil && p.from.m == p.sender {
		p.from.m.Node().ReportSnapshot(p.m.GetTo(), ok)
	}
}

// newState returns the state that a packet carries, for one reception.
func newState(p packet) io.Reader { return bytes.NewReader(p.state) }

// heal mends every cut.
func (n *network) heal() { clear(n.cut) }

// isolate cuts a host off, one way or both.
func (n *network) isolate(h *host, in, out bool) {
	for _, o := range n.w.hosts {
		if o == h {
			continue
		}
		if in {
			n.cut[[2]int{o.n, h.n}] = true
		}
		if out {
			n.cut[[2]int{h.n, o.n}] = true
		}
	}
}

// apart says whether two hosts cannot both hear each other.
func (n *network) apart(a, b *host) bool { return n.cut[[2]int{a.n, b.n}] || n.cut[[2]int{b.n, a.n}] }

// at returns the host that a member's addresses lead to, nil when there is none.
func (n *network) at(urls []string) *host {
	for id, x := range n.w.history.members.now {
		if slices.Equal(x.PeerURLs, urls) {
			return n.byID[uint64(id)]
		}
	}
	return nil
}

// answered has a host answer another one's request. A state may come in part.
func (n *network) answered(to *host, req *http.Request) *http.Response {
	w := httptest.NewRecorder()
	to.web.ServeHTTP(w, req)
	resp := w.Result()
	if resp.ContentLength = -1; n.breaks && strings.HasSuffix(req.URL.Path, "/state") {
		b := w.Body.Bytes()
		part := io.MultiReader(bytes.NewReader(b[:len(b)*n.w.rng.Intn(100)/100]), iotest.ErrReader(io.ErrUnexpectedEOF))
		resp.Body, n.breaks = io.NopCloser(part), false
	}
	return resp
}
