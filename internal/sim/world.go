package sim

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"net/http"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

const tick = 100 * time.Millisecond

// World is a simulated cluster. It is used by one goroutine.
type World struct {
	t        testing.TB
	rng      *rand.Rand
	draws    *draws // what rng draws from
	clock    *clock.Manual
	hosts    []*host
	network  network
	clients  []*request
	renewals []renewal
	terms    terms
	audience []*audience

	fastRenewals bool // as by default
	mayLose      bool // a member may yet be removed
	voteless     int  // how many voters that never start may yet be added
	ghosts, urls int  // ids and URLs given to such members so far
	founders     int
	growth       growth
	faults       faults
	failures     failures
	etcdFiles    bool   // some snapshots go as etcd's database files
	keepLog      int    // so many hosts keep the log for members that are away
	catchUpBytes uint64 // of the log are kept for others by those hosts
	history      history
	trace        []string // the newest steps, for a failure's report
	journal      journal
}

// host is the machine a member runs on: its disk survives the member.
type host struct {
	w         *World
	n         int
	hostID    uint64          // the member's id, known after its first start
	joining   *member.Joining // nil for a founder
	dir       string          // of a world with files of etcd
	forced    bool            // it starts with --force-new-cluster
	fs        *vfs.MemFS
	m         *member.Member // nil while down
	paused    bool
	failed    *errorPointer // from Config.Fatal, for each start another one
	disk      *badDisk      // for each start another one
	ails      int           // how many steps it has yet, although its disk has failed; 0 while that is not known
	late      [3]bool       // the loops that have taken a turn since the consensus has ended
	turning   bool          // the raft loop is at work
	stall     int           // how many turns of its log the disk yet leaves out
	hangs     bool          // it is killed then
	promise   promise
	dismissed bool // it was removed from the cluster
	lingers   int  // how many steps it has yet, although it knows that it was removed
	power     powerCut
	fault     fault
	opened    uint64       // the generation of the state at its last start
	web       http.Handler // what it answers others over HTTP, in a world with faults

	checked uint64 // entries up to here were compared with the history
}

// traceLen is how many steps a failure shows.
const traceLen = 60

// New founds a cluster of n members, all down.
func New(t testing.TB, seed int64, n int) *World {
	draws := &draws{Source64: rand.NewSource(seed).(rand.Source64)}
	w := &World{
		founders: n, t: t, rng: rand.New(draws), draws: draws,
		clock: clock.NewManual(time.Unix(1_700_000_000, 0)),
	}
	t.Cleanup(fix(seed))
	w.network.init(w, n)
	w.history.init()
	w.terms.init()
	w.fastRenewals = seed%3 > 0
	switch seed % 8 {
	case 1, 5:
		w.mayLose = n == 3
	case 2:
		if n == 3 {
			w.voteless = 2
		}
	case 0, 3:
		w.growth.joins, w.growth.leaves = 2, 1
	case 7:
		w.faults.on = true
	}
	w.failures.on = seed%3 != 1 && !w.faults.on
	for i := range n {
		w.hosts = append(w.hosts, &host{w: w, n: i, fs: vfs.NewCrashableMem()})
	}
	return w
}

func (w *World) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
	if len(w.trace) > traceLen {
		w.trace = w.trace[len(w.trace)-traceLen:]
	}
}

// fail ends the test with the newest steps.
func (w *World) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\nthe last steps:\n  %s", fmt.Sprintf(format, args...), strings.Join(w.trace, "\n  "))
}

func (w *World) initialCluster() cluster.InitialCluster {
	parts := make([]string, w.founders)
	for i := range parts {
		parts[i] = fmt.Sprintf("m%d=http://10.0.0.%d:2380", i, i+1)
	}
	ic, err := cluster.ParseInitialCluster(strings.Join(parts, ","))
	if err != nil {
		w.t.Fatal(err)
	}
	return ic
}

// start opens the member on whatever its disk holds.
func (h *host) start() {
	h.w.t.Helper()
	if err := h.open(h.newDisk()); err != nil {
		h.w.fail("member %d does not start: %v", h.n, err)
	}
}

