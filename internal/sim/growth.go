package sim

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// growth is what may yet become of a world's members: some join with empty disks, as voters or as learners that are promoted, some
// leave.
type growth struct {
	joins, leaves int
	joined        int // how many have
}

// Members that join have ids from here on, in their order.
const joinerFirst = 1 << 32

// joiner is the id of the next member that joins. It is asked for until some member has it.
func (w *World) joiner() cluster.ID { return cluster.ID(joinerFirst + w.growth.joined) }

// growingChange lets a member join, promotes one, gives one other URLs, or lets one leave. There are never so few that those who
// are up once all is mended could not decide.
func (w *World) growingChange() (raftpb.ConfChangeType, *cluster.ConfChangeContext) {
	w.urls++
	url := []string{fmt.Sprintf("http://10.1.0.0:%d", w.urls)}
	kind := w.rng.Intn(4)
	if kind == 0 && w.growth.joins > 0 {
		for _, h := range w.hosts {
			h.forced = false // or a restart would remove whoever joins
		}
		x := &cluster.ConfChangeContext{Member: cluster.Member{ID: w.joiner(), PeerURLs: url, IsLearner: w.rng.Intn(3) > 0}}
		if x.IsLearner {
			return raftpb.ConfChangeAddLearnerNode, x
		}
		return raftpb.ConfChangeAddNode, x
	}
	h := w.pick(func(h *host) bool { _, there := w.history.members.now[cluster.ID(h.hostID)]; return there })
	if h == nil {
		return 0, nil
	}
	x := &cluster.ConfChangeContext{Member: cluster.Member{ID: cluster.ID(h.hostID)}}
	switch old := w.history.members.now[x.ID]; {
	case old.IsLearner:
		x.IsPromote = true
		return raftpb.ConfChangeAddNode, x
	case kind == 1 && w.growth.leaves > 0 && w.history.members.voters() > 2:
		w.growth.leaves--
		return raftpb.ConfChangeRemoveNode, x
	case kind == 2:
		x.PeerURLs = url
		return raftpb.ConfChangeUpdateNode, x
	}
	return 0, nil
}

// admit starts a member that was added, on an empty disk: it gets everything from the others, as entries or as a snapshot.
func (w *World) admit() {
	id := w.joiner()
	if _, added := w.history.members.now[id]; !added {
		return
	}
	founding, err := cluster.Found(w.initialCluster(), token)
	if err != nil {
		w.t.Fatal(err)
	}
	h := &host{
		w: w, n: len(w.hosts), hostID: uint64(id), fs: vfs.NewCrashableMem(),
		joining: &member.Joining{Cluster: founding.ID(), Member: id},
	}
	w.note("member %d joins", h.n)
	w.growth.joins--
	w.growth.joined++
	w.hosts = append(w.hosts, h)
	h.start()
}

// LoseMajority loses all members but one for good, at any instant. That one loses a part of what it had not synced, and begins a
// cluster of its own: what is in its log is the truth from then on. It is started so every time until another one is to join.
func (w *World) LoseMajority() {
	w.endAiling(true)
	w.network.heal()
	left := w.pick(func(h *host) bool {
		_, there := w.history.members.now[cluster.ID(h.hostID)]
		return there && !h.dismissed && h.m != nil && h.m.Members().Len() > 0
	})
	if left == nil {
		return // all are down: which of them know of any members is not known
	}
	for _, h := range w.hosts {
		if h.m != nil {
			h.stop([]int{0, 30, 100}[w.rng.Intn(3)])
		}
		h.dismissed = h != left
	}
	w.network.clear() // nobody is left whom a connection leads to
	w.audience = nil
	w.note("all members but %d are lost", left.n)
	left.forced = true
	w.growth = growth{joins: 1, joined: w.growth.joined + 1} // an id that was used may be in the log still
	left.start()
	w.history.rewind(w, w.shared(left))
}

// shared returns up to which entry a member's log is what was seen before.
func (w *World) shared(h *host) uint64 {
	log := h.m.Log()
	index := log.Mark().Index
	for index < min(log.LastIndex(), w.history.applied) {
		es, err := log.Entries(index+1, index+2, 1<<20)
		if err != nil {
			w.fail("member %d: read entry %d of its log: %v", h.n, index+1, err)
		}
		if checksum(es[0]) != w.history.entries[index+1] {
			break
		}
		index++
	}
	return index
}
