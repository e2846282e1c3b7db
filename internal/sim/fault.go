package sim

import (
	"errors"
	"log/slog"
	"net/http"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/peer"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// faults are of a world in which now and then a disk changes a value by itself, at one member at a time: it must be found, answer
// nobody any more and be rebuilt. Until it is proven it may answer anything, and sends no snapshot, which would carry
// the fault on.
type faults struct {
	on                     bool
	made, proven, rebuilt  int
	installed, interrupted int // faults that a snapshot has mended; rebuilds that a crash has ended
	removed                int // members that nobody but an operator could tell to be wrong
}

// fault is what the world knows of a host's.
type fault struct {
	generation uint64 // of the state that was changed; 0 when there is none, or another one has taken its place
	doubted    bool   // the member may take itself for wrong: it has not agreed with the others since
}

// sound says whether the member answers, and rightly.
func (h *host) sound() bool { return h.fault.generation == 0 && (h.m == nil || h.m.Trusted() == nil) }

// stepFault ends a member and changes its state, if there is something to change and no other one is changed.
func (w *World) stepFault() {
	h := w.pick(running)
	if !w.faults.on || h == nil || w.history.model.revision < 2 {
		return
	}
	for _, o := range w.hosts {
		if !o.sound() || o.fault.doubted {
			return
		}
	}
	h.damage()
}

// damage makes the newest version of some key at a member another one, as nothing but a fault could: its value and its count.
// A member whose state has no key, as all that it knows is in its log, just starts again: if it stayed down, the steps that
// look for something to change would soon have ended the majority, and no key would ever be written.
func (h *host) damage() {
	w := h.w
	number := h.m.Log().Mark().Generation
	h.stop([]int{0, 50, 100}[w.rng.Intn(3)])
	db, err := storage.OpenState(storage.StateDir(h.dataDir(), number), storage.Options{
		FS: h.fs, Logger: slog.New(slog.DiscardHandler), Fatal: func(err error) { w.t.Error(err) },
	})
	if err != nil {
		w.fail("open the state of member %d to change it: %v", h.n, err)
	}
	key, value := w.lie(db)
	if key != nil {
		b := db.NewBatch()
		if err := errors.Join(b.Set(key, value, nil), db.Commit(b), db.Flush(), b.Close()); err != nil {
			w.fail("change the state of member %d: %v", h.n, err)
		}
		w.note("the disk of member %d lies: %q", h.n, value)
		w.faults.made++
		h.fault = fault{generation: number, doubted: true}
	}
	if err := db.Close(); err != nil {
		w.fail("close the state of member %d: %v", h.n, err)
	}
	if key == nil {
		h.start()
	}
}

// lie returns another record for the newest version of some key that is there, nothing when there is none.
func (w *World) lie(db *storage.DB) (key, value []byte) {
	lower, upper := storage.SpaceBounds(storage.SpaceData)
	it, err := db.NewIter(&storage.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		w.t.Fatal(err)
	}
	defer it.Close()
	var loader mvcc.Loader
	defer loader.Close()
	last, seen := "", 0
	for ok := it.First(); ok; ok = it.Next() {
		user, _, _, _ := storage.DecodeDataKey(it.Key())
		if string(user) == last {
			continue // the newest version comes first
		}
		last = string(user)
		if len(it.Value()) == 0 {
			continue
		}
		if seen++; w.rng.Intn(seen) > 0 {
			continue
		}
		whole, _, err := loader.Load(it)
		if err != nil {
			w.t.Fatal(err)
		}
		var kv mvccpb.KeyValue
		if err := proto.Unmarshal(whole.Raw(), &kv); err != nil {
			w.t.Fatal(err)
		}
		kv.Value = append(kv.Value, "?"...)
		kv.Version++
		key = append([]byte(nil), it.Key()...)
		if value, err = proto.Marshal(&kv); err != nil {
			w.t.Fatal(err)
		}
	}
	return key, value
}

// checkFault holds after every step: nobody is wrongly accused, and who is rebuilt is whole.
func (w *World) checkFault(h *host) {
	f := &h.fault
	if f.generation != 0 && f.generation != h.m.Log().Mark().Generation {
		w.note("another state has taken the place of the wrong one of member %d", h.n)
		if h.isRebuilt() {
			w.faults.rebuilt++
		} else {
			w.faults.installed++
		}
		f.generation = 0
	}
	switch wrong := h.m.Trusted() != nil; {
	case wrong && !f.doubted:
		w.fail("member %d takes itself for wrong, and is not", h.n)
	case !wrong && f.generation == 0:
		f.doubted = false
	}
}

// isRebuilt says whether the member was opened on the state that it has, and not brought there by a snapshot meanwhile.
func (h *host) isRebuilt() bool { return h.opened == h.m.Log().Mark().Generation }

// stepCompare lets a member compare its state with the others' or go on with its rebuild. The power may fail meanwhile.
func (w *World) stepCompare() {
	h := w.pick(func(h *host) bool { return running(h) && h.readable() })
	if !w.faults.on || h == nil {
		return
	}
	if h.m.Trusted() == nil || w.rng.Intn(8) > 0 {
		h.compare()
		return
	}
	w.note("the power of member %d fails while it is rebuilt", h.n)
	w.faults.interrupted++
	h.power.arm(h.fs, w.rng.Intn(60), h.powerCut())
	h.compare()
	h.stop(100)
}

// powerCut draws how much of what was not synced survives one.
func (h *host) powerCut() crash { return h.crash(50 * h.w.rng.Intn(3)) }

func (h *host) compare() {
	w := h.w
	w.network.breaks = w.rng.Intn(4) == 0
	before := h.m.Trusted() == nil
	must := before && h.isProvable()
	h.m.CompareStep()
	if now := h.m.Trusted() == nil; before && !now {
		w.note("member %d finds that it is wrong", h.n)
		w.faults.proven++
	} else if must && now {
		w.fail("member %d differs from all others, and does not find it", h.n)
	}
}

// isProvable says whether the member can learn by one comparison that it is wrong: all others are up and connected, have applied the
// same, and have another hash.
func (h *host) isProvable() bool {
	own := h.m.Chain().Newest()
	for _, o := range h.w.hosts {
		if o == h {
			continue
		}
		if !running(o) || h.w.network.apart(h, o) {
			return false
		}
		p := o.m.Chain().Newest()
		if p.Index != own.Index || p.Base != own.Base || p.Hash == own.Hash {
			return false
		}
		if x, ok := h.m.Members().Member(cluster.ID(o.hostID)); !ok || h.w.network.at(x.PeerURLs) != o {
			return false // it does not know yet where the other one is
		}
	}
	return true
}

// stepRenewal opens members anew whose rebuilt state waits, as their servers do.
func (w *World) stepRenewal() {
	if h := w.pick(func(h *host) bool { return running(h) && isClosed(h.m.Rebuilt()) }); h != nil {
		h.reopen()
	}
}

// reopen ends a member in order and opens it again, or the power fails meanwhile.
func (h *host) reopen() {
	m := h.m
	h.m = nil
	h.w.network.down(h)
	h.w.forget(h)
	fails := h.w.rng.Intn(2) == 0
	if fails {
		h.power.arm(h.fs, h.w.rng.Intn(20), h.powerCut())
	}
	if err := m.Stop(); err != nil {
		h.w.fail("member %d does not close: %v", h.n, err)
	}
	h.w.note("member %d ends to take the rebuilt state; the power fails meanwhile: %t", h.n, fails)
	if !fails {
		h.start()
		return
	}
	h.w.faults.interrupted++
	h.fs = h.lostPower(h.powerCut())
}

// stepOperator lowers the alarm that is raised when nobody knows who is right.
func (w *World) stepOperator() {
	if len(w.history.model.corrupt) == 0 || len(w.clients) >= requestsMax {
		return
	}
	if h := w.pick(running); h != nil {
		w.ask(h, &write{apply.CommandAlarm, &etcdserverpb.AlarmRequest{
			Action: etcdserverpb.AlarmRequest_DEACTIVATE, Alarm: etcdserverpb.AlarmType_CORRUPT,
		}})
	}
}

// mend is what Settle does for a world with faults: writes meet whatever is wrong, and members compare.
func (w *World) mend(round int) {
	if !w.faults.on {
		return
	}
	for _, h := range w.hosts {
		switch {
		case h.dismissed:
		case h.m == nil: // its power failed once more
			h.start()
		case isClosed(h.m.Rebuilt()):
			h.reopen()
		case h.readable():
			h.compare()
		}
	}
	if round%200 == 0 {
		w.stepOperator()
	}
	if round%200 == 100 && !w.mended() {
		w.touch()
	}
	if round%1_000 == 999 {
		w.removeWrong()
	}
}

// removeWrong is an operator who knows better: members may be unable to say who is wrong while another one needs a snapshot,
// which nobody sends then.
func (w *World) removeWrong() {
	h := w.pick(func(h *host) bool { return h.fault.generation != 0 && !h.dismissed })
	if h == nil || w.removing(h) {
		return
	}
	x := &cluster.ConfChangeContext{Member: cluster.Member{ID: cluster.ID(h.hostID)}}
	p, err := h.m.BeginChange(raftpb.ConfChangeRemoveNode, x)
	if err != nil {
		w.fail("member %d refuses to be removed: %v", h.n, err)
	}
	w.note("the operator removes member %d, which is wrong", h.n)
	w.faults.removed++
	w.clients = append(w.clients, &request{h: h, pending: p, change: true})
}

// removing says whether the cluster has decided already to remove a host.
func (w *World) removing(h *host) bool { return w.history.members.removed[cluster.ID(h.hostID)] }

// touch writes all keys that clients use.
func (w *World) touch() {
	h := w.pick(running)
	if h == nil {
		return
	}
	all := [][]byte{[]byte("pair/a"), []byte("pair/b")}
	for i := range keys {
		all = append(all, key(i))
	}
	for _, k := range all {
		w.ask(h, &write{apply.CommandPut, &etcdserverpb.PutRequest{Key: k, Value: []byte("touched")}})
	}
}

// mended says whether all members are right, and say so, and nobody is alarmed.
func (w *World) mended() bool {
	for _, h := range w.hosts {
		if !h.dismissed && !h.sound() {
			return false
		}
	}
	return len(w.history.model.corrupt) == 0
}

// serveOthers makes what other members ask this one over HTTP.
func (h *host) serveOthers() {
	t := peer.New(peer.Config{Clock: h.w.clock, Logger: slog.New(slog.DiscardHandler)})
	t.Start(peer.Identity{Member: h.m.ID(), Cluster: h.m.ClusterID()}, nil, h.m.Answers())
	h.web = t.Handler()
}

// questions is how a host asks others over HTTP. Requests of a comparison come from many goroutines, while the world waits.
type questions struct{ from *host }

// errUnreachable is returned for a member that is down or cut off.
var errUnreachable = errors.New("sim: unreachable")

// RoundTrip implements http.RoundTripper.
func (q questions) RoundTrip(req *http.Request) (*http.Response, error) {
	n := &q.from.w.network
	to := n.at([]string{req.URL.Scheme + "://" + req.URL.Host})
	if to == nil || to.m == nil || to.paused || n.apart(q.from, to) {
		return nil, errUnreachable
	}
	return n.answered(to, req), nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
