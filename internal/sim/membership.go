package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/consensus"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// modelMembers is the membership as simply as it can be said. It knows the changes that clients ask for: ids and URLs are
// never used twice.
type modelMembers struct {
	now     map[cluster.ID]cluster.Member
	removed map[cluster.ID]bool
}

func newModelMembers() modelMembers {
	return modelMembers{map[cluster.ID]cluster.Member{}, map[cluster.ID]bool{}}
}

func (m *modelMembers) apply(w *World, data []byte) {
	var cc raftpb.ConfChange
	if err := proto.Unmarshal(data, &cc); err != nil {
		w.fail("a configuration change cannot be read: %v", err)
	}
	var x cluster.ConfChangeContext
	id := cluster.ID(cc.GetNodeId())
	old, there := m.now[id]
	if cc.GetType() != raftpb.ConfChangeRemoveNode {
		if err := json.Unmarshal(cc.GetContext(), &x); err != nil {
			w.fail("the context of a configuration change cannot be read: %v", err)
		}
	}
	switch {
	case cc.GetType() == raftpb.ConfChangeRemoveNode:
		if there && (old.IsLearner || m.voters() > 1) {
			delete(m.now, id)
			m.removed[id] = true
		}
	case cc.GetType() == raftpb.ConfChangeUpdateNode:
		if there {
			old.PeerURLs = x.PeerURLs
			m.now[id] = old
		}
	case x.IsPromote:
		if there && old.IsLearner {
			old.IsLearner = false
			m.now[id] = old
		}
	case !there && !m.removed[id]:
		if !x.IsLearner || len(m.now)-m.voters() < learnersMax {
			m.now[id] = x.Member
		}
	}
}

func (m *modelMembers) voters() (n int) {
	for _, x := range m.now {
		if !x.IsLearner {
			n++
		}
	}
	return n
}

// text is the membership for comparison, without names and client URLs.
func membersText(all iter.Seq[cluster.Member]) string {
	var out []string
	for x := range all {
		out = append(out, fmt.Sprintf("%s learner %t at %v", x.ID, x.IsLearner, x.PeerURLs))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// checkMembers compares a member's membership with the model, which it has come up with.
func (w *World) checkMembers(h *host) {
	got, want := membersText(slices.Values(h.m.Members().Members())), membersText(maps.Values(w.history.members.now))
	if got != want {
		w.fail("member %d knows the members %s; the model %s", h.n, got, want)
	}
	for id := range w.history.members.removed {
		if !h.m.Members().IsRemoved(id) {
			w.fail("member %d does not know that member %s was removed", h.n, id)
		}
	}
}

// learnersMax is as etcd's default.
const learnersMax = 1

// Members that never start are ghosts: their ids are small.
const ghostMax = 1_000

// ghost is one that is there, or 0.
func (w *World) ghost() cluster.ID {
	for id := range sorted(w.history.members.now) {
		if id < ghostMax {
			return id
		}
	}
	return 0
}

// sorted iterates over the keys of a map in their order: the world must not depend on that of maps.
func sorted[K interface{ ~int64 | ~uint64 }, V any](m map[K]V) iter.Seq[K] {
	return slices.Values(slices.Sorted(maps.Keys(m)))
}

// stepReconfigure proposes a change of the membership, one at a time.
func (w *World) stepReconfigure() {
	h := w.pick(running)
	if h == nil || !h.readable() || slices.ContainsFunc(w.clients, func(r *request) bool { return r.change }) {
		return
	}
	typ, x := w.randomChange()
	if x == nil {
		return
	}
	p, err := h.m.BeginChange(typ, x)
	if errors.Is(err, consensus.ErrTooManyRequests) {
		return
	}
	if err != nil {
		h.failedTo("take a change of the membership", err)
		return
	}
	w.note("member %d is asked for %s of %s", h.n, typ, x.ID)
	w.clients = append(w.clients, &request{h: h, pending: p, change: true})
}

// randomChange returns nil when nothing is to be changed. A cluster must stay able to decide once all its members are up: of
// those of three members, some get up to two voters that never start, others lose a member, others grow.
func (w *World) randomChange() (raftpb.ConfChangeType, *cluster.ConfChangeContext) {
	if w.growth != (growth{}) {
		return w.growingChange()
	}
	ghost := w.ghost()
	x := &cluster.ConfChangeContext{Member: cluster.Member{ID: ghost}}
	w.urls++
	url := []string{fmt.Sprintf("http://10.1.0.0:%d", w.urls)}
	kind := w.rng.Intn(8)
	switch {
	case kind == 0 && w.mayLose && len(w.hosts) == 3:
		w.mayLose = false
		x.ID = cluster.ID(w.hosts[w.rng.Intn(len(w.hosts))].hostID)
		return raftpb.ConfChangeRemoveNode, x
	case kind == 1 && len(w.hosts) > 0:
		if id := w.hosts[w.rng.Intn(len(w.hosts))].hostID; id != 0 {
			x.ID, x.PeerURLs = cluster.ID(id), url
			return raftpb.ConfChangeUpdateNode, x
		}
		return 0, nil
	case ghost == 0:
		w.ghosts++
		x.Member = cluster.Member{ID: cluster.ID(w.ghosts), PeerURLs: url, IsLearner: true}
		if w.voteless > 0 && kind == 2 {
			w.voteless--
			x.IsLearner = false
			return raftpb.ConfChangeAddNode, x
		}
		return raftpb.ConfChangeAddLearnerNode, x
	case kind == 2 && w.voteless > 0:
		w.voteless--
		x.IsPromote = true
		return raftpb.ConfChangeAddNode, x
	case kind < 5:
		x.PeerURLs = url
		return raftpb.ConfChangeUpdateNode, x
	default:
		return raftpb.ConfChangeRemoveNode, x
	}
}

// changed takes the answer to a change of the membership.
func (w *World) changed(r *request, res apply.Result) {
	for _, ok := range []error{
		cluster.ErrIDExists, cluster.ErrIDNotFound, cluster.ErrIDRemoved, cluster.ErrNotLearner, cluster.ErrTooManyLearners,
		cluster.ErrLastVoter, consensus.ErrDropped, consensus.ErrTooManyRequests, member.ErrTimeout,
	} {
		if res.Err == nil || errors.Is(res.Err, ok) {
			return
		}
	}
	r.h.failedTo("change the membership", res.Err)
}

// lingersMax is how many steps a member goes on for, at most, that knows that it was removed: some ten ticks, as real ones do. Clients
// ask it all the while.
const lingersMax = 400

// lingersOn says whether a member that knows that it was removed goes on for now.
func (h *host) lingersOn() bool {
	if h.lingers == 0 {
		h.lingers = 1 + h.w.rng.Intn(lingersMax)
		h.w.note("member %d knows that it was removed, and goes on for %d steps", h.n, h.lingers)
	}
	h.lingers--
	return h.lingers > 0
}

// dismiss stops members that know that they were removed, after a while, and in the end all at once, with those that were never told.
func (w *World) dismiss(all bool) {
	for _, h := range w.hosts {
		if h.m == nil {
			h.dismissed = h.dismissed || all && w.history.members.removed[cluster.ID(h.hostID)]
			continue
		}
		select {
		case <-h.m.Removed():
			if !w.history.members.removed[cluster.ID(h.hostID)] {
				w.fail("member %d believes that it was removed", h.n)
			}
			if !all && h.lingersOn() {
				continue
			}
		default:
			if !all || !w.history.members.removed[cluster.ID(h.hostID)] {
				continue
			}
		}
		w.note("member %d was removed", h.n)
		h.stop(0)
		h.dismissed = true
	}
}