// open is start on a disk that may fail.
func (h *host) open(disk *badDisk) error {
	h.paused, h.checked, h.disk, h.ails, h.late, h.stall, h.hangs = false, 0, disk, 0, [3]bool{}, 0, false
	if _, err := h.power.disarm(); err != nil {
		h.w.t.Fatal(err)
	}
	cfg := h.config(errorfs.Wrap(h.fs, errorfs.Any(&h.power, disk)))
	if h.forced {
		if err := member.ForceNewCluster(cfg); err != nil {
			return fmt.Errorf("begin anew: %w", err)
		}
	}
	m, err := member.Open(cfg)
	if err != nil {
		return err
	}
	h.m = m
	h.checkPromise()
	h.hostID = m.ID()
	h.w.network.up(h.hostID, h)
	h.opened = m.Log().Mark().Generation
	if h.w.faults.on {
		h.serveOthers()
	}
	return nil
}

// token is the cluster's.
const token = "sim"

// dataDir is a directory of the simulated disk. Database files of etcd are made beside it, in a real one.
func (h *host) dataDir() string {
	if !h.w.etcdFiles {
		return "data"
	}
	if h.dir == "" {
		h.dir = h.w.t.TempDir()
		if err := os.MkdirAll(storage.Root(h.dir), 0o700); err != nil {
			h.w.t.Fatal(err)
		}
	}
	return h.dir
}

// config describes the member on a disk.
func (h *host) config(disk vfs.FS) member.Config {
	failed := &errorPointer{}
	h.failed = failed
	cfg := member.Config{
		Name: fmt.Sprintf("m%d", h.n), DataDir: h.dataDir(), FS: disk,
		InitialCluster: h.w.initialCluster(), Token: token, Joining: h.joining,
		ClientURLs:   []string{fmt.Sprintf("http://10.0.0.%d:2379", h.n+1)},
		TickInterval: tick, ElectionTicks: 10, HeartbeatTicks: 1, PreVote: true,
		RequestTimeout: 7 * time.Second, MaxRequestBytes: 1 << 20,
		SnapshotCatchUpEntries: 4, MaxLearners: learnersMax,
		FastLeaseKeepAlive: h.w.fastRenewals,
		Clock:              h.w.clock,
		Logger:             slog.New(slog.NewTextHandler(io.Discard, nil)),
		Send:               func(ms []*message) { h.w.network.send(h, ms) },
		SendSnapshot:       func(m *message, state io.ReadCloser) { h.w.network.sendSnapshot(h, m, state) },
		Fatal:              func(err error) { failed.CompareAndSwap(nil, &err) },
	}
	if h.w.faults.on {
		cfg.HTTP = questions{h}
	}
	if h.n < h.w.keepLog {
		cfg.CatchUpBytes = h.w.catchUpBytes
		cfg.KeepLogForAbsent, cfg.ActiveSince = true, func(id uint64) time.Time { return h.w.network.activeSince(h, id) }
	}
	return cfg
}

// stop ends the member as kill -9 does (lost = 0: what was written is still there)
// or as a power cut does: lost is the percentage of unsynced data that is gone, in
// both databases at one instant.
func (h *host) stop(lost int) {
	m := h.m
	h.m, h.dismissed = nil, h.dismissed || h.lingers > 0
	h.w.network.down(h)
	h.w.forget(h)
	disk := h.lostPower(h.crash(100 - lost))
	// The old member goes on only on the old disk, which nobody looks at any more.
	if err := m.Stop(); err != nil && h.failure() == nil && !h.ailing() {
		h.w.fail("member %d does not close: %v", h.n, err)
	}
	h.fs = disk
}

// lostPower is the disk as it was when the power failed; if it did not yet it does now, and now says what it leaves.
func (h *host) lostPower(now crash) *vfs.MemFS {
	disk, err := h.power.disarm()
	if disk == nil && err == nil {
		disk, err = h.power.now(h.fs, now)
	}
	if err != nil {
		h.w.t.Fatal(err)
	}
	return disk
}

// crash is one that leaves this percentage of what was not synced.
func (h *host) crash(percent int) crash {
	return crash{percent, h.w.rng.Uint64(), path.Join("/", h.dataDir())}
}
