package sim

import (
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// TestNobodyLeadsTwiceInOneTerm: all others vote for a candidate whose log is slow, and it is killed before that has its own vote. Where it leads before, and has sent one
// of them an entry, it can lead again and write another one in that place.
func TestNobodyLeadsTwiceInOneTerm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	w.write(5)
	old, h := w.leader(), w.follower()
	third := w.pick(func(o *host) bool { return o != old && o != h })
	old.m.Node().TransferLeader(h.hostID)
	old.work()
	w.carry(old, h)
	for range 3 { // and its log is not written
		if h.turn(0); h.m.Node().IsLeader() {
			break
		}
		for _, o := range []*host{old, third} {
			w.carry(h, o)
			o.work()
			w.carry(o, h)
		}
	}
	// It is so large that it does not wait for the log.
	w.ask(h, &write{apply.CommandPut, &etcdserverpb.PutRequest{Key: key(0), Value: make([]byte, 600<<10)}})
	for range 3 {
		h.turn(0)
		w.carry(h, third)
		third.work()
		w.carry(third, h)
	}
	h.stop(0)
	h.start()
	w.network.isolate(third, true, true)
	for tries := 0; tries < 20 && !h.m.Node().IsLeader(); tries++ { // once may be lost
		h.m.Node().Campaign()
		w.runHosts(100)
	}
	w.write(5)
	w.Settle()
	w.CheckStates()
}

// work has a member do all that it can.
func (h *host) work() {
	for loop := 0; loop < 3; loop++ {
		if h.turn(loop) {
			loop = -1
		}
		h.w.check()
	}
}

// carry brings one member all that another one has sent it.
func (w *World) carry(from, to *host) {
	var left []packet
	for _, p := range w.network.queue {
		if p.from == from && p.to == to {
			to.m.Node().Step(p.m)
		} else {
			left = append(left, p)
		}
	}
	w.network.queue = left
}
