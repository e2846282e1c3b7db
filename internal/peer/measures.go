package peer

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ashlar-kv/ashlar/internal/measure"
)

const (
	// probeEvery is how often each remote is asked for a sign of life, to measure the way; probeTimeout is how long one may take.
	probeEvery   = 4 * time.Second
	probeTimeout = 4 * time.Second
)

// Measures are what is counted of one remote. They may be read at any time.
type Measures struct {
	// ID is the remote's.
	ID uint64
	// Sent and Received are bytes of messages and snapshots.
	Sent, Received measure.Counter
	// SendFailures counts messages that could not be sent, ReceiveFailures streams that broke or could not be opened.
	SendFailures, ReceiveFailures measure.Counter
	// Disconnects counts how often nothing of the remote was connected any more.
	Disconnects measure.Counter
	// RoundTrips are the times of probes.
	RoundTrips *measure.Histogram
	// SnapshotsSent and SnapshotsReceived are snapshots on their way to and from the remote.
	SnapshotsSent, SnapshotsReceived Snapshots

	up atomic.Bool
}

// Snapshots count those of one direction.
type Snapshots struct {
	// Succeeded and Failed are how many ended, Running is how many have not.
	Succeeded, Failed measure.Counter
	Running           atomic.Int64
	// Took are the times of those that succeeded.
	Took *measure.Histogram
}

// Up says whether anything of the remote is connected.
func (m *Measures) Up() bool { return m.up.Load() }

func newMeasures(id uint64) *Measures {
	snapshots := measure.Durations(100*time.Millisecond, 10)
	return &Measures{
		ID: id, RoundTrips: measure.NewHistogram(measure.Durations(100*time.Microsecond, 16)),
		SnapshotsSent:     Snapshots{Took: measure.NewHistogram(snapshots)},
		SnapshotsReceived: Snapshots{Took: measure.NewHistogram(snapshots)},
	}
}

// Measures returns those of all remotes, by their ids.
func (t *Transport) Measures() []*Measures {
	var out []*Measures
	for _, r := range *t.remotes.Load() {
		out = append(out, r.measures)
	}
	slices.SortFunc(out, func(a, b *Measures) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// run counts a snapshot around f.
func (s *Snapshots) run(now func() time.Time, f func() error) error {
	s.Running.Add(1)
	defer s.Running.Add(-1)
	begin := now()
	err := f()
	if err != nil {
		s.Failed.Inc()
	} else {
		s.Succeeded.Inc()
		s.Took.Took(now().Sub(begin))
	}
	return err
}

// lost counts a message that could not be sent, and tells raft.
func (r *remote) lost() {
	r.measures.SendFailures.Inc()
	r.t.raft.ReportUnreachable(r.id)
}

// probeAll measures the way to the remote until it is forgotten.
func (r *remote) probeAll() {
	for r.wait(probeEvery) {
		begin := r.t.cfg.Clock.Now()
		if r.probe() == nil {
			r.measures.RoundTrips.Took(r.t.cfg.Clock.Now().Sub(begin))
		}
	}
}

// probe makes one round trip. That a remote cannot be reached is told by read.
func (r *remote) probe() error {
	ctx, cancel := context.WithTimeout(r.ctx, probeTimeout)
	defer cancel()
	_, err := r.isOurs(ctx, r.urls.current())
	return err
}

// countingReader counts what is read.
type countingReader struct {
	io.Reader
	n *measure.Counter
}

func (c countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(uint64(n))
	return n, err
}

// received counts what came from a remote, if it is known.
func (t *Transport) received(req *http.Request) *Measures {
	if from, err := parseHex(req.Header.Get(headerFrom)); err == nil {
		if r := (*t.remotes.Load())[from]; r != nil {
			return r.measures
		}
	}
	return newMeasures(0) // counted for nobody
}
